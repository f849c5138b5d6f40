"""What a sandbox session costs, against a Jupyter kernel in the same run: python -m bench.sandbox"""

import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.session import Session

MANY = 20
JUPYTER_LIBRARIES = "import numpy, sympy, pandas, matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot"


def main() -> None:
    """Print one JSON line a figure; the last one compares the start of a session with that of a kernel."""
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(Path(folder))
        began = time.perf_counter()
        sandbox.start()
        say(step="fork server, once", seconds=round(time.perf_counter() - began, 2))
        starts = measure_sessions(sandbox)
        sandbox.close()
    kernel = jupyter_start()
    say(bench="sandbox", ratio=round(kernel / starts, 1), of="start with libraries, Jupyter kernel / session")


def measure_sessions(sandbox: Sandbox) -> float:
    """Start, cells, memory and idleness of MANY sessions at once; the median start in seconds."""
    sessions, starts = [], []
    for _ in range(MANY):
        began = time.perf_counter()
        sessions.append(sandbox.open())
        starts.append(time.perf_counter() - began)
    say(step="session start", median_ms=ms(statistics.median(starts)), worst_ms=ms(max(starts)), sessions=MANY)
    cells = [session.run("").seconds for session in sessions for _ in range(20)]
    say(step="empty cell", median_ms=ms(statistics.median(cells)), worst_ms=ms(max(cells)))
    numbers = [int(session.run("import os; os.getpid()").value) for session in sessions]
    say(step="memory beyond what is shared, idle", mib=private_mib(numbers))
    plots = at_once(sessions, "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.title('标题')")
    say(step="a plot in each at once", seconds=round(plots, 2), sessions=MANY)
    say(step="memory beyond what is shared, after a plot", mib=private_mib(numbers))
    before = [ticks(number) for number in numbers]
    time.sleep(2)
    say(step="processor used by idle sessions in 2 s", ticks=sum(map(ticks, numbers)) - sum(before))
    for session in sessions:
        session.close()
    return statistics.median(starts)


def at_once(sessions: list[Session], code: str) -> float:
    began = time.perf_counter()
    threads = [threading.Thread(target=session.run, args=(code,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def jupyter_start() -> float:
    """Seconds until a Jupyter kernel has the same libraries; its cell time and memory are printed."""
    from jupyter_client.manager import start_new_kernel

    began = time.perf_counter()
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        run(client, JUPYTER_LIBRARIES)
        seconds = time.perf_counter() - began
        cells = []
        for _ in range(20):
            cell = time.perf_counter()
            run(client, "")
            cells.append(time.perf_counter() - cell)
        number = manager.provisioner.pid
        say(
            step="Jupyter kernel", start_s=round(seconds, 2), cell_ms=ms(statistics.median(cells)), mib=resident(number)
        )
        return seconds
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: Any, code: str) -> None:
    client.execute_interactive(code, timeout=60)


def private_mib(numbers: list[int]) -> dict[str, float]:
    """Median and worst of what only these processes hold."""
    sizes = []
    for number in numbers:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        sizes.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)
    return {"median": round(statistics.median(sizes), 1), "worst": round(max(sizes), 1)}


def resident(number: int) -> float:
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)


def ticks(number: int) -> int:
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def say(**figures: Any) -> None:
    print(json.dumps(figures, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()

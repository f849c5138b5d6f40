"""Who takes all cores gives its team of threads back; others compute alone. In a process of its own, with its teams."""

import os
import subprocess
import sys

from app.paths import ROOT

PREPARE = """
import threading, psutil, torch
from app.openmp_threads import all_cores, compute_alone, cores, set_threads
def running(): return psutil.Process().num_threads()
def compute(): MATRIX @ MATRIX  # in float32: by MKL, which has a number of its own
"""


def told(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", PREPARE + script],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_threads_compute_alone_and_with_all_cores_only_while_they_ask_for_them() -> None:
    script = """
compute_alone()
MATRIX = torch.ones(1500, 1500)
compute()
before = running()
seen = []
def work():
    torch.ones(100_000).exp()  # torch sets a thread's number when it first works on many
    compute(); seen.append(running() - before - 1)
    with all_cores():
        compute(); seen.append(running() - before - 1)
    seen.append(running() - before - 1)
    compute(); seen.append(running() - before - 1)
thread = threading.Thread(target=work)
thread.start(); thread.join()
print(seen == [0, cores() - 1, 0, 0], torch.get_num_threads())
"""
    assert told(script) == "True 1"

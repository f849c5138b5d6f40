"""`make check-gpu`: the tests that only a GPU runs, then our engine beside vLLM on it, in a table to be sent back.

vLLM is measured where it is installed in the environment named by `--vllm`; without one its column stays out.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import torch

from bench import peers
from bench.measure import machine

USERS = (1, 8, 32, 128)
TESTS = (sys.executable, "-m", "pytest", "-m", "gpu", "tests/models/test_cuda.py")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", type=Path, default=Path(".vllm"))
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No NVIDIA GPU is here, or the installed build of torch cannot use it.")
    tests = subprocess.run(TESTS, stdout=subprocess.PIPE, text=True)
    print(tests.stdout)
    found = peers.measured("cuda", USERS, options.tokens, 3, options.vllm)
    print(table(found, outcome(tests.stdout)))
    raise SystemExit(tests.returncode)


def outcome(told: str) -> str:
    """pytest's last word: «7 passed in 31.20s»."""
    return next((row for row in reversed(told.splitlines()) if re.search(r"passed|failed|error", row)), "no test ran")


def table(found: dict[int, dict[str, float]], tests: str) -> str:
    """Tokens per second of each engine by how many users ask at once, in Markdown."""
    sides = list(dict.fromkeys(side for best in found.values() for side in best))
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    ratio = [f"{peers.OURS} over {peers.VLLM}"] if peers.VLLM in sides else []
    rows = [["users", *(f"{side}, tokens/s" for side in sides), *ratio]]
    rows.append(["---"] * len(rows[0]))
    for users, best in found.items():
        over = [f"{best[peers.OURS] / best[peers.VLLM]:.2f}"] if ratio else []
        rows.append([str(users), *(f"{best[side]:.0f}" for side in sides), *over])
    return "\n".join([f"{about}; tests: {tests}", "", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    main()

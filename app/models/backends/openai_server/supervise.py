"""Supervisor process of an engine's own server: ends it with its parent. Started by `launched_server.py`, not imported.

Usage: supervise.py COMMAND ARGUMENTS...; exits as the command does, and ends it once stdin is closed.
"""

import os
import select
import signal
import subprocess
import sys

CHECK_SECONDS = 0.5
GRACE_SECONDS = 5.0


def main() -> int:
    parent = os.getppid()
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while child.poll() is None and os.getppid() == parent:
            if select.select([sys.stdin], [], [], CHECK_SECONDS)[0]:
                break
    finally:
        end_group(child)
    return child.returncode


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """The server and the workers it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


if __name__ == "__main__":
    sys.exit(main())

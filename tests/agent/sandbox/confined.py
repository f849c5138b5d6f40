"""Runs a sandbox as somebody: `python confined.py IDENTITY FOLDER`, orders and answers as JSON lines.

IDENTITY is root, user (uid 1000), container (uid 1000 under the system call rules of a usual container) or
container-without-landlock (the same, where the kernel says that it has no Landlock).
"""

import base64
import ctypes
import errno
import json
import os
import struct
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]  # nothing of the project can be imported before it is on the path
LIBC = ctypes.CDLL(None, use_errno=True)
PLAIN_USER = 1000
# What container engines refuse without further rights, by number on x86_64.
REFUSED_IN_CONTAINERS = (101, 165, 166, 155, 161, 172, 173, 175, 176, 246, 248, 249, 250, 272, 298, 303, 304, 308,
                         310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 442)  # fmt: skip
LANDLOCK = (444, 445, 446)


def open_the_way(identity: str) -> None:
    """Let a plain user reach the interpreter, where that lies in root's home: in a view of the files of our own."""
    home = Path("/root")
    if identity == "root" or os.getuid() != 0 or home not in Path(sys.base_prefix).resolve().parents:
        return
    bind, private, new_namespace = 4096, 1 << 18, 0x20000
    interpreter = str(Path(sys.base_prefix).resolve()).encode()
    with tempfile.TemporaryDirectory() as aside:
        call(LIBC.unshare(new_namespace))
        call(LIBC.mount(b"none", b"/", None, (1 << 14) | private, None))
        call(LIBC.mount(interpreter, aside.encode(), None, bind, None))
        call(LIBC.mount(b"tmpfs", b"/root", b"tmpfs", 0, b"mode=755"))
        Path(sys.base_prefix).resolve().mkdir(parents=True)
        call(LIBC.mount(aside.encode(), interpreter, None, bind, None))
        call(LIBC.umount2(aside.encode(), 2))


def call(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become(identity: str) -> None:
    if identity == "root":
        return
    open_the_way(identity)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(PLAIN_USER, PLAIN_USER, PLAIN_USER)
        os.setresuid(PLAIN_USER, PLAIN_USER, PLAIN_USER)
    if identity.startswith("container"):
        missing = LANDLOCK if identity.endswith("without-landlock") else ()
        refuse(REFUSED_IN_CONTAINERS, missing)


def refuse(refused: tuple[int, ...], missing: tuple[int, ...]) -> None:
    """Install the container's own filter: EPERM for `refused`, ENOSYS for `missing`, the rest goes on."""
    steps = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for numbers, answer in ((refused, errno.EPERM), (missing, errno.ENOSYS)):
        for number in numbers:
            steps.append(struct.pack("HBBI", 0x15, 0, 1, number))
            steps.append(struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | answer))
    steps.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(b"".join(steps))
    header = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program))
    call(LIBC.prctl(38, 1, 0, 0, 0))
    call(LIBC.syscall(317, 1, 0, header))


def tell(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def run(session: Any, code: str) -> dict[str, object]:
    result = session.run(code)
    return vars(result) | {"images": [base64.b64encode(image).decode() for image in result.images]}


def main(identity: str, folder: str) -> None:
    os.umask(0o022)
    become(identity)
    sys.path.insert(0, str(ROOT))
    os.environ["SECRET"] = "SECRET"
    from app.agent.sandbox.host import Sandbox
    from app.agent.sandbox.limits import Limits
    from app.agent.sandbox.probe import probe

    limits = Limits(memory_mib=512, cell_seconds=1.0, file_mib=8, folder_mib=24, folder_files=300, printed_mib=8)
    found = probe()
    sandbox = Sandbox(Path(folder), limits, with_files=found.mode == "files", bare=True)
    sessions = {}
    tell({"mode": found.mode, "pid": os.getpid(), "lines": list(found.lines())})
    for line in sys.stdin:
        order = json.loads(line)
        name = order.get("session")
        if order["do"] == "open":
            sessions[name] = sandbox.open()
            answer = {"folder": str(sessions[name].folder)}
        elif order["do"] == "close":
            sessions.pop(name).close()
            answer = {}
        else:
            with ThreadPoolExecutor(len(order["codes"])) as beside:
                results = beside.map(run, (sessions[key] for key in order["codes"]), order["codes"].values())
            answer = {"results": list(results)}
        tell(answer)
    sandbox.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

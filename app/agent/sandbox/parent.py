"""Fork server: import the libraries once, then fork one locked child per session.

A request of the server's carries a control socket, an output pipe and the child's confinement; the answer
carries a descriptor that stands for the child.
"""

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from typing import Any

from app.agent.sandbox import channel, libraries, lockdown, warmup, worker
from app.agent.sandbox.limits import Limits
from app.lockdown import kernel, process

REQUEST_BYTES = 1 << 16


def main(descriptor: int, extent: warmup.Extent) -> None:
    """Serve until the server hangs up."""
    kernel.hide_from_debuggers()
    server = socket.socket(fileno=descriptor)
    sys.path[:] = [place for place in sys.path if place != sys.path[0]]
    warmup.warm_up(extent)
    readable = warmup.readable_places()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    gc.collect()
    gc.freeze()  # collecting would copy the shared pages into each child
    server.send(b"ready")
    while True:
        request, descriptors, _, _ = socket.recv_fds(server, REQUEST_BYTES, 2)
        if not request:
            os._exit(0)
        _open_session(server, json.loads(request), descriptors, readable, extent)


def _open_session(
    server: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    readable: tuple[str, ...],
    extent: warmup.Extent,
) -> None:
    child = os.fork()
    if child == 0:
        _become_session(request, descriptors, readable, extent)
    try:
        handle = os.pidfd_open(child)
        socket.send_fds(server, [b"child"], [handle])
        os.close(handle)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _become_session(
    request: dict[str, Any], descriptors: list[int], readable: tuple[str, ...], extent: warmup.Extent
) -> None:
    """In the child: keep three descriptors, lock, and run cells. Never returns."""
    try:
        os.setsid()
        (control, output), nothing = descriptors, os.open("/dev/null", os.O_RDONLY)
        process.keep_only(nothing, output, output, control)  # as worker.CONTROL says
        folder, limits = request["folder"], Limits(**request["limits"])
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # else all sessions would draw the same numbers
        lockdown.lock(lockdown.Confinement(folder, readable, request["with_files"], request["user"], limits))
        if extent == "complete":
            libraries.allow_only(libraries.NothingMore)
        channel.send(worker.CONTROL, {"cell": 0, "value": "ready", "error": "", "images": []})
        worker.serve(limits)
    except BaseException:
        failure = traceback.format_exc()[-2000:]
        channel.send(worker.CONTROL, {"cell": 0, "value": "", "error": failure, "images": []})
    finally:
        os._exit(1)

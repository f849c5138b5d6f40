"""Handle of one sandbox child: control socket, output pipe, pidfd."""

import contextlib
import os
import select
import signal
import socket
from dataclasses import dataclass, field

from app.agent.sandbox.channel import Inbox, Reply, frame
from app.agent.sandbox.limits import Limits

_PIECE = 1 << 16
_SEND_SECONDS = 2.0
_BURIAL_MILLISECONDS = 2000


class ChildEndedError(Exception):
    """The child ended: a crash, a forbidden call, or the kernel's out-of-memory killer."""


@dataclass
class Child:
    control: socket.socket
    output: int
    process: int
    limits: Limits
    printed: int = 0
    _text: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._inbox = Inbox(self.limits.reply_mib << 20, self.limits.images)
        self._poll = select.poll()
        self._watched = {self.control.fileno(), self.output, self.process}
        for descriptor in self._watched:
            self._poll.register(descriptor, select.POLLIN)
        os.set_blocking(self.output, False)

    def ask(self, cell: int, code: str) -> None:
        """Send one cell; the child is woken for it."""
        self.printed = 0
        self._text.clear()
        self.signal(signal.SIGCONT)
        self.control.settimeout(_SEND_SECONDS)
        try:
            self.control.sendall(frame({"cell": cell, "code": code}))
        except OSError as error:
            raise ChildEndedError from error

    def wait(self, cell: int, seconds: float) -> Reply | None:
        """Collect output and the reply, for at most `seconds`."""
        ready = {descriptor for descriptor, _ in self._poll.poll(seconds * 1000)}
        self._collect_output()
        if self.control.fileno() in ready:
            self.control.settimeout(0)
            try:
                piece = self.control.recv(_PIECE)
            except OSError as error:
                raise ChildEndedError from error
            if not piece:
                raise ChildEndedError
            body = self._inbox.feed(piece)
            while body is not None:
                reply = self._inbox.reply(body, cell)
                if reply is not None:
                    self._collect_output()
                    return reply
                body = self._inbox.feed(b"")
        elif self.process in ready:
            raise ChildEndedError
        return None

    def text(self) -> str:
        """What the cell printed, cut where it was too long."""
        most = self.limits.output_characters
        text = self._text.decode("utf-8", "replace")
        if self.printed <= len(self._text) and len(text) <= most:
            return text
        kept = text[:most]
        return f"{kept}\n... ({self.printed - len(kept.encode())} more bytes were printed)"

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def end(self) -> None:
        """Kill the process, wait until it is gone, and close what belongs to it."""
        self.signal(signal.SIGKILL)
        gone = select.poll()
        gone.register(self.process, select.POLLIN)
        gone.poll(_BURIAL_MILLISECONDS)
        self.control.close()
        os.close(self.output)
        os.close(self.process)

    def _collect_output(self) -> None:
        """Keep the beginning of what is printed, count the rest, and stop listening to a flood."""
        keep = self.limits.output_characters * 4
        for _ in range(64):
            try:
                piece = os.read(self.output, _PIECE)
            except BlockingIOError:
                return
            if not piece:
                self._forget(self.output)
                return
            self.printed += len(piece)
            self._text += piece[: max(0, keep - len(self._text))]

    def _forget(self, descriptor: int) -> None:
        if descriptor in self._watched:
            self._watched.discard(descriptor)
            self._poll.unregister(descriptor)

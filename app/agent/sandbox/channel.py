"""Wire protocol between server and sandbox child: length-prefixed JSON, validated as hostile input.

What a child sends is a stranger's: the server checks size, shape and every type before it uses a reply.
"""

import base64
import binascii
import json
import os
from dataclasses import dataclass, field

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 40_000_000


class ReplyError(Exception):
    """A child sent something that is no reply; its session ends."""


@dataclass(frozen=True)
class Reply:
    """What one cell came to. `value` is the repr of the last expression."""

    value: str = ""
    error: str = ""
    interrupted: bool = False
    images: tuple[bytes, ...] = ()


@dataclass
class Inbox:
    """Gathers one reply from pieces, at most `most` bytes long."""

    most: int
    images: int
    _bytes: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> bytes | None:
        """The body once it is complete."""
        self._bytes += piece
        if len(self._bytes) < 4:
            return None
        length = int.from_bytes(self._bytes[:4], "big")
        if length > self.most:
            raise ReplyError(f"a reply of {length} bytes")
        if len(self._bytes) < 4 + length:
            return None
        body = bytes(self._bytes[4 : 4 + length])
        del self._bytes[: 4 + length]
        return body

    def reply(self, body: bytes, cell: int) -> Reply | None:
        """The checked reply, or None when it belongs to another cell than `cell`."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ReplyError("a reply that is not JSON") from error
        if not isinstance(message, dict) or not isinstance(message.get("cell"), int):
            raise ReplyError("a reply of another shape")
        if message["cell"] != cell:
            return None
        value, failure, images = message.get("value"), message.get("error"), message.get("images")
        if not isinstance(value, str) or not isinstance(failure, str) or not isinstance(images, list):
            raise ReplyError("a reply of another shape")
        return Reply(
            _clean(value),
            _clean(failure),
            message.get("interrupted") is True,
            tuple(_image(item) for item in images[: self.images]),
        )


def frame(message: dict[str, object]) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def send(descriptor: int, message: dict[str, object]) -> None:
    """Write one message, blocking until it is gone."""
    rest = memoryview(frame(message))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int) -> dict[str, str | int]:
    """Read one message of the server's. Raises EOFError when the server hung up."""
    length = int.from_bytes(_exactly(descriptor, 4), "big")
    message: dict[str, str | int] = json.loads(_exactly(descriptor, length))
    return message


def _exactly(descriptor: int, count: int) -> bytes:
    gathered = bytearray()
    while len(gathered) < count:
        piece = os.read(descriptor, count - len(gathered))
        if not piece:
            raise EOFError
        gathered += piece
    return bytes(gathered)


def _clean(text: str) -> str:
    """Lone surrogates cannot be written to a page or a log."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _image(item: object) -> bytes:
    if not isinstance(item, str):
        raise ReplyError("an image that is not text")
    try:
        image = base64.b64decode(item, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ReplyError("an image that is not base64") from error
    if not image.startswith(_PNG):
        raise ReplyError("an image that is not PNG")
    width, height = int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
    if width * height > _MOST_PIXELS:
        raise ReplyError(f"an image of {width} x {height}")
    return image

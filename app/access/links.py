"""Links with random keys, kept in memory: an address tells nothing of whom it was made for, and ends by itself."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from secrets import token_urlsafe
from threading import Lock
from typing import Generic, TypeVar

SECONDS = 12 * 3600
MOST = 20_000  # about ten megabytes
Thing = TypeVar("Thing", bound=Hashable)


class Links(Generic[Thing]):
    """`form` is the address with `{key}` in it. Safe from several threads.

    When there are more than `most`, the oldest are forgotten.
    """

    def __init__(self, form: str, most: int = MOST) -> None:
        self._form, self._most = form, most
        self._keys: OrderedDict[Thing, str] = OrderedDict()
        self._things: dict[str, tuple[Thing, float]] = {}
        self._lock = Lock()

    def make(self, thing: Thing, now: float | None = None) -> str:
        """The address that leads to it; the same as before while that is known."""
        expires = (time.time() if now is None else now) + SECONDS
        with self._lock:
            key = self._keys.setdefault(thing, token_urlsafe(24))
            self._keys.move_to_end(thing)
            self._things[key] = thing, expires
            if len(self._keys) > self._most:
                _, oldest = self._keys.popitem(last=False)
                del self._things[oldest]
        return self._form.format(key=key)

    def read(self, key: str) -> Thing | None:
        """What was linked, or None if the key was not made here, is too old or forgotten."""
        thing, expires = self._things.get(key, (None, 0.0))
        return thing if time.time() < expires else None

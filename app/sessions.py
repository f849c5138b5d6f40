"""How many pages of one visitor may hold something on the server at a time: an interpreter, files, pictures."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

from app.addresses import SHARE, Addresses, AddressSpent
from app.errors import StudioError


class TooManyPages(StudioError):
    zh = "你已有 {limit} 个页面在这台服务器上存有文件、图片或解释器。请先关闭其中一个，一分钟内就会释放。"
    en = "{limit} of your pages hold files, pictures or an interpreter here. Close one; it is free within a minute."


class Sessions:
    """Thread-safe. `most` 0 is no limit."""

    def __init__(self, most: int = 0, addresses: Addresses | None = None) -> None:
        self.most = most
        self.addresses = addresses or Addresses()
        self._visitor_of: dict[str, str] = {}
        self._lock = threading.Lock()

    def enter(self, visitor: str, session: str) -> None:
        """This page is about to hold something; once is enough, more does no harm.

        Raises TooManyPages or AddressSpent.
        """
        if not self.most:
            return
        with self._lock:
            others = [other for held, other in self._visitor_of.items() if held != session]
            if others.count(visitor) >= self.most:
                raise TooManyPages(limit=self.most)
            network = self.addresses.of(visitor)
            if network and sum(self.addresses.of(other) == network for other in others) >= SHARE * self.most:
                raise AddressSpent
            self._visitor_of[session] = visitor

    def leave(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            self._visitor_of.pop(session, None)

    @contextmanager
    def held(self, visitor: str) -> Iterator[str]:
        """A session of its own for one call of a program, counted like a page. Raises TooManyPages."""
        session = token_hex(16)
        self.enter(visitor, session)
        try:
            yield session
        finally:
            self.leave(session)

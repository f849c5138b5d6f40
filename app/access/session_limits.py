"""Limit on a visitor's sessions: pages that hold an interpreter, files or pictures on the server at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex

from app.access.client_address import SHARE, AddressSpent, ClientAddresses
from app.access.lifetimes import SILENT_PAGE_S
from app.errors import StudioError


class TooManyPages(StudioError):
    zh = "你已有 {limit} 个页面在这台服务器上存有文件、图片或解释器。请先关闭其中一个，一分钟内就会释放。"
    en = "{limit} of your pages hold files, pictures or an interpreter here. Close one; it is free within a minute."


class SessionLimits:
    """Thread-safe. `most` 0 is no limit; a page that takes nothing more for SILENT_PAGE_S counts no longer."""

    def __init__(
        self, most: int = 0, addresses: ClientAddresses | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self._clock = clock
        self.addresses = addresses or ClientAddresses()
        self._pages: dict[str, tuple[str, float]] = {}  # whose, and when it last took something
        self._lock = threading.Lock()

    def enter(self, visitor: str, session: str) -> None:
        """This page is about to hold something; once is enough, more does no harm.

        Raises TooManyPages or AddressSpent.
        """
        if not self.most:
            return
        with self._lock:
            now = self._clock()
            self._pages = {page: kept for page, kept in self._pages.items() if now - kept[1] < SILENT_PAGE_S}
            others = [other for page, (other, _) in self._pages.items() if page != session]
            if others.count(visitor) >= self.most:
                raise TooManyPages(limit=self.most)
            network = self.addresses.of(visitor)
            if network and sum(self.addresses.of(other) == network for other in others) >= SHARE * self.most:
                raise AddressSpent
            self._pages[session] = (visitor, now)

    def leave(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            self._pages.pop(session, None)

    @contextmanager
    def held(self, visitor: str) -> Iterator[str]:
        """A session of its own for one call of a program, counted like a page. Raises TooManyPages."""
        session = token_hex(16)
        self.enter(visitor, session)
        try:
            yield session
        finally:
            self.leave(session)

"""Gradio's session states, bounded in number and time: each belongs to whoever opened it."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from copy import copy
from datetime import datetime

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

from app.access.later import later
from app.access.lifetimes import PASSING_S, SESSION_SWEEP_S, SILENT_PAGE_S
from app.access.rate_window import RateWindow
from app.allocator import return_freed_memory
from app.errors import StudioError
from tabs.shell.leaving import forget_session, is_answered

MOST_STATES = 2000  # session states; the one not used for longest goes first
MOST_CLAIMS = 20_000
MOST_PAGES = 2000  # pages that are open at a time, of all visitors
PAGES_OF_ADDRESS = 200  # the same for one public address, so that a school behind one is not shut out
NEW_OF_ADDRESS = 600  # sessions that one public address may begin while one without a page is kept


class OtherVisitorsPage(StudioError):
    status = 403
    zh = "这个页面的会话属于别的访客，或者你的登录或 Cookie 已改变。请重新打开页面。"
    en = "The session of this page is another visitor's, or your login or cookie has changed. Open the page anew."


class TooManySessions(StudioError):
    status = 429
    zh = "你所在的网络地址在一分钟内开始了太多会话。请等一分钟，或在同一个会话里继续。"
    en = "Too many sessions were begun from your network address. Wait a minute, or go on in one session."


class TooManyOpenPages(StudioError):
    status = 429
    zh = "这台服务器上打开的页面太多。请关闭几个，稍后再试。"
    en = "Too many pages of this server are open. Close some and try again in a little while."


class SmallSessionState(SessionState):
    """Without a copy of the whole page for each session, which only links to a state would need."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.blocks_config.config_for_block = lambda *_: {}  # type: ignore[method-assign]  # at each output of each event
        self.config_values = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = int(SILENT_PAGE_S)


class SessionStates(StateHolder):
    """Gradio's holder, swept: a state without an open page goes PASSING_S after its last use."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Counter[str] = Counter()
        self._without_state: set[str] = set()  # at the last sweep
        self._making = threading.Lock()

    def install(self, blocks: gr.Blocks) -> None:
        """Take the place of the holder of a page that has been launched, and sweep from now on."""
        blocks.state_session_capacity = MOST_STATES
        self.set_blocks(blocks)
        blocks.app.state_holder = self
        self._plan()

    def __getitem__(self, session_id: str) -> SessionState:
        with self._making:
            if session_id not in self.session_data:
                self.session_data[session_id] = SmallSessionState(self.blocks)
        return super().__getitem__(session_id)

    def opened(self, session: str) -> None:
        self._open[session] += 1

    def closed(self, session: str) -> None:
        self._open[session] -= 1
        if self._open[session] <= 0:
            del self._open[session]

    def is_open(self, session: str) -> bool:
        """Whether a browser has the session's page open."""
        return session in self._open

    def sweep(self, idle_s: float = PASSING_S) -> None:
        """Forget passing sessions that are over, and messages that came after their session was forgotten."""
        now, known = datetime.now(), dict(self.time_last_used)
        idle = {session for session, used in known.items() if (now - used).total_seconds() > idle_s}
        without_state = {session for session in list(self._messages) if session not in known}
        # one that is new to this list may be at its very beginning
        for session in idle | (without_state & self._without_state):
            if session not in self._open and not is_answered(self.blocks, session):
                forget_session(self.blocks, session)
        self._without_state = without_state
        if idle:
            return_freed_memory()

    @property
    def _messages(self) -> Collection[str]:
        """Sessions for which gradio keeps messages."""
        return self.blocks._queue.pending_messages_per_session

    def _plan(self) -> None:
        def again() -> None:
            if self.blocks.is_running:
                self.sweep()
                self._plan()

        later.call(SESSION_SWEEP_S, again)


class SessionClaims:
    """Whose session is whose: the first to use one holds it. On the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._holders: OrderedDict[str, str] = OrderedDict()
        self._pages: Counter[str] = Counter()
        self._begun = RateWindow(PASSING_S, clock)

    def begin(self, network: str) -> None:
        """A session is new; `network` is empty where its address counts for nobody. Raises TooManySessions.

        So one address cannot push all others' states out.
        """
        if not network:
            return
        if self._begun.of(network)[0] >= NEW_OF_ADDRESS:
            raise TooManySessions
        self._begun.add(network, 1)

    def claim(self, session: str, holder: str, network: str) -> None:
        """Raises OtherVisitorsPage or TooManySessions."""
        if session not in self._holders:
            self.begin(network)
        if self._holders.setdefault(session, holder) != holder:
            raise OtherVisitorsPage
        self._holders.move_to_end(session)
        if len(self._holders) > MOST_CLAIMS:
            self._holders.popitem(last=False)

    def open_page(self, network: str) -> None:
        """A page's connection is there; `network` is empty where its address counts for nobody.

        Raises TooManyOpenPages.
        """
        if self._pages.total() >= MOST_PAGES or (network and self._pages[network] >= PAGES_OF_ADDRESS):
            raise TooManyOpenPages
        self._pages[network] += 1

    def close_page(self, network: str) -> None:
        self._pages[network] -= 1
        if not self._pages[network]:
            del self._pages[network]

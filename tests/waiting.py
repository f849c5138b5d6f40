"""Poll a condition that another thread, process or page brings about."""

import time
from collections.abc import Callable

PAUSE_S = 0.02


def wait_for(condition: Callable[[], object], seconds: float = 900) -> None:
    """Look again until it holds; fails after `seconds`, or at the test's own timeout, which tells where it hung."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(PAUSE_S)

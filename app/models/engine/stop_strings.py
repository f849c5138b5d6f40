"""Stop strings: cut streamed text before the first of them, holding back what may yet become one."""

from collections.abc import Iterable, Sequence


def longest_held(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of the text that begins one of the marks."""
    return max((n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n])), default=0)


class StopStrings:
    """Text up to the first stop string. `push` returns what can be shown, `finish` what was held back."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = [s for s in stop if s]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text so far unseen, less what may yet begin a stop string."""
        if self.stopped:
            return ""
        self._held += text
        cut = min((at for at in (self._held.find(s) for s in self._stop) if at >= 0), default=None)
        if cut is not None:
            self.stopped = True
            shown, self._held = self._held[:cut], ""
            return shown
        keep = longest_held(self._held, self._stop)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back because a stop string might have followed."""
        text, self._held = self._held, ""
        return "" if self.stopped else text

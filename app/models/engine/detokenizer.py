"""Token ids to text as they come: whole characters only, and nothing that may belong to a stop string."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"


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
        keep = self._possible_stop()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back because a stop string might have followed."""
        text, self._held = self._held, ""
        return "" if self.stopped else text

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        return max(
            (n for s in self._stop for n in range(1, len(s)) if self._held.endswith(s[:n])),
            default=0,
        )


class Detokenizer:
    """Feed tokens with `push`; what it returns can be shown. `stopped` says that a stop string was met."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = (), keep_special_tokens: bool = False
    ) -> None:
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=not keep_special_tokens)
        self._text = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        return self._text.stopped

    def push(self, token: int) -> str:
        """The text this token completes, up to a stop string."""
        piece = self._decoder.step(self._tokenizer, token)
        return self._text.push(piece.replace(BROKEN, "")) if piece else ""

    def finish(self) -> str:
        """What was held back because a stop string might have followed; half a character is dropped."""
        return self._text.finish()

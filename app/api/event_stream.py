"""Server-sent events of a completion: chunks, comments while it is silent, errors in the stream, the end mark."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

from app.api.answering import AnswerStream, ClientGone, Ended, Event, Piece
from app.api.errors import described
from app.api.responses import DONE, Completion, event
from app.api.sampling_fields import AnswerOptions
from app.errors import Language

NOT_KEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
COMMENT_SECONDS = 5.0  # proxies cut a stream that is silent for long
COMMENT = b": waiting\n\n"


@dataclass(frozen=True)
class EventStream:
    """One answer as a stream of `body`'s events."""

    answer: AnswerStream
    body: Completion
    options: AnswerOptions
    choices: int
    comment_seconds: float

    async def response(self, watch: "asyncio.Task[None]", language: Language) -> Response:
        """It begins with the first piece, so that what fails before has a status of its own; where that takes long it
        begins without, and comments keep it open. `watch` ends with it."""
        events = self.answer.events()
        first = asyncio.ensure_future(anext(events))
        await asyncio.wait([first], timeout=self.comment_seconds)
        if first.done():
            first.result()

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for chunk in self._chunks(first, events):
                    yield chunk
            except ClientGone:
                return
            except Exception as error:
                yield event({"error": described(error, language)[1]})
            finally:
                first.cancel()
                watch.cancel()
                self.answer.leave()

        return StreamingResponse(stream(), media_type="text/event-stream", headers=NOT_KEPT)

    async def _chunks(self, first: "asyncio.Future[Event]", rest: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        while not first.done():
            yield COMMENT
            await asyncio.wait([first], timeout=self.comment_seconds)
        for choice in range(self.choices):
            yield self.body.opening(choice)
        ended: list[Ended] = []
        told: Event | None = first.result()
        while told is not None:
            if isinstance(told, Piece):
                yield self.body.piece(told)
            else:
                ended.append(told)
                yield self.body.closing(told)
            told = await anext(rest, None)
        if self.options.include_usage:
            yield self.body.usage(ended)
        yield DONE

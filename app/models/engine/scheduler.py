"""Fair scheduler for transformers' continuous batching."""

from itertools import islice
from typing import Any

from transformers.generation.continuous_batching import scheduler as schedulers
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

from app.models.engine.sampler import generated_by
from app.models.fair_share import FairQueue, Turn, admitted, places_of_one

NAME = "fair"
TURN = "turn"  # kept with a request, also when it is put back for want of memory


class FairScheduler(FIFOScheduler):
    """Prompts are read in the order of `FairQueue`, so a short one need not wait until a long one has been read. While
    others wait one visitor may run at most half of the batch, and else leaves places for who comes."""

    def reset(self) -> None:
        super().reset()
        self.queue = FairQueue()

    def add_waiting_request(self, state: RequestState) -> None:
        if TURN not in state.logit_processor_kwargs:
            answer = state.max_new_tokens or 0
            turn = self.queue.turn(visitor_of(state), len(state.initial_tokens), answer)
            state.logit_processor_kwargs[TURN] = turn
        super().add_waiting_request(state)

    def finish_request(self, request_id: str) -> None:
        self._charge(self.active_requests.get(request_id))
        super().finish_request(request_id)

    def clear_cancelled_requests(self) -> list[RequestState]:
        cancelled = super().clear_cancelled_requests()
        for state in cancelled:
            self._charge(state)
        return cancelled

    def _charge(self, state: RequestState | None) -> None:
        if state is not None:
            self.queue.ended(turn_of(state), len(generated_by(state)))

    def ahead_of(self, request_id: str) -> int:
        """How many begin or end before this one; 0 once it has begun. May be asked from any thread."""
        waiting = dict(self.waiting_requests)
        if (own := waiting.get(request_id)) is None:
            return 0
        is_full = len(self.active_requests) >= self.max_requests_per_batch
        return is_full + sum(turn_of(other) < turn_of(own) for other in waiting.values())

    def _get_waiting_candidates(self) -> list[RequestState]:
        waiting = sorted((self.waiting_requests[name] for name in self.waiting_requests_order), key=turn_of)
        most = places_of_one(self.max_requests_per_batch, len({visitor_of(state) for state in waiting}))
        places = max(0, self.max_requests_per_batch - len(self.active_requests))
        return list(islice(admitted(waiting, self.active_requests.values(), visitor_of, most), places))

    def _process_candidates(self, candidates: list[RequestState], *budgets: Any) -> Any:
        writing = [state for state in candidates if state.status == RequestStatus.DECODING]
        reading = [state for state in candidates if state.status != RequestStatus.DECODING]
        planned = super()._process_candidates(writing + sorted(reading, key=turn_of), *budgets)
        for future in planned[0]:
            self.queue.served(turn_of(future.state), len(future.state.remaining_prefill_tokens))
        return planned


def visitor_of(state: RequestState) -> str:
    return str(state.logit_processor_kwargs.get("visitor", ""))


def turn_of(state: RequestState) -> Turn:
    turn: Turn = state.logit_processor_kwargs[TURN]
    return turn


def register() -> None:
    """Make the scheduler known to transformers under NAME."""
    schedulers.SCHEDULER_MAPPING[NAME] = FairScheduler

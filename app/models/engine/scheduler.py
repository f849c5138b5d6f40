"""A fair order for waiting requests: visitors take turns, and none may fill the batch alone."""

from collections import Counter, defaultdict, deque

from transformers.generation.continuous_batching import scheduler as schedulers
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

NAME = "fair"


class FairScheduler(FIFOScheduler):
    """First come, first served within a visitor; between visitors, whoever runs least comes first.

    One visitor may run at most half of the batch's places, so that a newcomer always finds one free.
    """

    def _get_waiting_candidates(self) -> list[RequestState]:
        waiting: dict[str, deque[RequestState]] = defaultdict(deque)
        for request_id in self.waiting_requests_order:
            state = self.waiting_requests[request_id]
            waiting[visitor_of(state)].append(state)
        running = Counter(visitor_of(state) for state in self.active_requests.values())
        most = max(1, self.max_requests_per_batch // 2)
        order: list[RequestState] = []
        while waiting:
            visitor = min(waiting, key=lambda name: running[name])
            if running[visitor] >= most:
                break
            order.append(waiting[visitor].popleft())
            running[visitor] += 1
            if not waiting[visitor]:
                del waiting[visitor]
        return order


def visitor_of(state: RequestState) -> str:
    return str(state.logit_processor_kwargs.get("visitor", ""))


def register() -> None:
    """Make the scheduler known to transformers under NAME."""
    schedulers.SCHEDULER_MAPPING[NAME] = FairScheduler

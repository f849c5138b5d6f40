"""Fair scheduler for transformers' continuous batching."""

from transformers.generation.continuous_batching import scheduler as schedulers
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

from app.models.fair_share import admission_order

NAME = "fair"


class FairScheduler(FIFOScheduler):
    """See `fair_share.admission_order`; one visitor may run at most half of the batch."""

    def _get_waiting_candidates(self) -> list[RequestState]:
        waiting = (self.waiting_requests[request_id] for request_id in self.waiting_requests_order)
        most = max(1, self.max_requests_per_batch // 2)
        return list(admission_order(waiting, self.active_requests.values(), visitor_of, most))


def visitor_of(state: RequestState) -> str:
    return str(state.logit_processor_kwargs.get("visitor", ""))


def register() -> None:
    """Make the scheduler known to transformers under NAME."""
    schedulers.SCHEDULER_MAPPING[NAME] = FairScheduler

"""Prometheus metrics at `/metrics`, and one log line for each answer, without its text."""

import hmac
import logging
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.models.interface import Registry
from app.models.registry.metering import Meter, mark_of
from app.models.registry.running_request import Answered

log = logging.getLogger(__name__)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counts what the meter tells; reads the memory account when it is asked."""

    def __init__(self, registry: Registry, meter: Meter) -> None:
        self._collected = CollectorRegistry()
        self._collected.register(_Account(registry, meter))
        own = self._collected
        self._answers = Counter("studio_answers", "Answers that have ended", ["model", "finish"], registry=own)
        self._tokens = Counter("studio_tokens", "Tokens of prompts and answers", ["model", "kind"], registry=own)
        self._first = Histogram("studio_first_token_seconds", "Until the first token", buckets=SECONDS, registry=own)
        self._whole = Histogram("studio_answer_seconds", "Until the end of an answer", buckets=SECONDS, registry=own)
        self._sessions = Gauge("studio_sessions", "Sessions of pages and programs that are kept", registry=own)
        self._meter = meter
        meter.observers.append(self.note)

    def note(self, told: Answered) -> None:
        """One answer has ended."""
        self._answers.labels(told.model, told.finish_reason or "failed").inc()
        self._tokens.labels(told.model, "prompt").inc(told.prompt_tokens)
        self._tokens.labels(told.model, "completion").inc(told.completion_tokens)
        self._whole.observe(told.seconds)
        if told.first_token_s is not None:
            self._first.observe(told.first_token_s)

    def text(self, sessions: int) -> bytes:
        """All of it in Prometheus' text format."""
        self._meter.flush()
        self._sessions.set(sessions)
        return generate_latest(self._collected)


class _Account:
    """Gauges that are read at the moment of asking."""

    def __init__(self, registry: Registry, meter: Meter) -> None:
        self._registry = registry
        self._meter = meter

    def collect(self) -> Iterable[Metric]:
        running = self._meter.running()
        waiting = sum(generation.queue_ahead > 0 for generation in running)
        yield GaugeMetricFamily("studio_answers_running", "Answers under way", value=len(running) - waiting)
        yield GaugeMetricFamily("studio_answers_waiting", "Answers that wait for a place in the batch", value=waiting)
        ledger = self._registry.ledger()
        yield GaugeMetricFamily("studio_memory_budget_mib", "Memory budget for models", value=ledger.budget_mib)
        memory = GaugeMetricFamily("studio_memory_mib", "Memory a model holds", labels=["name", "kind", "state"])
        leases = GaugeMetricFamily("studio_leases", "Who holds a model", labels=["name"])
        for entry in ledger.models:
            memory.add_metric([entry.name, entry.kind, entry.state], entry.mib + entry.cache_mib)
            leases.add_metric([entry.name], entry.leases)
        yield memory
        yield leases


def answer_metrics(metrics: Metrics, key: str, guarded: bool, request: Request) -> Response:
    """`/metrics`: with a key only for who has it; without one only where strangers cannot reach the server."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if (key and not hmac.compare_digest(given.encode(), key.encode())) or (guarded and not key):
        return PlainTextResponse("not here\n", status_code=404)
    sessions = len(request.app.state_holder.session_data)
    return Response(metrics.text(sessions), media_type="text/plain; version=0.0.4; charset=utf-8")


def log_answer(told: Answered) -> None:
    """A line that a program can read: its figures stand in the record's fields. A visitor's name is only a mark."""
    fields = {
        "model": told.model,
        "visitor": mark_of(told.visitor),
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "finish": told.finish_reason or "failed",
        "first_token_s": None if told.first_token_s is None else round(told.first_token_s, 3),
        "seconds": round(told.seconds, 3),
    }
    log.info("answer %s", " ".join(f"{key}={value}" for key, value in fields.items()), extra=fields)

"""What /metrics shows of the service itself."""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass
class Figures:
    """What /metrics shows."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        histogram, counter = partial(Histogram, registry=self.registry), partial(Counter, registry=self.registry)
        seconds, sizes = partial(histogram, buckets=_BUCKETS), (1, 2, 4, 8, 16, 32, 64)
        self.latency = seconds("recsys_request_seconds", "Seconds from request to answer.", ["route"])
        self.answers = counter("recsys_answers", "Answers by status.", ["route", "status"])
        self.wait = seconds("recsys_queue_wait_seconds", "Seconds in the queue.")
        self.batch = histogram("recsys_batch_size", "Requests a batch.", buckets=sizes)
        self.events = counter("recsys_events", "Events by what became of them.", ["outcome"])
        age = "Days from the newest purchase to now."
        self.staleness = Gauge("recsys_snapshot_age_days", age, registry=self.registry)

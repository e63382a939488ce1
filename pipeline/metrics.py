"""What is counted while a graph runs, cheap enough to be always on, and how Prometheus sees it.

Durations go into histograms with one bucket for every power of two of nanoseconds: an observation is one
``bit_length`` and one list increment (about 40 ns), where a Prometheus client histogram costs about 3 microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

BUCKETS = 48
"""Buckets of a histogram: the last holds everything over 2**46 ns, about 19 hours."""


class Histogram:
    """Counts of durations by power of two of nanoseconds: bucket ``i`` holds ``2**(i-1) <= d < 2**i``."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0

    def observe(self, nanoseconds: int, times: int = 1) -> None:
        """Count ``times`` durations of ``nanoseconds`` each (negative ones count as 0)."""
        bucket = nanoseconds.bit_length() if nanoseconds > 0 else 0
        self.counts[bucket if bucket < BUCKETS else BUCKETS - 1] += times
        self.total += nanoseconds * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """The ``q`` quantile in nanoseconds, linear within its bucket (so right within a factor of two); 0 if empty."""
        wanted = q * self.count
        seen = 0
        for bucket, count in enumerate(self.counts):
            if count and seen + count >= wanted:
                low: int = 0 if bucket == 0 else 1 << (bucket - 1)
                return low + ((1 << bucket) - low) * (wanted - seen) / count
            seen += count
        return 0.0

    def mean(self) -> float:
        count = self.count
        return self.total / count if count else 0.0


class EdgeMetrics:
    """Counters of one edge."""

    __slots__ = ("blocked", "blocked_nanoseconds", "dropped", "late", "name", "pushed", "wait")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pushed = self.dropped = self.late = self.blocked = self.blocked_nanoseconds = 0
        self.wait = Histogram()


class NodeMetrics:
    """Counters of one operator."""

    __slots__ = ("abstained", "emitted", "end_to_end", "errors", "lost", "name", "process", "processed", "restarts")

    def __init__(self, name: str) -> None:
        self.name = name
        self.processed = self.emitted = self.errors = self.restarts = self.abstained = self.lost = 0
        self.process = Histogram()
        self.end_to_end = Histogram()


class StreamMetrics:
    """Freshness of one source stream."""

    __slots__ = ("arrived", "count", "event_time", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = self.event_time = self.arrived = 0


def _families(engine: Any) -> Iterator[Any]:
    labels = ["operator"]
    counters = {
        "processed": CounterMetricFamily("vigil_operator_messages", "messages handled", labels=labels),
        "emitted": CounterMetricFamily("vigil_operator_emitted", "messages given on", labels=labels),
        "errors": CounterMetricFamily("vigil_operator_errors", "exceptions raised by process", labels=labels),
        "restarts": CounterMetricFamily("vigil_operator_restarts", "restarts after an exception", labels=labels),
        "abstained": CounterMetricFamily("vigil_operator_abstained", "deadlines missed", labels=labels),
        "lost": CounterMetricFamily("vigil_operator_lost", "messages lost to errors and isolation", labels=labels),
    }
    process = HistogramMetricFamily("vigil_operator_process_seconds", "time in process", labels=labels)
    end_to_end = HistogramMetricFamily("vigil_end_to_end_seconds", "source to the end of the path", labels=labels)
    for node in engine.node_metrics():
        for name, family in counters.items():
            family.add_metric([node.name], getattr(node, name))
        _add(process, node.name, node.process)
        if node.end_to_end.count:
            _add(end_to_end, node.name, node.end_to_end)
    yield from (*counters.values(), process, end_to_end)

    labels = ["edge"]
    edges = {
        "pushed": CounterMetricFamily("vigil_edge_messages", "messages put on the edge", labels=labels),
        "dropped": CounterMetricFamily("vigil_edge_dropped", "messages dropped by the edge's policy", labels=labels),
        "late": CounterMetricFamily("vigil_edge_late", "messages behind the event-time bound", labels=labels),
        "blocked": CounterMetricFamily("vigil_edge_blocked", "times a producer had to wait", labels=labels),
    }
    wait = HistogramMetricFamily("vigil_edge_wait_seconds", "time waited in the edge", labels=labels)
    for edge in engine.edge_metrics():
        for name, family in edges.items():
            family.add_metric([edge.name], getattr(edge, name))
        if edge.wait.count:
            _add(wait, edge.name, edge.wait)
    yield from (*edges.values(), wait)

    age = GaugeMetricFamily("vigil_stream_age_seconds", "time since the stream's last message", labels=["stream"])
    count = CounterMetricFamily("vigil_stream_messages", "messages of the stream", labels=["stream"])
    for name, seconds, messages in engine.stream_ages():
        age.add_metric([name], seconds)
        count.add_metric([name], messages)
    yield from (age, count)

    alarms = GaugeMetricFamily("vigil_alarms_per_hour", "alarms per bed-hour, last two hours", labels=["operator"])
    for name, step in engine.steps.items():
        # Only the operator that signals alerts has it; where it runs in a process of its own the heartbeat still says.
        rate = getattr(getattr(step, "operator", None), "alarms_per_hour", None)
        if rate is not None:
            alarms.add_metric([name], rate)
    yield alarms


def _add(family: HistogramMetricFamily, label: str, histogram: Histogram) -> None:
    buckets: list[tuple[str, float]] = []
    running = 0
    for bucket, count in enumerate(histogram.counts):
        running += count
        if 9 < bucket < BUCKETS - 1:  # from 1 microsecond up: finer buckets only cost the scraper
            buckets.append((repr(2**bucket / 1e9), float(running)))
    buckets.append(("+Inf", float(running)))
    family.add_metric([label], buckets, histogram.total / 1e9)


class EngineCollector(Collector):
    """Reads an engine's counters when Prometheus asks; costs nothing in between."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def collect(self) -> Iterable[Any]:
        return _families(self.engine)

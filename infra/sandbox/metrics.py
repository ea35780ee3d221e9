"""What a sandbox's service counts, in Prometheus's format and in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from infra.sandbox.admission import Admission
from infra.sandbox.interface import Result

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)


class Metrics:
    """Counters may be raised from several threads."""

    def __init__(self, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._runs = Counter(
            "longhaul_sandbox_runs", "Runs that ended, by why.", ("ended", "language"), registry=self._registry
        )
        self._seconds = Histogram(
            "longhaul_sandbox_run_seconds", "Wall seconds of runs.", buckets=_SECONDS, registry=self._registry
        )
        self._refused = Counter(
            "longhaul_sandbox_requests_refused", "Requests that were not served.", ("reason",), registry=self._registry
        )
        gauges = {
            "longhaul_sandbox_waiting": ("Requests that wait for a slot.", lambda: admission.waiting),
            "longhaul_sandbox_in_use": ("Slots in use.", lambda: admission.in_use),
            "longhaul_sandbox_slots": ("Slots.", lambda: admission.slots),
            "longhaul_sandbox_queue": ("Requests that may wait.", lambda: admission.queue),
        }
        for name, (what, value) in gauges.items():
            Gauge(name, what, registry=self._registry).set_function(value)

    def ran(self, language: str, result: Result) -> None:
        """Count a run."""
        # A language that does not exist is refused: requests cannot make labels without end.
        label = language if result.ended != "refused" else ""
        self._runs.labels(result.ended, label).inc()
        self._seconds.observe(result.wall_seconds)

    def refused(self, reason: str) -> None:
        """Count a request that was not served; `reason` is one of few."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

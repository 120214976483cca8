"""Every metric there is, with its name, unit and labels. Label sets are bounded: no names, ids or paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from pushserver.core.cached import KEPT
from pushserver.core.histogram import Histogram

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The metrics of one process, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._connections()
        self._messages()
        self._redis()
        self._exposure()
        self._api()
        self._consume()
        self.loop_lag = self._histogram("loop_lag_seconds", "Delay of a timer of the event loop", _LAG)
        self.pod_boot = self._gauge("pod_boot", "Boot number under which this process is registered")
        self.reloads = self._counter("reloads", "Reloads of the settings: applied, or refused", "result")
        results = self._gauge("cached_results", "Results of pure functions that are kept", "cache")
        for name, kept in KEPT.items():
            results.labels(name).set_function(kept)
        self.task_failures = self._counter("task_failures", "Background tasks that ended with an error")

    def _connections(self) -> None:
        self.handshakes = self._counter("handshakes", "Handshakes: 101, our code, or a status", "result")
        self.let_in = self.handshakes.labels("101")
        self.jwks_fetches = self._counter("jwks_fetches", "Fetches of the keys of tokens", "result")
        self.jwks_unknown_keys = self._counter("jwks_unknown_keys", "Tokens whose key was not known")
        self.category_requests = self._counter(
            "category_requests", "Users that a back end was asked about by HTTP", "result"
        )
        self.category_request_seconds = self._histogram(
            "category_request_seconds", "From asking a back end for categories to an answer or none"
        )
        self.closes = self._counter("closes", "Connections closed, by close code", "code")
        self.frames_refused = self._counter("frames_refused", "Client frames that were no request")
        self.receipts_ignored = self._counter(
            "receipts_ignored", "Pongs and acks that confirm nothing known", "kind"
        )
        self.unpromptly_closed = self._counter(
            "no_progress", "Connections cut because nothing moved", "reason"
        )

    def _messages(self) -> None:
        self.deliveries = self._counter("deliveries", "Messages pushed to a connection", "source")
        self.deliveries_live = self.deliveries.labels("live")
        self.confirms = self._counter("confirms", "Messages confirmed by a connection", "proof")
        self.confirm_delay = self._histogram("confirm_delay_seconds", "From push to confirm")
        self.settled = self._counter("settled", "Messages taken out of an inbox after their confirm")
        self.log_settled = self._counter("log_settled", "Messages from the log, or for the live, settled")
        self.evicted = self._counter("evicted", "Messages evicted by the cap of an inbox")
        self.expired = self._counter("expired", "Waiting messages whose content was gone")
        self.invalid = self._counter("invalid_content", "Waiting messages whose content no client could read")
        self.recalled = self._counter("recalled", "Waiting messages that were recalled before they came")
        self.hints = self._counter("hints", "Hints to pods' feeds, by what became of them", "result")
        self.overtaken = self._counter(
            "overtaken", "Messages a slow connection may have missed, which another of its user had"
        )
        self.feed_entries = self._counter("feed_entries", "Entries read from this pod's feed")
        self.feed_gaps = self._counter("feed_gaps", "Times that entries of this pod's feed were lost")
        self.log_entries = self._counter("log_entries", "Entries of the log that this pod followed")
        self.log_gaps = self._counter("log_gaps", "Connects and connections behind the log's oldest entry")
        self.live_only = self._counter("live_only", "Messages for the live only, by connection", "result")
        self.parked = self._counter("parked", "Messages taken out of an inbox as poison")
        self.cache_hits = self._counter("content_cache_hits", "Contents found in the cache")
        self.cache_misses = self._counter("content_cache_misses", "Contents read from Redis")
        self.deflated = self._counter("contents_deflated", "Contents compressed, once for all who take that")

    def _redis(self) -> None:
        self.redis_round_trips = self._counter("redis_round_trips", "Pipelines answered by Redis")
        self.redis_commands = self._counter("redis_commands", "Commands answered by Redis")
        self.redis_errors = self._counter("redis_errors", "Commands and pipelines that failed", "kind")
        self.redis_seconds = self._histogram("redis_round_trip_seconds", "Time of a round trip to Redis")
        self.presence_writes = self._counter(
            "presence_writes", "Presence fields written or removed", "change"
        )
        self.presence_written = self.presence_writes.labels("written")
        self.lease_lapses = self._counter("lease_lapses", "Leases of this pod that ran out or were lost")
        self.pods_reaped = self._counter("pods_reaped", "Dead pods whose presence this pod removed")
        self.redis_aof = self._gauge("redis_aof", "1 if Redis keeps an append-only file, else 0")

    def _exposure(self) -> None:
        self.exposures = self._counter("exposures", "Exposures accepted, by where", "where")
        self.exposure_failures = self._counter("exposure_failures", "Publishes that failed", "kind")
        self.exposure_dropped = self._counter("exposure_dropped", "Exposure events beyond exposure.spool_max")
        self.exposure_aside = self._counter("exposure_aside", "Spooled events that the sink refuses for good")
        self.exposure_pending = self._gauge("exposure_pending", "Exposure events being handed over")

    def _api(self) -> None:
        self.api_requests = self._counter("api_requests", "Calls of the API", "call", "status")
        self.publishes = self._counter("publishes", "Messages asked for by back ends, by result", "result")

    def _consume(self) -> None:
        self.consumed_events = self._counter(
            "consumed_events", "Exposure events committed, dead ones included"
        )
        self.consumed = self._counter("consumed_exposures", "Exposures committed: new, or known", "result")
        self.consume_dead_letters = self._counter("consume_dead_letters", "Events refused", "reason")
        self.consume_failures = self._counter(
            "consume_failures", "Tries of the consumer that failed", "where", "kind"
        )
        self.consume_seconds = self._histogram("consume_batch_seconds", "From a batch to its commit")
        self.consume_lag = self._gauge("consume_lag_seconds", "From the confirm to the commit, last batch")
        self.consume_held = self._gauge("consume_held_events", "Events read and not acknowledged yet")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"pushserver_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"pushserver_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(f"pushserver_{name}", text, self.registry, buckets)

    def read_at_scrape(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that asks `read` when it is scraped, for lengths that somebody keeps anyway."""
        self._gauge(name, text).set_function(read)

    def redis_round_trip(self, commands: int, seconds: float) -> None:
        """Count one answered pipeline of `commands` commands."""
        self.redis_round_trips.inc()
        self.redis_commands.inc(commands)
        self.redis_seconds.observe(seconds)

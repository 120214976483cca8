"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from pushserver.core.metrics import Metrics

BOUNDED = {
    # Label sets whose values come from this code, never from a client: a status, a close code, a class.
    (): "none",
    ("result",): "HTTP status",
    ("code",): "close code",
    ("kind",): "class of an error or a receipt",
    ("reason",): "pong or ack",
    ("source",): "where a message came from",
    ("proof",): "pong or ack",
    ("change",): "written or removed",
    ("where",): "published or spooled",
    ("call", "status"): "a call of the API and the class of its status",
    ("where", "kind"): "source or database, and the class of an error",
}


def test_each_process_has_metrics_of_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.settled.inc(3)
    assert one.registry.get_sample_value("pushserver_settled_total") == 3
    assert other.registry.get_sample_value("pushserver_settled_total") == 0


def test_every_metric_has_a_help_text_the_prefix_and_known_labels() -> None:
    metrics = Metrics()
    text = generate_latest(metrics.registry).decode()
    found = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
    assert len(found) > 25
    for metric in found:
        name: str = metric._name
        assert name.startswith("pushserver_")
        assert metric._documentation.strip()
        assert metric._labelnames in BOUNDED, f"{name}: what bounds {metric._labelnames}?"
        assert f"# HELP {name}" in text


def test_a_gauge_that_somebody_keeps_anyway_is_asked_when_it_is_scraped() -> None:
    metrics, length = Metrics(), [1]
    metrics.read_at_scrape("queue", "Length of a queue", lambda: length[0])
    length[0] = 7
    assert metrics.registry.get_sample_value("pushserver_queue") == 7


def test_a_round_trip_counts_its_commands_and_its_time() -> None:
    metrics = Metrics()
    metrics.redis_round_trip(40, 0.002)
    metrics.redis_round_trip(2, 0.002)
    value = metrics.registry.get_sample_value
    assert value("pushserver_redis_round_trips_total") == 2
    assert value("pushserver_redis_commands_total") == 42
    assert value("pushserver_redis_round_trip_seconds_count") == 2
    assert value("pushserver_redis_round_trip_seconds_bucket", {"le": "0.001"}) == 0
    assert value("pushserver_redis_round_trip_seconds_bucket", {"le": "0.0025"}) == 2

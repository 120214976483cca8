"""A listener for who only looks: health and metrics of a process that serves nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import Application

from pushserver.core.jsontext import dump
from pushserver.core.metrics import Metrics
from pushserver.web.handler import JsonErrors, NotFound
from pushserver.web.listener import Listener

__all__ = ["probe_server"]

IDLE_S = 60


class Health(JsonErrors):
    """`/healthz`: the process is alive."""

    def get(self) -> None:
        """200 as long as the loop turns."""
        self.finish(dump({"status": "alive"}))


class Ready(JsonErrors):
    """`/readyz`: the process does its work."""

    def initialize(self, away: Callable[[], str]) -> None:
        """Take who knows."""
        self._away = away

    def get(self) -> None:
        """200, or 503 with what is away."""
        reason = self._away()
        if reason:
            self.refuse(503, "not_ready", reason)
        else:
            self.finish(dump({"status": "ready"}))


class MetricsPage(JsonErrors):
    """`/metrics`, for Prometheus. No label holds a name."""

    def initialize(self, metrics: Metrics) -> None:
        """Take what is read."""
        self._metrics = metrics

    def get(self) -> None:
        """The registry's text."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self._metrics.registry))


def probe_server(metrics: Metrics, away: Callable[[], str]) -> Listener:
    """The server; `away` says why the process does not do its work, "" while it does."""
    routes: list[Any] = [
        ("/healthz", Health),
        ("/readyz", Ready, {"away": away}),
        ("/metrics", MetricsPage, {"metrics": metrics}),
    ]
    application = Application(routes, default_handler_class=NotFound, log_function=lambda handler: None)
    return Listener(
        application, xheaders=False, idle_connection_timeout=IDLE_S, body_timeout=IDLE_S, max_body_size=1024
    )

"""Health and metrics, for whoever keeps the pod running."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pushserver.web.admin.handler import AdminHandler, is_loopback

__all__ = ["Health", "MetricsPage", "Ready"]


class Health(AdminHandler):
    """`/healthz`: the process is alive."""

    def get(self) -> None:
        """200 as long as the loop turns."""
        self.answer({"status": "alive"})


class Ready(AdminHandler):
    """`/readyz`: the pod may take traffic."""

    def get(self) -> None:
        """200, or 503 with the reason: starting, draining, Redis away, no keys to verify tokens by."""
        reason = self.admin.ready()
        if reason:
            self.set_header("Retry-After", "1")
            self.refuse(503, "not_ready", reason)
        else:
            self.answer({"status": "ready"})


class MetricsPage(AdminHandler):
    """`/metrics`, for Prometheus: from another host with an API key."""

    def may_ask(self) -> bool:
        """Refuse whoever is neither on this host nor has a key."""
        return not self.admin.api_keys or is_loopback(self.peer()) or self.has_key()

    def get(self) -> None:
        """The registry's text; no label holds a name."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.admin.metrics.registry))

"""`GET /pushserver.js`: the client for browsers, an ES module for pages of any origin."""

from __future__ import annotations

from importlib import resources

from pushserver.web.handler import JsonErrors

__all__ = ["CLIENT_PATH", "BrowserClient"]

CLIENT_PATH = "/pushserver.js"
CACHED_S = 3600
"""How long a browser takes it for new; afterwards it asks by its ETag."""

_SOURCE = resources.files("pushserver.web").joinpath("static/pushserver.js").read_bytes()


class BrowserClient(JsonErrors):
    """The module. It holds nothing secret, so any page may import it; `Origin` is judged at `/ws`."""

    def get(self) -> None:
        """The source, or 304: Tornado makes the ETag and compares it."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.set_header("Cache-Control", f"public, max-age={CACHED_S}")
        # A module of another origin is read by CORS, and by a page that isolates itself only with CORP.
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(_SOURCE)

    def head(self) -> None:
        """As GET, without the body."""
        self.get()

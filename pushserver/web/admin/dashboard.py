"""`GET /dashboard`: the operators' page. It holds no data, so it needs no key; every call it makes does."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from pushserver.web.admin.handler import AdminHandler

__all__ = ["FILES", "Dashboard"]

PAGE = "/dashboard"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

HEADERS = {
    # Nothing runs or is fetched but what this listener serves, forms go nowhere, and no text becomes markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    # Another page must not get clicks for it by a frame or a window, least of all where no key is asked for.
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With `no-referrer` the page's own POSTs would have the Origin `null`, by the Fetch standard.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class _File(NamedTuple):
    kind: str
    text: bytes


def _read() -> Mapping[str, _File]:
    """Path to what is served there: the page, and below it what it loads."""
    found = {}
    for file in files(__package__).joinpath("dashboard_page").iterdir():
        _, _, ending = file.name.rpartition(".")
        if ending in _TYPES:
            path = PAGE if ending == "html" else f"{PAGE}/{file.name}"
            found[path] = _File(f"{_TYPES[ending]}; charset=utf-8", file.read_bytes())
    return found


FILES = _read()


class Dashboard(AdminHandler):
    """The page and its files."""

    def set_default_headers(self) -> None:
        """Refusals have them, too."""
        super().set_default_headers()
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def get(self) -> None:
        """A file as it is."""
        file = FILES[self.request.path]
        self.set_header("Content-Type", file.kind)
        self.finish(file.text)

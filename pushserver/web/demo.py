"""`/demo`: a page to try everything on, in development mode only.

It may do what an operator may, and connect as anybody. So besides the mode, which keeps both listeners on
loopback, each request has to come from this host and through no proxy, to a name that nobody can rebind, and
from the page itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pushserver.core.categories import parse_categories
from pushserver.core.errors import ConfigError, InvalidFieldError, InvalidNameError
from pushserver.core.jsontext import parse_strict
from pushserver.core.names import check_username
from pushserver.web.admin import Admin
from pushserver.web.admin.handler import AdminHandler, is_loopback
from pushserver.web.admin.intake import Intake, max_request_bytes
from pushserver.web.request import plain_request

__all__ = ["Demo", "demo_routes"]

MAX_TOKEN_REQUEST_BYTES = 16 * 1024

_PAGE = resources.files("pushserver.web").joinpath("static/demo.html").read_text()
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
_PROXIES = frozenset(
    {"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}
)


@dataclass(frozen=True, slots=True)
class Demo:
    """What the page stands on."""

    admin: Admin
    new_token: Callable[[str], str]
    """A token that this pod believes, for a username. Raises `ConfigError` where another signs them."""
    exposures: Callable[[], int]
    """How many were handed to the sink."""


def demo_routes(demo: Demo) -> list[Any]:
    """The paths of the page."""
    own = {"demo": demo}
    return [
        ("/demo", DemoPage, own),
        ("/demo/token", DemoToken, own),
        ("/demo/messages", DemoMessages, own),
        ("/demo/users/([^/]+)", DemoUser, own),
    ]


class DemoHandler(AdminHandler):
    """Answers the page, and nobody else."""

    def initialize(self, demo: Demo) -> None:  # type: ignore[override]
        """Take what `api_parts` built."""
        super().initialize(demo.admin)
        self.demo = demo

    def may_ask(self) -> bool:
        """Refuse whatever is not this host's own browser, on this page."""
        headers, host = self.request.headers, plain_request(self.request).host
        # nginx as it comes names this host, not itself; but mostly it speaks what no browser does.
        forwarded = not _PROXIES.isdisjoint(headers) or self.request.version == "HTTP/1.0"
        if forwarded or not is_loopback(plain_request(self.request).peer):
            self.refuse(403, "not_local", "for this host only")
        elif not _HOST.fullmatch(host):
            self.refuse(421, "wrong_host", "ask for it at localhost or 127.0.0.1")
        elif not self._is_of_the_page(host):
            self.refuse(403, "origin", "not for other web pages")
        else:
            return True
        return False

    def _is_of_the_page(self, host: str) -> bool:
        """A browser says where a request comes from: a POST always by its `Origin`."""
        headers = self.request.headers
        origin = headers.get("Origin", "" if self.request.method == "POST" else f"http://{host}")
        return origin == f"http://{host}" and headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}


class DemoPage(DemoHandler):
    """`/demo`."""

    def get(self) -> None:
        """The page, which may load the client from here, talk to here, and nothing else."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.finish(_PAGE)


class DemoToken(DemoHandler):
    """`/demo/token`."""

    def max_body_bytes(self) -> int:
        """A username and its categories."""
        return MAX_TOKEN_REQUEST_BYTES

    async def post(self) -> None:
        """`{"user", "categories"?}` -> `{"token"}`; the categories are stored, if there are any."""
        user, raw = _token_request(self.body)
        if raw:
            try:
                categories = parse_categories(raw)
            except InvalidNameError as error:
                raise InvalidFieldError(error.kind, error.reason) from None
            await self.admin.users.set_categories(user, categories)
        try:
            token = self.demo.new_token(user)
        except ConfigError as error:
            self.refuse(409, "no_token", str(error))
        else:
            self.answer({"token": token})


class DemoMessages(DemoHandler):
    """`/demo/messages`."""

    def max_body_bytes(self) -> int:
        """As of the API."""
        return max_request_bytes(self.admin.max_content_bytes, self.admin.rules.max_users)

    async def post(self) -> None:
        """As `POST /v1/messages`."""
        intake = Intake(self.admin.publisher, self.admin.rules, self.admin.metrics)
        accepted = await intake.publish(await intake.read(self.body))
        self.answer(accepted.fields, accepted.status)


class DemoUser(DemoHandler):
    """`/demo/users/U`."""

    async def get(self, user: str) -> None:
        """As `GET /v1/users/U`, and how many exposures this pod has handed on."""
        described = await self.admin.users.describe(check_username(user))
        self.answer({**described, "exposures": self.demo.exposures()})


def _token_request(body: bytes) -> tuple[str, Any]:
    try:
        request = parse_strict(body)
    except ValueError as error:
        raise InvalidFieldError("", f"is not JSON ({error})") from None
    match request:
        case {"user": str(user)}:
            return check_username(user), request.get("categories")
    raise InvalidFieldError("user", "must be a text")


def _hashes(tag: str) -> str:
    """The inline parts of a kind, as a policy names them: others do not count."""
    parts = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", _PAGE, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' {_hashes('script')}",
        f"style-src {_hashes('style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

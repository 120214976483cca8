"""The answer to a request that is refused: what is sent, whoever sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses

from pushserver.core.context import Context
from pushserver.core.jsontext import dump
from pushserver.web.chain.refuse import error_body

__all__ = ["Answer", "error_answer", "refusal"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_EMPTY = frozenset({204, 304})
"""Those have no body."""
_OURS = frozenset({"Connection", "Content-Length", "Date", "Transfer-Encoding"})
"""Headers that say how an answer is sent, and are no link's to set."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers with one character a byte, and a body. It tells nothing about what it runs on."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Without those of every answer; no Content-Type is JSON's."""
    body: bytes = b""

    @property
    def reason(self) -> str:
        """The phrase beside the status."""
        return responses.get(self.status, "Unknown")

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers as they are sent, without those that depend on who sends them."""
        content = {} if self.status in _EMPTY else {"Content-Type": "application/json; charset=utf-8"}
        return {"Server": "pushserver", **content, **self.headers}

    def encode(self) -> bytes:
        """The whole answer, after which its connection ends."""
        headers = {**self.all_headers, "Date": formatdate(usegmt=True), "Connection": "close"}
        if self.status not in _EMPTY:
            headers["Content-Length"] = str(len(self.body))
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in the form of all errors."""
    return Answer(status, headers or {}, dump(error_body(code, message)).encode())


def refusal(ctx: Context, status: int) -> Answer:
    """How a chain that refused with `status` is answered: as it said, else in the form of all errors."""
    headers = {
        name: _as_sent(value)
        for name, value in ctx.writer.headers.items()
        if name not in _OURS and _NAME.fullmatch(name)
    }
    if status in _EMPTY:
        headers.pop("Content-Type", None)
        return Answer(status, headers)
    return Answer(status, headers, ctx.writer.body or dump(error_body("refused", "refused")).encode())


def _as_sent(value: str) -> str:
    """A header's value with one character a byte: Latin-1, else UTF-8 as in Go."""
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode(errors="replace").decode("latin-1")
    return value

"""The response under construction: what a refusing chain leaves for the web layer to send."""

from __future__ import annotations

import logging
import re

__all__ = ["Response"]

_log = logging.getLogger(__name__)

_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Response:
    """Status, headers and body of an answer that is not a 101.

    Where gin sends at once, this is sealed: status, headers and body are final from then on, and the web
    layer sends them when the chain is through.
    """

    __slots__ = ("_status", "_written", "body", "headers")

    def __init__(self) -> None:
        self._status = 0
        self._written = False
        self.headers: dict[str, str] = {}
        """By name as `set_header` spells it: Content-Type, Www-Authenticate."""
        self.body = b""

    def status(self) -> int:
        """The status: the one that was set, else 200."""
        return self._status or 200

    Status = status

    def has_status(self) -> bool:
        """Whether a status was ever set."""
        return self._status > 0

    def written(self) -> bool:
        """Whether the response is sealed."""
        return self._written

    Written = written

    def write_header(self, code: int) -> None:
        """Set the status; without effect for codes <= 0, and (with a warning) once sealed."""
        if code <= 0:
            return
        if not self._written:
            self._status = code
        elif code != self.status():
            _log.warning("status %d ignored: the response has status %d already", code, self.status())

    WriteHeader = write_header

    def write_header_now(self) -> None:
        """Seal the response. A second call changes nothing."""
        self._written = True

    WriteHeaderNow = write_header_now

    def write_json(self, body: bytes) -> None:
        """Seal the response with a JSON body, and Content-Type unless one is set.

        1xx, 204 and 304 carry no body. Without effect once sealed.
        """
        if self._written:
            return
        self.headers.setdefault("Content-Type", "application/json; charset=utf-8")
        if self.status() >= 200 and self.status() not in (204, 304):
            self.body = body
        self.write_header_now()

    def set_header(self, name: str, value: str) -> None:
        """Set a header in place of any of that name; "" removes it. Without effect once sealed.

        Control characters in the value become spaces (as Go does with line ends), so that a value which
        a client had a hand in can neither forge a header nor make the web layer fail.
        """
        if self._written:
            return
        spelled = "-".join(part.capitalize() for part in name.split("-"))
        if value:
            self.headers[spelled] = _CONTROLS.sub(" ", value)
        else:
            self.headers.pop(spelled, None)

    def copy(self) -> Response:
        """The same answer, on its own."""
        twin = Response()
        twin._status, twin._written = self._status, self._written
        twin.headers, twin.body = dict(self.headers), self.body
        return twin

"""What a WebSocket handshake is (RFC 6455 section 4.2), and the answer to one, whoever reads it."""

from __future__ import annotations

import base64
import hashlib
import re

from pushserver.core.request import HttpRequest
from pushserver.web.answer import Answer, error_answer

__all__ = ["accept_value", "no_handshake", "switching_protocols"]

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64."""


def accept_value(key: str) -> str | None:
    """The answer to a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2); None unless it is 16 bytes in base64."""
    if not _KEY.fullmatch(key):
        return None
    # SHA-1 is what the RFC says; nothing is protected by it.
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


def no_handshake(request: HttpRequest, version: str) -> Answer | None:
    """How to refuse a request that is not worth a run of the chain; None for a handshake.

    `version` is that of HTTP, as `HTTP/1.1`. A header that comes in several lines is judged by all of them,
    joined by commas.
    """
    if request.method != "GET":
        return error_answer(405, "method_not_allowed", "Method Not Allowed", {"Allow": "GET"})
    bad = _contradiction(request, version)
    if bad:
        return error_answer(400, "bad_handshake", bad)
    if _joined(request, "Upgrade").lower() != "websocket" or not _says_upgrade(request):
        return error_answer(426, "upgrade_required", "this is a WebSocket", {"Upgrade": "websocket"})
    if _joined(request, "Sec-WebSocket-Version") != "13":
        headers = {"Sec-WebSocket-Version": "13"}
        return error_answer(426, "upgrade_required", "WebSocket version 13 only", headers)
    if not _KEY.fullmatch(_joined(request, "Sec-WebSocket-Key")):
        return error_answer(400, "bad_handshake", "Sec-WebSocket-Key must be 16 bytes in base64")
    return None


def _contradiction(request: HttpRequest, version: str) -> str:
    """What no handshake has, whatever else it says; empty if there is nothing of it."""
    if version == "HTTP/1.0":
        return "a handshake needs HTTP/1.1"
    lengths = request.header_lines("Content-Length")
    if request.header_lines("Transfer-Encoding") or (lengths and ",".join(lengths) != "0"):
        return "a handshake has no body"
    return ""


def switching_protocols(request: HttpRequest, subprotocol: str | None, extensions: str = "") -> bytes:
    """The 101 for a request that is a handshake; `extensions` are those agreed on."""
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    if extensions:
        chosen += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_value(request.header('Sec-WebSocket-Key'))}\r\n{chosen}\r\n"
    ).encode("latin-1")


def _joined(request: HttpRequest, name: str) -> str:
    return ",".join(request.header_lines(name))


def _says_upgrade(request: HttpRequest) -> bool:
    return "upgrade" in (part.strip().lower() for part in _joined(request, "Connection").split(","))

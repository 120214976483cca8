"""What a client may ask for over its connection: `ack`, `ping`, `refresh`."""

from __future__ import annotations

from dataclasses import dataclass

from pushserver.core.jsontext import parse_quick

__all__ = ["Ack", "ClientPing", "Refresh", "Request", "parse_request"]


@dataclass(frozen=True, slots=True)
class Ack:
    """`{"type":"ack","ids":[...]}`: these messages were received. Ids may be anything JSON has."""

    ids: list[object]


@dataclass(frozen=True, slots=True)
class ClientPing:
    """`{"type":"ping"}`: for clients that cannot see WebSocket pings."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """`{"type":"refresh","token":"..."}`: a new token of the same user."""

    token: str


Request = Ack | ClientPing | Refresh


def parse_request(text: bytes) -> Request:
    """The request in a text message. Raises `ValueError` with a text for the client, which quotes nothing."""
    try:
        frame = parse_quick(text)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(frame, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - bad input, not a bad argument
    kind = frame.get("type")
    if kind == "ack":
        ids = frame.get("ids")
        if not isinstance(ids, list):
            raise ValueError("ack: ids must be a list")
        return Ack(ids)
    if kind == "ping":
        return ClientPing()
    if kind == "refresh":
        token = frame.get("token")
        if not isinstance(token, str):
            raise ValueError("refresh: token must be a text")
        return Refresh(token)
    raise ValueError("type must be ack, ping or refresh")

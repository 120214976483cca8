"""What a client may ask for, and what it is told when it asks for something else."""

from __future__ import annotations

import pytest

from pushserver.delivery.requests import Ack, ClientPing, Refresh, Request, parse_request


@pytest.mark.parametrize(
    "text, request_",
    [
        (b'{"type":"ping"}', ClientPing()),
        (b' {"type": "ping", "more": 1} ', ClientPing()),
        (b'{"type":"ack","ids":[]}', Ack([])),
        (b'{"type":"ack","ids":["a",1,null,{"b":[]}]}', Ack(["a", 1, None, {"b": []}])),
        (b'{"type":"refresh","token":"a.b.c"}', Refresh("a.b.c")),
    ],
)
def test_a_request_is_a_json_object_with_a_type(text: bytes, request_: Request) -> None:
    assert parse_request(text) == request_


@pytest.mark.parametrize(
    "text, told",
    [
        (b"", "not JSON"),
        (b"secret{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'"ping"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "type must be ack, ping or refresh"),
        (b'{"type":["ping"]}', "type must be ack, ping or refresh"),
        (b'{"type":"secret"}', "type must be ack, ping or refresh"),
        (b'{"type":"ack"}', "ack: ids must be a list"),
        (b'{"type":"ack","ids":"secret"}', "ack: ids must be a list"),
        (b'{"type":"ack","ids":{"secret":1}}', "ack: ids must be a list"),
        (b'{"type":"refresh"}', "refresh: token must be a text"),
        (b'{"type":"refresh","token":7}', "refresh: token must be a text"),
    ],
)
def test_anything_else_is_refused_with_a_text_that_quotes_nothing(text: bytes, told: str) -> None:
    with pytest.raises(ValueError, match="^" + told + "$"):
        parse_request(text)

"""What a handshake is, and the answer to it; most of it is shown over sockets in `test_handler`."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.request import HttpRequest
from pushserver.web.upgrade import accept_value, switching_protocols


def test_the_answer_to_a_key_is_that_of_the_rfc() -> None:
    """RFC 6455 section 1.3."""
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ== ",
        "dGhlIHNhbXBsZSBub25jZQ=\u2713",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub24=",
        "dGhlIHNhbXBsZSBub25jZQ==,dGhlIHNhbXBsZSBub25jZQ==",
        "dGhl IHNhbXBsZSBub25jZQ=",
        "A" * 100_000,
    ],
)
def test_a_key_that_is_not_16_bytes_in_base64_has_no_answer(key: str) -> None:
    assert accept_value(key) is None


@given(st.binary(max_size=24))
def test_a_key_is_any_16_bytes(raw: bytes) -> None:
    key = base64.b64encode(raw).decode()
    assert (accept_value(key) is not None) == (len(raw) == 16)


def test_the_101_names_the_subprotocol_only_if_there_is_one() -> None:
    request = HttpRequest("GET", "/ws", headers=[("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    assert switching_protocols(request, None) == head + b"\r\n"
    assert switching_protocols(request, "a.b") == head + b"Sec-WebSocket-Protocol: a.b\r\n\r\n"

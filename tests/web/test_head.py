"""Heads that the front reads itself: none that Tornado would refuse, none that it would read otherwise."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPServerRequest,
    parse_request_start_line,
)

from pushserver.core.request import HttpRequest
from pushserver.web.head import MAX_QUERY_PARTS, find_end, read_head

GOOD = (
    b"GET /ws?user=bob&x=%41 HTTP/1.1\r\nHost: push.example:8000\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nX-Empty:\r\nx-empty: \r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: a=b; c=d  \r\n\r\n"
)
LINES = GOOD[:-4].split(b"\r\n")


def read(head: bytes) -> HttpRequest | None:
    return read_head(head, "192.0.2.1", unix_socket=False)


def with_line(*lines: bytes) -> bytes:
    """The good head with more lines, or others in place of the lines that begin so."""
    names = {line.partition(b":")[0].lower() for line in lines}
    kept = [line for line in LINES if line.partition(b":")[0].lower() not in names]
    return b"\r\n".join([*kept, *lines, b"", b""])


def with_start(line: bytes) -> bytes:
    return b"\r\n".join([line, *LINES[1:], b"", b""])


def by_tornado(head: bytes) -> HTTPServerRequest:
    """The request as Tornado's `HTTP1Connection` and `HTTPServer` make it. Raises `HTTPInputError`."""
    text = head.decode("latin-1").lstrip("\r\n")
    end = text.find("\n")
    start = parse_request_start_line(text[:end].rstrip("\r"))
    return HTTPServerRequest(start_line=start, headers=HTTPHeaders.parse(text[end:]))


def grouped(headers: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def assert_no_laxer_than_tornado(head: bytes) -> None:
    """What is read here Tornado reads, too, and just so; there is no body that it would wait for."""
    ours = read(head)
    if ours is None:
        return
    theirs = by_tornado(head)
    headers = grouped(list(theirs.headers.get_all()))
    assert [ours.host] == headers.pop("Host")
    assert (ours.method, ours.path, ours.query) == (theirs.method, theirs.path, theirs.query)
    assert theirs.version == "HTTP/1.1"
    assert grouped(list(ours.headers)) == headers
    assert not {"Content-Length", "Transfer-Encoding"} & headers.keys()


def test_a_decent_head_is_read_here() -> None:
    request = read(GOOD)
    assert request is not None
    assert (request.path, request.query, request.host) == ("/ws", "user=bob&x=%41", "push.example:8000")
    assert (request.peer, request.unix_socket) == ("192.0.2.1", False)
    assert request.header_lines("x-empty") == ["", ""]
    assert request.header("cookie") == "a=b; c=d"
    assert_no_laxer_than_tornado(GOOD)


HOSTILE = {
    "obs-fold": with_line(b"X: a", b" folded: b"),
    "a bare LF behind a header": with_line(b"X: a\nY: b"),
    "a bare CR in a value": with_line(b"X: a\rY: b"),
    "a bare LF behind the start line": GOOD.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "a bare LF at the end": GOOD[:-2] + b"\n",
    "NUL in a value": with_line(b"X: a\x00b"),
    "NUL in a name": with_line(b"X\x00: a"),
    "a control character": with_line(b"X: \x1b[2J"),
    "DEL": with_line(b"X: \x7f"),
    "a tab": with_line(b"X:\ta"),
    "a byte beyond ASCII in a value": with_line(b"X: \xe9"),
    "a byte beyond ASCII in a name": with_line(b"X\xe9: a"),
    "a byte beyond ASCII in the target": with_start(b"GET /ws?\xe9 HTTP/1.1"),
    "a space before the colon": with_line(b"X : a"),
    "a space before Transfer-Encoding's colon": with_line(b"Transfer-Encoding : chunked"),
    "a space before a name": with_line(b" X: a"),
    "no colon": with_line(b"X"),
    "no name": with_line(b": a"),
    "Content-Length": with_line(b"Content-Length: 5"),
    "Content-Length 0": with_line(b"Content-Length: 0"),
    "Content-Length twice": with_line(b"Content-Length: 0", b"Content-Length: 5"),
    "Content-Length garbled": with_line(b"Content-Length: +5"),
    "Content-Length in other letters": with_line(b"cOnTeNt-LeNgTh: 5"),
    "Transfer-Encoding": with_line(b"Transfer-Encoding: chunked"),
    "Transfer-Encoding garbled": with_line(b"Transfer-Encoding: xchunked"),
    "both lengths": with_line(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "Expect": with_line(b"Expect: 100-continue"),
    "no Host": with_line(b"Host: a").replace(b"Host: a\r\n", b""),
    "two Hosts": with_line(b"Host: a", b"Host: a"),
    "two Hosts in one": with_line(b"Host: a, b"),
    "an empty Host": with_line(b"Host:"),
    "a Host with a path": with_line(b"Host: a/b"),
    "a Host with a user": with_line(b"Host: a@b"),
    "a Host with a space": with_line(b"Host: a b"),
    "an absolute target": with_start(b"GET http://a/ws HTTP/1.1"),
    "an authority target": with_start(b"CONNECT a:80 HTTP/1.1"),
    "an asterisk target": with_start(b"OPTIONS * HTTP/1.1"),
    "another path": with_start(b"GET /wss HTTP/1.1"),
    "an encoded path": with_start(b"GET /%77s HTTP/1.1"),
    "another method": with_start(b"POST /ws HTTP/1.1"),
    "a method in small letters": with_start(b"get /ws HTTP/1.1"),
    "HTTP/1.0": with_start(b"GET /ws HTTP/1.0"),
    "HTTP/1.2": with_start(b"GET /ws HTTP/1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /ws\r\n\r\n",
    "a space more in the start line": with_start(b"GET  /ws HTTP/1.1"),
    "a space behind the start line": with_start(b"GET /ws HTTP/1.1 "),
    "a space in the target": with_start(b"GET /ws?a b HTTP/1.1"),
    "an empty line first": b"\r\n" + GOOD,
    "no header": b"GET /ws HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "too many parts of a query": with_start(b"GET /ws?" + b"a&" * MAX_QUERY_PARTS + b" HTTP/1.1"),
    "two requests": GOOD + GOOD,
    "something behind it": GOOD + b"x",
    "not whole": GOOD[:-2],
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_not_plain_is_left_to_tornado(name: str) -> None:
    assert read(HOSTILE[name]) is None


def test_a_name_that_is_too_long_to_be_kept_is_spelled_all_the_same() -> None:
    head = with_line(b"x-" + b"a" * 1000 + b"-b: 1")
    request = read(head)
    assert request is not None
    assert request.headers[-1] == ("X-A" + "a" * 999 + "-B", "1")
    assert_no_laxer_than_tornado(head)


SNIPPETS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b",", b"\xe9", b"\x7f", b"\x85"]
SNIPPETS += [b"/", b"?", b"#", b"%", b"@", b"HTTP/1.1", b"GET /ws", b"Host: b\r\n", b"Content-Length: 1\r\n"]
SNIPPETS += [b"Transfer-Encoding: chunked\r\n"]
EDITS = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 3), st.sampled_from(SNIPPETS))
BYTES = st.binary(max_size=12)


@settings(max_examples=400)
@given(st.lists(EDITS, max_size=4))
def test_no_mutation_of_a_decent_head_is_read_where_tornado_refuses_or_reads_otherwise(
    edits: list[tuple[int, int, bytes]],
) -> None:
    head = GOOD
    for at, gone, put in edits:
        head = head[:at] + put + head[at + gone :]
    end = find_end(head, 0)
    try:
        assert_no_laxer_than_tornado(head[:end])
    except HTTPInputError as error:
        raise AssertionError(f"read here, but not by Tornado: {error}") from None


@given(st.lists(st.tuples(BYTES, BYTES), max_size=5), BYTES)
def test_no_head_of_any_bytes_is_read_where_tornado_refuses_or_reads_otherwise(
    headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    lines = [b"%b:%b\r\n" % header for header in headers]
    head = b"GET /ws?%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (query, b"".join(lines))
    assert_no_laxer_than_tornado(head)


ENDS = st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\r\n"]), max_size=12).map(b"".join)


@given(ENDS, st.lists(st.integers(0, 24)))
def test_a_head_ends_where_tornado_takes_it_to_end_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    found = re.search(rb"\r?\n\r?\n", data)
    expected = 0 if found is None else found.end()
    assert find_end(data, 0) == expected
    known = 0
    for cut in [*sorted(cut for cut in cuts if cut <= len(data)), len(data)]:
        end = find_end(data[:cut], known)
        if end:
            break
        known = cut
    assert end == expected

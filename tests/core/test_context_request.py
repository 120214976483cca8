from __future__ import annotations

import pytest

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context_request import ContextRequest
from pushserver.core.request import HttpRequest, NoCookieError


class Asked(ContextRequest):
    def __init__(self, request: HttpRequest, rule: ClientIPRule | None = None) -> None:
        self.request = request
        self.params = [("room", "a"), ("rest", "/b/c")]
        self._client_ip_rule = rule or ClientIPRule()
        self._full_path = "/ws/:room/*rest"


def asked(query: str = "", **headers: str) -> Asked:
    lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Asked(HttpRequest("GET", "/ws", query, lines, peer="2001:DB8::1"))


@pytest.mark.parametrize(
    "gin, python",
    [
        ("ClientIP", "client_ip"),
        ("RemoteIP", "remote_ip"),
        ("GetHeader", "get_header"),
        ("ContentType", "content_type"),
        ("IsWebsocket", "is_websocket"),
        ("Cookie", "cookie"),
        ("Param", "param"),
        ("AddParam", "add_param"),
        ("FullPath", "full_path"),
        ("GetQuery", "get_query"),
        ("Query", "query"),
        ("DefaultQuery", "default_query"),
        ("GetQueryArray", "get_query_array"),
        ("QueryArray", "query_array"),
        ("GetQueryMap", "get_query_map"),
        ("QueryMap", "query_map"),
    ],
)
def test_each_method_answers_to_gins_spelling(gin: str, python: str) -> None:
    assert getattr(ContextRequest, gin) is getattr(ContextRequest, python)


def test_addresses_come_from_the_rule_that_was_passed_in() -> None:
    request = HttpRequest("GET", "/ws", headers=[("X-Real-IP", "192.0.2.9")], peer="2001:DB8::1")
    assert Asked(request).client_ip() == "2001:db8::1"
    assert Asked(request).remote_ip() == "2001:DB8::1"
    assert Asked(request, ClientIPRule(["2001:db8::/32"])).client_ip() == "192.0.2.9"


def test_a_header_is_looked_up_in_any_letter_case() -> None:
    assert asked(X_Thing="v").get_header("x-thing") == "v"
    assert asked().get_header("x-thing") == ""


@pytest.mark.parametrize(
    "value, answer",
    [
        ("Application/JSON; charset=utf-8", "Application/JSON"),
        ("text/plain ;a", "text/plain"),
        ("text/plain;a b", "text/plain"),
        ("text/plain", "text/plain"),
        ("", ""),
    ],
)
def test_the_content_type_is_cut_and_kept_as_written(value: str, answer: str) -> None:
    assert asked(Content_Type=value).content_type() == answer
    assert asked().content_type() == ""


@pytest.mark.parametrize(
    "connection, upgrade, answer",
    [
        ("Upgrade", "websocket", True),
        ("keep-alive, uPGRADE", "WebSocket", True),
        ("keep-alive", "websocket", False),
        ("Upgrade", "h2c", False),
        ("Upgrade", "websocket, h2c", False),
        ("", "", False),
    ],
)
def test_a_websocket_is_asked_for_by_both_headers(connection: str, upgrade: str, answer: bool) -> None:
    assert asked(Connection=connection, Upgrade=upgrade).is_websocket() is answer


def test_a_cookie_is_found_or_an_error_raised() -> None:
    assert asked(Cookie="a=1%2B1").cookie("a") == "1+1"
    with pytest.raises(NoCookieError):
        asked().cookie("a")


def test_the_first_route_parameter_of_a_name_counts() -> None:
    ctx = asked()
    ctx.add_param("room", "later")
    ctx.add_param("new", "n")
    assert [ctx.param(name) for name in ("room", "rest", "new", "missing")] == ["a", "/b/c", "n", ""]
    assert ctx.full_path() == "/ws/:room/*rest"


def test_the_first_value_of_a_query_key_counts_even_an_empty_one() -> None:
    ctx = asked("a=&a=2&b=3")
    assert ctx.get_query("a") == ("", True)
    assert ctx.get_query("b") == ("3", True)
    assert ctx.get_query("c") == ("", False)
    assert [ctx.query("a"), ctx.query("b"), ctx.query("c")] == ["", "3", ""]
    assert [ctx.default_query(key, "d") for key in "abc"] == ["", "3", "d"]


def test_all_values_of_a_query_key_come_in_a_list_of_ones_own() -> None:
    ctx = asked("a=&a=2")
    assert ctx.get_query_array("a") == (["", "2"], True)
    assert ctx.get_query_array("b") == ([], False)
    ctx.query_array("a").append("mine")
    assert ctx.query_array("a") == ["", "2"]
    assert ctx.query_array("b") == []


def test_a_query_map_is_read_from_brackets() -> None:
    ctx = asked(
        "k[a]=1&k[a]=2&k[b][c]=3&k[]=4&k[open=5&k=6&other[d]=7&kk[e]=8&k%5Bf%5D=9&k[a][x]=10&k[g]tail=11"
    )
    assert ctx.get_query_map("k") == ({"a": "1", "b": "3", "f": "9", "g": "11"}, True)
    assert ctx.query_map("other") == {"d": "7"}
    assert ctx.get_query_map("missing") == ({}, False)
    assert ctx.query_map("missing") == {}


def test_another_request_has_another_query() -> None:
    ctx = asked("a=1")
    assert ctx.query("a") == "1"
    ctx.request = HttpRequest("GET", "/ws", "a=2")
    assert ctx.query("a") == "2"

from __future__ import annotations

import pytest

from pushserver.core.request import HttpRequest
from pushserver.web.credentials import (
    BadHandshakeError,
    Credentials,
    TokenSource,
    check_user_hint,
    find_credentials,
)

TOKEN = "aaaa.bbbb.cccc"
OTHER = "dddd.eeee.ffff"
PROTOCOL = "Sec-WebSocket-Protocol"
EVERYWHERE = {
    TokenSource.HEADER: ("Authorization", f"Bearer {TOKEN}"),
    TokenSource.COOKIE: ("Cookie", f"pushserver_token={TOKEN}"),
    TokenSource.SUBPROTOCOL: (PROTOCOL, f"pushserver.v1, bearer.{TOKEN}"),
}


def request(*headers: tuple[str, str], query: str = "") -> HttpRequest:
    return HttpRequest("GET", "/ws", query, headers)


def find(
    *headers: tuple[str, str], query: str = "", accept_cookie: bool = True, query_token: bool = True
) -> Credentials:
    return find_credentials(
        request(*headers, query=query), accept_cookie=accept_cookie, query_token=query_token
    )


def refusal(*headers: tuple[str, str], query: str = "") -> str:
    with pytest.raises(BadHandshakeError) as caught:
        find(*headers, query=query)
    return caught.value.reason


# Carriers


@pytest.mark.parametrize("source", EVERYWHERE)
def test_each_carrier_brings_the_token(source: TokenSource) -> None:
    found = find(EVERYWHERE[source])
    assert (found.token, found.source) == (TOKEN, source)


def test_the_query_brings_the_token() -> None:
    found = find(query=f"user=alice&token={TOKEN}")
    assert (found.token, found.source) == (TOKEN, TokenSource.QUERY)


def test_a_handshake_without_a_token_has_none() -> None:
    assert find() == Credentials(None, None, None, False)


def test_the_query_is_not_looked_at_unless_it_is_switched_on() -> None:
    assert find(query=f"token={TOKEN}", query_token=False).token is None


def test_the_cookie_is_not_looked_at_unless_it_is_accepted() -> None:
    assert find(EVERYWHERE[TokenSource.COOKIE], accept_cookie=False).token is None


def test_carriers_that_are_switched_off_contradict_nobody() -> None:
    found = find(
        EVERYWHERE[TokenSource.SUBPROTOCOL],
        ("Cookie", f"pushserver_token={OTHER}"),
        query=f"token={OTHER}",
        accept_cookie=False,
        query_token=False,
    )
    assert (found.token, found.source) == (TOKEN, TokenSource.SUBPROTOCOL)


def test_a_token_in_several_carriers_counts_for_the_first_in_order() -> None:
    everywhere = [EVERYWHERE[source] for source in reversed(EVERYWHERE)]
    query = f"token={TOKEN}"
    assert find(*everywhere, query=query).source is TokenSource.HEADER
    assert find(*everywhere[:-1], query=query).source is TokenSource.COOKIE
    assert find(*everywhere[:-2], query=query).source is TokenSource.SUBPROTOCOL


CARRYING_ANOTHER = [
    ("Authorization", f"Bearer {OTHER}"),
    ("Cookie", f"pushserver_token={OTHER}"),
    (PROTOCOL, f"pushserver.v1.ack, bearer.{OTHER}"),
]


@pytest.mark.parametrize("first", EVERYWHERE.values(), ids=EVERYWHERE)
@pytest.mark.parametrize("second", CARRYING_ANOTHER, ids=EVERYWHERE)
def test_two_different_tokens_are_refused(first: tuple[str, str], second: tuple[str, str]) -> None:
    """Two carriers, and the same one twice: a second cookie may come from a neighbouring host."""
    assert refusal(first, second) == "the request brings two different tokens"


@pytest.mark.parametrize("first", EVERYWHERE.values(), ids=EVERYWHERE)
def test_the_query_may_not_bring_another_token(first: tuple[str, str]) -> None:
    assert refusal(first, query=f"token={OTHER}") == "the request brings two different tokens"


def test_two_different_tokens_in_one_list_are_refused() -> None:
    assert refusal(("Cookie", f"pushserver_token={TOKEN}; pushserver_token={OTHER}"))
    assert refusal((PROTOCOL, f"pushserver.v1, bearer.{TOKEN}, bearer.{OTHER}"))
    assert refusal(query=f"token={TOKEN}&token={OTHER}")


@pytest.mark.parametrize(
    "empty",
    [
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer "),
        ("Cookie", "pushserver_token="),
        ("Cookie", "pushserver_token"),
        (PROTOCOL, "pushserver.v1, bearer."),
    ],
    ids=str,
)
def test_an_empty_token_is_none(empty: tuple[str, str]) -> None:
    assert (find(empty).token, find(empty).source) == (None, None)
    assert find(empty, query=f"token={TOKEN}").source is TokenSource.QUERY


def test_nothing_that_is_printed_shows_the_token() -> None:
    assert TOKEN not in repr(find(*EVERYWHERE.values(), query=f"token={TOKEN}"))
    assert TOKEN not in refusal((PROTOCOL, f"bearer.{TOKEN}"))
    assert TOKEN not in refusal((PROTOCOL, f"pushserver.v1, bearer.{TOKEN}, bearer.{TOKEN}"))
    assert TOKEN not in refusal((PROTOCOL, f"bearer.{TOKEN}/"))


# Authorization


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_the_scheme_and_the_header_name_have_any_letter_case(name: str, scheme: str) -> None:
    assert find((name, f" {scheme}   {TOKEN} ")).token == TOKEN


@pytest.mark.parametrize(
    "value", ["Basic YTpi", TOKEN, f"Token {TOKEN}", f"Bearer:{TOKEN}", f"X Bearer {TOKEN}", ""]
)
def test_another_scheme_is_somebody_elses_business(value: str) -> None:
    assert find(("Authorization", value)).token is None
    assert find(("Authorization", value), EVERYWHERE[TokenSource.COOKIE]).source is TokenSource.COOKIE


def test_several_tokens_joined_in_one_line_are_not_taken_apart() -> None:
    """Neither is the token then, so that verification refuses it."""
    assert find(("Authorization", f"Bearer {TOKEN}, Bearer {OTHER}")).token == f"{TOKEN}, Bearer {OTHER}"


# Cookie


@pytest.mark.parametrize(
    "value",
    [
        f"a=1; pushserver_token={TOKEN}; b=2",
        f"a=1;pushserver_token={TOKEN}",
        f"a; ; =; pushserver_token = {TOKEN} ;",
        f'a="x; pushserver_token={TOKEN}',
    ],
)
def test_the_cookie_is_found_among_others(value: str) -> None:
    assert find(("Cookie", value)).token == TOKEN


@pytest.mark.parametrize(
    "name",
    [
        "Pushserver_token",
        "pushserver_tokens",
        "xpushserver_token",
        "a=pushserver_token",
        "\xa0pushserver_token",
    ],
)
def test_a_cookie_of_another_name_is_not_ours(name: str) -> None:
    assert find(("Cookie", f"{name}={TOKEN}")).token is None


def test_a_cookie_may_stand_in_its_own_line() -> None:
    """HTTP/2 front ends split cookies."""
    assert find(("Cookie", "a=1"), ("Cookie", f"pushserver_token={TOKEN}")).token == TOKEN


def test_a_cookie_keeps_what_follows_its_first_equals_sign() -> None:
    assert find(("Cookie", "pushserver_token=a=b")).token == "a=b"


# Subprotocols


@pytest.mark.parametrize(
    "offered, selected",
    [
        ("pushserver.v1", "pushserver.v1"),
        ("pushserver.v1.ack", "pushserver.v1.ack"),
        ("pushserver.v1, pushserver.v1.ack", "pushserver.v1"),
        ("pushserver.v1.ack,pushserver.v1", "pushserver.v1.ack"),
        (f"bearer.{TOKEN}, chat\t,  pushserver.v1", "pushserver.v1"),
        ("pushserver.v1.later, pushserver.v1", "pushserver.v1"),
        ("chat", None),
        ("PUSHSERVER.V1", None),
        ("pushserver.v10", None),
        ("pushserver.v2", None),
        ("pushserver.v1.later", None),
    ],
)
def test_the_first_offer_that_we_speak_is_selected(offered: str, selected: str | None) -> None:
    assert find((PROTOCOL, offered)).subprotocol == selected


@pytest.mark.parametrize("version", ["pushserver.v1", "pushserver.v1.ack"])
def test_the_bearer_subprotocol_is_never_selected(version: str) -> None:
    found = find((PROTOCOL, f"bearer.{TOKEN}, {version}"))
    assert (found.token, found.subprotocol) == (TOKEN, version)


@pytest.mark.parametrize(
    "offered, ours",
    [
        ("pushserver.v1", True),
        ("chat, pushserver.v1.ack", True),
        ("pushserver.v1.later", True),
        ("pushserver.v10", False),
        ("pushserver", False),
        ("xpushserver.v1", False),
        ("chat", False),
    ],
)
def test_a_browser_that_speaks_our_protocol_is_known_by_its_offer(offered: str, ours: bool) -> None:
    assert find((PROTOCOL, offered)).offered_pushserver is ours


def test_offers_in_several_lines_are_one_list() -> None:
    found = find((PROTOCOL, "chat"), (PROTOCOL.lower(), f"bearer.{TOKEN}"), (PROTOCOL, "pushserver.v1"))
    assert (found.token, found.subprotocol) == (TOKEN, "pushserver.v1")


@pytest.mark.parametrize(
    "offered", [f"bearer.{TOKEN}", "bearer.", f"chat, bearer.{TOKEN}", f"bearer.{TOKEN}, pushserver.v10"]
)
def test_a_bearer_offered_alone_is_refused(offered: str) -> None:
    assert "bearer" in refusal((PROTOCOL, offered))


@pytest.mark.parametrize("separator", '()<>@,;:\\"/[]?={} \t\x00\x1f\x7f\x80\xe9', ids=ascii)
def test_a_subprotocol_is_a_token_of_rfc_6455(separator: str) -> None:
    assert refusal((PROTOCOL, f"pushserver.v1, a{separator}{separator}b")) == f"{PROTOCOL} is malformed"


def test_every_other_printable_character_may_stand_in_a_subprotocol() -> None:
    assert find((PROTOCOL, "pushserver.v1, !#$%&'*+-.^_`|~09azAZ")).subprotocol == "pushserver.v1"


@pytest.mark.parametrize("offered", ["", ",", "pushserver.v1,", ",pushserver.v1", "pushserver.v1,,chat", " "])
def test_an_empty_subprotocol_is_refused(offered: str) -> None:
    assert refusal((PROTOCOL, offered)) == f"{PROTOCOL} is malformed"


def test_a_repeated_subprotocol_is_refused() -> None:
    repeated = f"{PROTOCOL} repeats a subprotocol"
    assert refusal((PROTOCOL, "pushserver.v1, pushserver.v1")) == repeated
    assert refusal((PROTOCOL, "pushserver.v1"), (PROTOCOL, "chat, pushserver.v1")) == repeated
    assert refusal((PROTOCOL, f"pushserver.v1, bearer.{TOKEN}, bearer.{TOKEN}")) == repeated


# Query


def test_the_query_is_decoded() -> None:
    assert find(query="token=a%2Eb%2Ec").token == "a.b.c"


@pytest.mark.parametrize("query", ["", "token", "token=", "Token=a", "xtoken=a", "a=token=b", "%", "&&;="])
def test_a_query_without_a_token_has_none(query: str) -> None:
    assert find(query=query).token is None


@pytest.mark.parametrize(
    "query", ["", "user=alice", "token=x&user=alice", "user=alice&user=alice", "users=bob"]
)
def test_a_routing_hint_that_is_absent_or_true_is_let_through(query: str) -> None:
    check_user_hint(request(query=query), "alice")


def test_a_routing_hint_is_compared_decoded() -> None:
    check_user_hint(request(query="user=%E7%8E%8B+a%26b"), "王 a&b")


@pytest.mark.parametrize(
    "query",
    [
        "user=bob",
        "user=",
        "user",
        "user=Alice",
        "user=alice%20",
        "user=alice&user=bob",
        "user=%FF",
        "user=alice%00",
    ],
)
def test_a_routing_hint_for_somebody_else_is_refused(query: str) -> None:
    with pytest.raises(BadHandshakeError) as caught:
        check_user_hint(request(query=query), "alice")
    assert caught.value.reason == "user is not the subject of the token"

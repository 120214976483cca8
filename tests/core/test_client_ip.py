from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.request import HttpRequest
from tests.core.scaling import is_linear

GIN_TRUSTS = ["0.0.0.0/0", "::/0"]
GIN_CASES = json.loads((Path(__file__).parent / "gin_clientip_cases.json").read_text())["cases"]


def asked_by(peer: str, **headers: str) -> HttpRequest:
    return HttpRequest("GET", "/ws", headers=_lines(headers), peer=peer)


def asked_over_unix_socket(**headers: str) -> HttpRequest:
    return HttpRequest("GET", "/ws", headers=_lines(headers), unix_socket=True)


def _lines(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]


def peer_of(remote_addr: str) -> str:
    """Go's net.SplitHostPort over the trimmed text: "" for what has no port to split off."""
    text = remote_addr.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host if rest.startswith(":") else ""
    host, _, _ = text.partition(":")
    return host if text.count(":") == 1 else ""


def rule_of(case: dict[str, Any]) -> ClientIPRule:
    trusted, headers = case["trusted_proxies"], case["remote_ip_headers"]
    options = {} if headers == "default" else {"headers": headers}
    return ClientIPRule(
        GIN_TRUSTS if trusted == "default" else trusted,
        platform_header=case["trusted_platform"],
        forwarded_by_client_ip=case["forwarded_by_client_ip"],
        **options,
    )


@pytest.mark.parametrize("case", GIN_CASES, ids=[case["id"] for case in GIN_CASES])
def test_the_answer_is_that_of_a_running_gin(case: dict[str, Any]) -> None:
    rule = rule_of(case)
    headers = [(name, value) for name, value in case["headers"]]
    request = HttpRequest("GET", "/ws", headers=headers, peer=peer_of(case["remote_addr"]))
    answers = {"client_ip": rule.client_ip(request), "remote_ip": rule.remote_ip(request)}
    assert answers == case["expect"]


def test_there_are_a_hundred_answers_of_gin() -> None:
    assert len(GIN_CASES) == 100


@pytest.mark.parametrize("trusted", [None, [], ()])
def test_nobody_is_trusted_unless_told(trusted: list[str] | None) -> None:
    request = asked_by("127.0.0.1", X_Forwarded_For="1.2.3.4", X_Real_IP="1.2.3.4")
    assert ClientIPRule(trusted).client_ip(request) == "127.0.0.1"
    assert ClientIPRule().client_ip(request) == "127.0.0.1"


def test_no_single_entry_trusts_the_other_address_family() -> None:
    rule = ClientIPRule(["::/0"])
    assert rule.client_ip(asked_by("10.0.0.1", X_Forwarded_For="1.2.3.4")) == "10.0.0.1"
    assert rule.client_ip(asked_by("::ffff:10.0.0.1", X_Forwarded_For="1.2.3.4")) == "10.0.0.1"
    assert rule.client_ip(asked_by("2001:db8::1", X_Forwarded_For="1.2.3.4")) == "1.2.3.4"


@pytest.mark.parametrize(
    "peer, answer",
    [
        ("2001:0DB8:0:0:0:0:0:A", "2001:db8::a"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", ""),
        ("localhost", ""),
        ("01.2.3.4", ""),
        ("", ""),
    ],
)
def test_the_peer_comes_back_in_normal_form_or_not_at_all(peer: str, answer: str) -> None:
    rule = ClientIPRule(GIN_TRUSTS)
    assert rule.client_ip(asked_by(peer)) == answer
    assert rule.remote_ip(asked_by(peer)) == peer


def test_a_peer_that_is_no_address_vouches_for_nobody() -> None:
    assert ClientIPRule(GIN_TRUSTS).client_ip(asked_by("fe80::1%eth0", X_Forwarded_For="1.2.3.4")) == ""


@pytest.mark.parametrize(
    "value, answer",
    [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("\t2001:DB8::A ,10.0.0.2", "2001:DB8::A"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, unknown", ""),
        ("203.0.113.7,", ""),
        ("203.0.113.7:80", ""),
        ("[2001:db8::a]", ""),
        ("fe80::1%eth0", ""),
        ("203.0.113.07", ""),
        ("203.0.113.0/24", ""),
        ("203.0.113.7\xa0", ""),
        ("203.0.113.7\x85, 10.0.0.2", ""),
        ("", ""),
    ],
)
def test_a_header_is_walked_from_the_right_past_trusted_proxies(value: str, answer: str) -> None:
    rule = ClientIPRule(["10.0.0.0/8"], ["X-Forwarded-For"])
    assert rule.client_ip(asked_by("10.0.0.1", X_Forwarded_For=value)) == (answer or "10.0.0.1")


def test_the_first_header_with_an_answer_wins_in_the_order_given() -> None:
    both = asked_by("10.0.0.1", X_Forwarded_For="1.1.1.1", X_Real_IP="2.2.2.2")
    broken = asked_by("10.0.0.1", X_Forwarded_For="?", X_Real_IP="2.2.2.2")
    assert ClientIPRule(["10.0.0.1"]).client_ip(both) == "1.1.1.1"
    assert ClientIPRule(["10.0.0.1"], ["X-Real-IP", "X-Forwarded-For"]).client_ip(both) == "2.2.2.2"
    assert ClientIPRule(["10.0.0.1"]).client_ip(broken) == "2.2.2.2"


@pytest.mark.parametrize("options", [{"headers": None}, {"headers": []}, {"forwarded_by_client_ip": False}])
def test_forwarding_headers_can_be_switched_off(options: dict[str, Any]) -> None:
    rule = ClientIPRule(GIN_TRUSTS, **options)
    assert rule.client_ip(asked_by("10.0.0.1", X_Forwarded_For="1.1.1.1")) == "10.0.0.1"


def test_the_platform_header_is_believed_as_it_stands_whoever_sends_it() -> None:
    rule = ClientIPRule(platform_header="CF-Connecting-IP")
    assert rule.client_ip(asked_by("8.8.8.8", cf_connecting_ip="any text")) == "any text"
    assert rule.client_ip(asked_by("not an address", cf_connecting_ip="1.1.1.1")) == "1.1.1.1"
    assert rule.client_ip(asked_by("8.8.8.8", cf_connecting_ip="")) == "8.8.8.8"
    assert rule.client_ip(asked_by("8.8.8.8")) == "8.8.8.8"


def test_a_unix_socket_is_always_trusted_and_has_no_address_of_its_own() -> None:
    rule = ClientIPRule()
    assert rule.client_ip(asked_over_unix_socket(X_Forwarded_For="6.6.6.6, 1.1.1.1")) == "1.1.1.1"
    assert rule.client_ip(asked_over_unix_socket()) == ""
    assert rule.remote_ip(asked_over_unix_socket()) == ""


def test_a_unix_socket_has_no_address_even_if_the_framework_invents_one() -> None:
    request = HttpRequest("GET", "/ws", peer="0.0.0.0", unix_socket=True)
    assert ClientIPRule(GIN_TRUSTS).client_ip(request) == ""
    assert ClientIPRule(GIN_TRUSTS).remote_ip(request) == ""


@pytest.mark.parametrize(
    "proxy, inside, outside",
    [
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("10.1.2.3/8", "10.200.0.1", "11.0.0.1"),
        ("2001:DB8::1", "2001:db8::1", "2001:db8::2"),
        ("2001:db8::ff/32", "2001:db8:1::", "2001:db9::"),
        ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
        ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", "::a00:1"),
        ("::ffff:0:0/96", "1.2.3.4", "::1"),
        ("::ffff:0:0/95", "::fffe:1.2.3.4", "1.2.3.4"),
        # gin trusts nothing here, by a slip that is not copied.
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
    ],
)
def test_a_proxy_is_an_address_or_a_network(proxy: str, inside: str, outside: str) -> None:
    rule = ClientIPRule([proxy])
    assert rule.client_ip(asked_by(inside, X_Real_IP="192.0.2.9")) == "192.0.2.9"
    assert rule.client_ip(asked_by(outside, X_Real_IP="192.0.2.9")) != "192.0.2.9"


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "proxy.example",
        "localhost",
        "010.0.0.1",
        "10.0.0.0/08",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        " 10.0.0.1",
        "10.0.0.1\n",
        "10.0.0.0/ 8",
        "10.0.0.1:80",
        "[::1]",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/+8",
        "10.0.0.0/-8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/8/8",
        "10.0.0.0/٨",
        "10",
        "10.0.0.1,10.0.0.2",
    ],
)
def test_any_other_form_of_a_proxy_is_refused_by_name(proxy: str) -> None:
    with pytest.raises(ValueError, match="trusted proxy") as caught:
        ClientIPRule(["10.0.0.1", proxy])
    assert repr(proxy) in str(caught.value)


@pytest.mark.parametrize("pattern", ["::,", "1.1.1.1,", "::ffff:1.1.1.1,", ",", "1", "%"])
def test_the_cost_of_a_hostile_header_grows_with_its_length_only(pattern: str) -> None:
    """The worst case: everybody is trusted, so nothing stops the walk."""
    rule = ClientIPRule(GIN_TRUSTS)
    assert is_linear(lambda text: rule.client_ip(asked_by("10.0.0.1", X_Forwarded_For=text + "::1")), pattern)

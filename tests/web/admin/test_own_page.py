"""Which web page may call the API, by what its browser says."""

from __future__ import annotations

import pytest

from pushserver.core.errors import ConfigError
from pushserver.core.request import HttpRequest
from pushserver.web.admin.own_page import OwnPage, is_literal
from tests.web.admin.desk import KEY, bearer, desk

BEHIND_A_PROXY = ["https://push-admin.example"]


def sent(host: str, *headers: tuple[str, str], origins: tuple[str, ...] = ()) -> bool:
    request = HttpRequest(method="POST", path="/", query="", headers=headers, peer="127.0.0.1", host=host)
    return OwnPage(origins).sent(request)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8001", "localhost:8001", "[::1]:8001", "10.1.2.3:8001", "127.0.0.1", "localhost"]
)
def test_the_page_of_this_listener_may_call_it_by_address_or_localhost(host: str) -> None:
    assert sent(host, ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin"))
    assert sent(host, ("Origin", f"http://{host}")), "browsers say no more over plain HTTP"


@pytest.mark.parametrize(
    "host, origin",
    [
        ("127.0.0.1:8001", "https://evil.example"),
        ("127.0.0.1:8001", "null"),
        ("127.0.0.1:8001", ""),
        ("127.0.0.1:8001", "http://127.0.0.1:8000"),
        ("127.0.0.1:8001", "http://127.0.0.1"),
        ("127.0.0.1:8001", "http://localhost:8001"),
        ("127.0.0.1:8001", "https://127.0.0.1:8001"),
        ("127.0.0.1:8001", "http://127.0.0.1:8001.evil.example"),
        ("127.0.0.1:8001", "http://evil.example@127.0.0.1:8001"),
        ("127.0.0.1:8001", "http://127.0.0.1:8001/"),
        ("", "http://"),
        ("push.example", "http://push.example"),
    ],
)
def test_no_other_page_may(host: str, origin: str) -> None:
    assert not sent(host, ("Origin", origin))


def test_a_name_that_was_made_to_lead_here_is_not_ours_though_page_and_host_agree() -> None:
    rebound = "rebound.example:8001"
    about = [("Origin", f"http://{rebound}"), ("Sec-Fetch-Site", "same-origin")]
    assert not sent(rebound, *about)
    assert not sent("127.0.0.1.rebound.example", ("Origin", "http://127.0.0.1.rebound.example"))


def test_an_origin_that_is_listed_is_ours_whatever_the_proxy_makes_of_the_host() -> None:
    listed = tuple(BEHIND_A_PROXY)
    for host in ("push-admin.example", "127.0.0.1:8001"):
        assert sent(host, ("Origin", listed[0]), origins=listed)
        assert not sent(host, ("Origin", "http://push-admin.example"), origins=listed)
        assert not sent(host, ("Origin", listed[0]), ("Sec-Fetch-Site", "cross-site"), origins=listed)


def test_two_origins_are_none() -> None:
    own = ("Origin", "http://127.0.0.1:8001")
    assert not sent("127.0.0.1:8001", own, own)
    assert not sent("127.0.0.1:8001", own, ("Origin", "https://evil.example"))


def test_what_is_no_page_may_call_unless_it_is_known_to_come_across_sites() -> None:
    assert sent("push.example")
    for site in ("cross-site", "same-site", "", "SAME-ORIGIN", "none, cross-site"):
        assert not sent("127.0.0.1", ("Sec-Fetch-Site", site)), site
    assert not sent("127.0.0.1", ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site"))


def test_an_entry_that_is_no_origin_is_told_with_its_setting() -> None:
    with pytest.raises(ConfigError) as caught:
        OwnPage(["https://push-admin.example/dashboard"])
    assert caught.value.setting == "admin.origins"


def test_a_host_that_is_not_there_is_literal() -> None:
    assert is_literal("")


# -- on a listener


@pytest.mark.gen_test
async def test_the_key_is_asked_of_our_own_page_too_and_never_taken_from_a_cookie() -> None:
    async with desk(KEY) as at:
        own = ("Origin", f"http://127.0.0.1:{at.port}")
        host, path = f"127.0.0.1:{at.port}", "/v1/users/alice/disconnect"
        for more in (
            [],
            [bearer("a-wrong-key-of-tests")],
            [("Cookie", f"key={KEY}; Authorization=Bearer {KEY}")],
        ):
            assert (await at.get(path, own, *more, method="POST", host=host)).status == 401
        assert at.users.asked == []
        assert (await at.get(path, own, bearer(), method="POST", host=host)).status == 200


@pytest.mark.gen_test
async def test_without_keys_our_own_page_may_call_and_no_other_may_publish() -> None:
    async with desk() as at:
        for host, origin, status in (
            (f"127.0.0.1:{at.port}", f"http://127.0.0.1:{at.port}", 202),
            (f"localhost:{at.port}", f"http://localhost:{at.port}", 202),
            (f"127.0.0.1:{at.port}", "https://evil.example", 403),
            (f"127.0.0.1:{at.port}", "null", 403),
            (f"rebound.example:{at.port}", f"http://rebound.example:{at.port}", 403),
        ):
            about = [("Content-Type", "application/json"), ("Origin", origin)]
            body = b'{"to":{"everyone":true},"content":1}'
            length = ("Content-Length", str(len(body)))
            answer = await at.get("/v1/messages", *about, length, method="POST", host=host, body=body)
            assert answer.status == status, (host, origin)
        assert len(at.publisher.asked) == 2


@pytest.mark.gen_test
async def test_no_answer_lets_another_page_read_it() -> None:
    async with desk(KEY, origins=BEHIND_A_PROXY) as at:
        for origin in (*BEHIND_A_PROXY, "https://evil.example"):
            for method in ("GET", "OPTIONS"):
                answer = await at.get("/v1/stats", bearer(), ("Origin", origin), method=method)
                assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.gen_test
async def test_the_setting_reaches_the_listener() -> None:
    async with desk(KEY, origins=BEHIND_A_PROXY) as at:
        listed, other = ("Origin", BEHIND_A_PROXY[0]), ("Origin", "https://other.example")
        assert (await at.get("/v1/stats", bearer(), listed, host="push-admin.example")).status == 200
        assert (await at.get("/v1/stats", bearer(), other, host="push-admin.example")).status == 403

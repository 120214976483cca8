from __future__ import annotations

import pytest

from pushserver.core.errors import ConfigError
from pushserver.core.request import HttpRequest
from pushserver.web.credentials import TokenSource
from pushserver.web.origins import OriginPolicy, origin_header

ALLOW = [
    "https://app.example",
    "http://plain.example:8080",
    "https://xn--bcher-kva.example",
    "https://[2001:db8::1]",
    "capacitor://localhost",
]
POLICY = OriginPolicy(ALLOW)
EVERY_SOURCE = [*TokenSource, None]

# Pages


@pytest.mark.parametrize("origin", ALLOW)
@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_a_listed_origin_is_allowed_however_its_token_came(origin: str, source: TokenSource | None) -> None:
    assert POLICY.allows(origin, source)


@pytest.mark.parametrize(
    "origin",
    [
        "HTTPS://App.Example",
        "https://app.example:443",
        "https://XN--BCHER-KVA.example",
        "https://[2001:DB8::1]:443",
    ],
)
def test_letter_case_and_the_default_port_make_no_difference(origin: str) -> None:
    """RFC 6454 section 4."""
    assert POLICY.allows(origin, TokenSource.COOKIE)


def test_the_list_is_read_in_the_same_way() -> None:
    policy = OriginPolicy(["HTTPS://App.Example:443", "http://Plain.example:80"])
    assert policy.allows("https://app.example", TokenSource.COOKIE)
    assert policy.allows("http://plain.example", TokenSource.COOKIE)


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("null", id="opaque"),
        pytest.param("", id="empty"),
        pytest.param("http://app.example", id="other scheme"),
        pytest.param("wss://app.example", id="socket scheme"),
        pytest.param("https://app.example:8443", id="other port"),
        pytest.param("https://app.example:80", id="default port of another scheme"),
        pytest.param("http://plain.example", id="port missing"),
        pytest.param("https://app.example.evil.example", id="prefix"),
        pytest.param("https://app.exampleevil", id="prefix without a dot"),
        pytest.param("https://app.exampl", id="cut"),
        pytest.param("https://evil-app.example", id="suffix"),
        pytest.param("https://sub.app.example", id="subdomain"),
        pytest.param("https://example", id="parent domain"),
        pytest.param("https://appxexample", id="dot as a pattern"),
        pytest.param("https://app.example@evil.example", id="userinfo before another host"),
        pytest.param("https://evil.example@app.example", id="userinfo before our host"),
        pytest.param("https://user:pass@app.example", id="userinfo with password"),
        pytest.param("https://app.example.", id="trailing dot"),
        pytest.param("https://app.example/", id="path"),
        pytest.param("https://app.example/x", id="longer path"),
        pytest.param("https://app.example?x", id="query"),
        pytest.param("https://app.example#x", id="fragment"),
        pytest.param("https://app.example\\.evil.example", id="backslash"),
        pytest.param("https://app.example:", id="empty port"),
        pytest.param("https://app.example:0443", id="port with a zero"),
        pytest.param("https://app.example:443x", id="port with a letter"),
        pytest.param("https://app.example:65979", id="port that wraps around to 443"),
        pytest.param("https://app.example:٤٤٣", id="port in other digits"),
        pytest.param("https:app.example", id="no slashes"),
        pytest.param("https:///app.example", id="three slashes"),
        pytest.param("//app.example", id="no scheme"),
        pytest.param("app.example", id="host only"),
        pytest.param("https://bücher.example", id="IDN not in punycode"),
        pytest.param("https://xn--bcher-kvb.example", id="other punycode"),
        pytest.param("https://аpp.example", id="Cyrillic a"),
        pytest.param("https://app。example", id="ideographic full stop"),
        pytest.param("https://app%2eexample", id="percent-encoded"),
        pytest.param("https://app.example\n", id="newline"),
        pytest.param("https://app.example\0", id="NUL"),
        pytest.param(" https://app.example", id="blank"),
        pytest.param("https://app.example https://evil.example", id="list of RFC 6454"),
        pytest.param("https://app.example, https://app.example", id="joined"),
        pytest.param("https://[2001:db8:0::1]", id="address written otherwise"),
        pytest.param("https://*", id="wildcard"),
    ],
)
@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_an_origin_that_only_looks_like_one_is_refused(origin: str, source: TokenSource | None) -> None:
    assert not POLICY.allows(origin, source)


def test_no_letter_folds_into_ascii() -> None:
    """U+212A, the Kelvin sign, becomes a `k` in lower case."""
    assert not OriginPolicy(["https://kelvin.example"]).allows(
        "https://\u212aelvin.example", TokenSource.HEADER
    )


def test_a_trailing_dot_is_allowed_where_it_is_listed() -> None:
    policy = OriginPolicy(["https://app.example."])
    assert policy.allows("https://app.example.", TokenSource.COOKIE)
    assert not policy.allows("https://app.example", TokenSource.COOKIE)


# No page


@pytest.mark.parametrize("policy", [POLICY, OriginPolicy([])], ids=["with a list", "without a list"])
@pytest.mark.parametrize("source", [TokenSource.HEADER, TokenSource.SUBPROTOCOL, TokenSource.QUERY])
def test_without_an_origin_a_bearer_token_is_enough(policy: OriginPolicy, source: TokenSource) -> None:
    assert policy.allows(None, source)


@pytest.mark.parametrize("policy", [POLICY, OriginPolicy([])], ids=["with a list", "without a list"])
def test_without_an_origin_the_cookie_is_not_enough(policy: OriginPolicy) -> None:
    assert not policy.allows(None, TokenSource.COOKIE)


def test_without_an_origin_and_a_token_it_is_left_to_authentication() -> None:
    assert POLICY.allows(None, None)


# No list


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:8000", "null", ""])
@pytest.mark.parametrize("source", EVERY_SOURCE)
def test_without_a_list_no_page_is_allowed(origin: str, source: TokenSource | None) -> None:
    assert not OriginPolicy([]).allows(origin, source)


def test_the_cookie_is_accepted_only_with_a_list() -> None:
    assert POLICY.accepts_cookie
    assert not OriginPolicy([]).accepts_cookie
    assert not OriginPolicy([], allow_loopback=True).accepts_cookie


LOOPBACK = [
    "http://localhost",
    "http://localhost:3000",
    "http://127.0.0.1:65535",
    "http://[::1]:8000",
    "HTTP://LOCALHOST",
]


@pytest.mark.parametrize("origin", LOOPBACK)
def test_in_development_a_page_on_this_machine_is_allowed(origin: str) -> None:
    assert OriginPolicy([], allow_loopback=True).allows(origin, TokenSource.SUBPROTOCOL)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost.evil.example",
        "http://evil-localhost",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2",
        "http://127x0.0.1",
        "http://localhost@evil.example",
        "http://localhost:0",
        "http://localhost:99999",
        "http://localhost/",
        "http://localhost.",
        "http://[::1].evil.example",
        "http://0.0.0.0",
        "https://localhost",
        "null",
        "",
    ],
)
def test_in_development_other_pages_are_refused(origin: str) -> None:
    assert not OriginPolicy([], allow_loopback=True).allows(origin, TokenSource.SUBPROTOCOL)


@pytest.mark.parametrize("origin", LOOPBACK)
def test_a_list_says_everything_in_development_too(origin: str) -> None:
    assert not OriginPolicy(["https://app.example"], allow_loopback=True).allows(origin, TokenSource.HEADER)


# The list


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "https://*",
        "https://*.app.example",
        "https://.app.example",
        "null",
        "",
        "app.example",
        "//app.example",
        "https://",
        "https://app.example/",
        "https://app.example/path",
        "https://user@app.example",
        "https://app.example:0",
        "https://app.example:65536",
        "https://app.example:",
        "https://bücher.example",
        "https://app.example,https://b.example",
        "https://app.example ",
        "wss://app.example",
        "WS://app.example",
    ],
)
def test_an_entry_that_is_no_origin_is_a_bad_setting(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OriginPolicy(["https://app.example", entry])
    assert caught.value.setting == "origin.allow"
    assert repr(entry) in caught.value.reason


# Host


@pytest.mark.parametrize(
    "host",
    [
        "app.example",
        "APP.example",
        "app.example:443",
        "app.example:8000",
        "plain.example",
        "xn--bcher-kva.example",
    ],
)
def test_the_hosts_of_the_list_are_allowed_on_any_port(host: str) -> None:
    assert POLICY.host_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "10.1.2.3:80",
        "[::1]:8000",
        "[2001:db8::1]",
        "localhost:8000",
        "LocalHost",
    ],
)
def test_what_nobody_can_rebind_is_allowed(host: str) -> None:
    assert OriginPolicy(["https://app.example"]).host_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "sub.app.example",
        "app.example.evil.example",
        "app.example.",
        "app.example@evil.example",
        "app.example:",
        "app.example:x",
        "app.example:8000:9",
        "app.example/",
        "app.example, app.example",
        "app.example\n",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "[::1",
        "[::zz]",
        "[:::]",
        "\u212aelvin.example",
    ],
    ids=ascii,
)
def test_another_host_is_not_ours(host: str) -> None:
    assert not OriginPolicy(["https://app.example", "https://kelvin.example"]).host_allowed(host)


@pytest.mark.parametrize("host", ["", "evil.example", "app.example"])
def test_without_a_list_every_host_is_allowed(host: str) -> None:
    assert OriginPolicy([]).host_allowed(host)


# The header


def request(*origins: str) -> HttpRequest:
    return HttpRequest("GET", "/ws", "", [("X-Origin", "a"), *(("origin", origin) for origin in origins)])


def test_one_origin_is_read_as_it_stands() -> None:
    assert origin_header(request("https://app.example")) == "https://app.example"


def test_an_absent_origin_is_not_an_empty_one() -> None:
    assert origin_header(request()) is None
    assert origin_header(request("")) == ""


@pytest.mark.parametrize("second", ["https://app.example", "https://evil.example", "null", ""])
def test_several_origins_are_refused(second: str) -> None:
    for both in (["https://app.example", second], [second, "https://app.example"]):
        assert not POLICY.allows(origin_header(request(*both)), TokenSource.HEADER)


def test_what_a_browser_claims_about_the_site_changes_nothing() -> None:
    """Tornado 6.6 lets whatever says `same-origin` pass."""
    origin = "https://evil.example"
    headers = [("Sec-Fetch-Site", "same-origin"), ("Origin", origin)]
    forged = HttpRequest("GET", "/ws", "", headers, host="evil.example")
    assert not POLICY.allows(origin_header(forged), TokenSource.COOKIE)
    assert not POLICY.host_allowed(forged.host)

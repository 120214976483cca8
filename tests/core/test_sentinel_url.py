from __future__ import annotations

import pytest

from pushserver.core.sentinel_url import SentinelURL


def test_it_names_sentinels_service_and_what_holds_for_the_redis_behind() -> None:
    url = SentinelURL.parse(
        "redis+sentinel://user:p%40ss@one,10.0.0.2:26380,[::1]:26381/main.1/3?ssl_ca_certs=/ca"
    )
    assert url.sentinels == (("one", 26379), ("10.0.0.2", 26380), ("::1", 26381))
    assert url.service == "main.1"
    assert url.plain == "redis://user:p%40ss@one/3?ssl_ca_certs=/ca"


def test_one_sentinel_and_no_database_are_enough() -> None:
    url = SentinelURL.parse("rediss+sentinel://[fe80::1]/main")
    assert (url.sentinels, url.service, url.plain) == ((("fe80::1", 26379),), "main", "rediss://[fe80::1]")


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel:///main",
        "redis+sentinel://one,/main",
        "redis+sentinel://one,,two/main",
        "redis+sentinel://one:0/main",
        "redis+sentinel://one:65536/main",
        "redis+sentinel://one:port/main",
        "redis+sentinel://::1/main",
        "redis+sentinel://one/ma in",
        "redis+sentinel://one/main/zero",
        "redis+sentinel://one/main/0/1",
        "redis+sentinel://one/main#x",
        "redis+sentinel://u:hunt/er2@one/main",
        "redis+sentinel://u:hunt@er2@one/main",
        "unix+sentinel:///main",
        "redis://one/1",
    ],
)
def test_anything_else_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="SERVICE") as refused:
        SentinelURL.parse(url)
    assert "hunt" not in str(refused.value)


def test_its_text_holds_no_password() -> None:
    assert "hunter2" not in repr(
        SentinelURL.parse("redis+sentinel://:hunter2@one/main?sentinel_password=hunter2")
    )

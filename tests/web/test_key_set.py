"""Which keys of a JWKS tokens may be signed with."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.web.key_set import parse_key_set
from tests.cpu_time import at_most, measured_again
from tests.web.issuer import ALGORITHMS, jwk, key_set, private_key


def refusal(*keys: object, algorithms: tuple[str, ...] = ALGORITHMS) -> str:
    """Why the first key is left out, beside one that is good."""
    parsed = parse_key_set(key_set(*keys, jwk("ES256", "good", 99)), algorithms)
    assert {key_id for key_id, _ in parsed.keys} == {"good"}
    return parsed.left_out[0].partition(": ")[2]


@pytest.mark.parametrize(
    "kind,algorithm", [("RS256", "RS256"), ("ES256", "ES256"), ("EdDSA", "EdDSA"), ("Ed448", "EdDSA")]
)
def test_a_public_key_is_for_the_one_algorithm_of_its_type(kind: str, algorithm: str) -> None:
    parsed = parse_key_set(key_set(jwk(kind, "k")), ALGORITHMS)
    found = parsed.find("k", algorithm)
    assert found is not None
    assert (found.algorithm, found.key) == (algorithm, private_key(kind).public_key())
    for other in {*ALGORITHMS, "HS256", "none"} - {algorithm}:
        assert parsed.find("k", other) is None


def test_what_a_key_says_of_its_use_and_algorithm_may_say_so_or_nothing() -> None:
    said = jwk(use="sig", key_ops=["verify"], alg="ES256", x5t="abc", more={"any": 1})
    assert parse_key_set(key_set(said), ALGORITHMS).find("one", "ES256")


@pytest.mark.parametrize(
    "fields,reason",
    [
        ({"use": "enc"}, "is not for signatures"),
        ({"use": ["sig"]}, "is not for signatures"),
        ({"use": ""}, "is not for signatures"),
        ({"key_ops": ["encrypt"]}, "is not for verifying"),
        ({"key_ops": []}, "is not for verifying"),
        ({"key_ops": "verify"}, "is not for verifying"),
        ({"alg": "ES384"}, "is for another algorithm"),
        ({"alg": "HS256"}, "is for another algorithm"),
        ({"alg": "none"}, "is for another algorithm"),
        ({"alg": 1}, "is for another algorithm"),
        ({"d": "c2VjcmV0"}, "is private"),
        ({"k": "c2VjcmV0"}, "is private"),
        ({"kid": 1}, "has a malformed kid"),
        ({"kid": ""}, "has a malformed kid"),
        ({"kid": "../.."}, "has a malformed kid"),
        ({"kid": "k" * 257}, "has a malformed kid"),
        ({"kid": ["k"]}, "has a malformed kid"),
        ({"kty": "RSA"}, "cannot be read"),
        ({"kty": "OKP"}, "cannot be read"),
        ({"kty": ["EC"]}, "is no public key of type RSA, EC or OKP"),
        ({"kty": "ec"}, "is no public key of type RSA, EC or OKP"),
        ({"crv": "P-384"}, "cannot be read"),
        ({"x": 1}, "cannot be read"),
        ({"x": "AA" * 22}, "cannot be read"),
        ({"y": "é"}, "cannot be read"),
    ],
    ids=str,
)
def test_a_key_that_is_not_for_this_is_left_out(fields: dict[str, Any], reason: str) -> None:
    assert refusal({**jwk(), **fields}) == reason


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "kid": "one", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        {"kty": "oct", "alg": "HS256", "k": "AAAA"},
        {},
        {"kty": None},
    ],
    ids=str,
)
def test_a_secret_is_no_key_of_a_key_set(member: dict[str, Any]) -> None:
    assert refusal(member) == "is no public key of type RSA, EC or OKP"


@pytest.mark.parametrize("member", [None, 1, "key", [], True])
def test_a_member_that_is_no_object_is_left_out(member: object) -> None:
    assert refusal(member) == "is no object"


@pytest.mark.parametrize(
    "kind,reason", [("short RSA", "does not fit RS256"), ("P-384", "does not fit ES256")]
)
def test_a_key_of_another_size_or_curve_is_left_out(kind: str, reason: str) -> None:
    assert refusal(jwk(kind)) == reason


def test_a_key_so_large_that_it_would_hold_up_the_loop_is_left_out() -> None:
    assert refusal({"kty": "RSA", "kid": "one", "e": "AQAB", "n": "_" * 1400}) == "does not fit RS256"


def test_a_key_of_an_algorithm_that_the_settings_do_not_name_is_left_out() -> None:
    reason = refusal(jwk("RS256"), algorithms=("ES256",))
    assert reason == "is for RS256, which auth.algorithms does not name"


def test_two_keys_of_one_id_are_both_left_out_for_nobody_knows_which_is_meant() -> None:
    parsed = parse_key_set(
        key_set(jwk("ES256", "k", 1), jwk("ES256", "k", 2), jwk("ES256", "k", 1), jwk("EdDSA", "k")),
        ALGORITHMS,
    )
    assert set(parsed.keys) == {("k", "EdDSA")}
    assert parsed.left_out == ("key 1: another has its kid",)


def test_a_key_that_comes_twice_is_one_key() -> None:
    parsed = parse_key_set(key_set(jwk(), jwk()), ALGORITHMS)
    assert (len(parsed.keys), parsed.left_out) == (1, ())


def test_without_an_id_only_the_only_key_for_the_algorithm_is_meant() -> None:
    one_each = parse_key_set(key_set(jwk("ES256", "k"), jwk("EdDSA", None)), ALGORITHMS)
    assert one_each.find(None, "ES256") == one_each.find("k", "ES256") is not None
    assert one_each.find(None, "EdDSA") is not None
    assert one_each.find(None, "RS256") is None
    two = parse_key_set(key_set(jwk("ES256", "k"), jwk("ES256", "l", 2)), ALGORITHMS)
    assert two.find(None, "ES256") is None


def test_an_id_finds_no_key_that_has_none() -> None:
    assert parse_key_set(key_set(jwk("ES256", None)), ALGORITHMS).find("one", "ES256") is None


@pytest.mark.parametrize(
    "text,reason",
    [
        (b"", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"keys": [], "x": NaN}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"null", "is no key set"),
        (b"[]", "is no key set"),
        (b"{}", "is no key set"),
        (b'{"keys": {}}', "is no key set"),
        (b'{"error": "s3cret"}', "is no key set"),
        (b'{"keys": []}', "has no key of use"),
        (key_set(*[{}] * 101), "has more than 100 keys"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_key_set_is_refused_as_a_whole(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_key_set(text, ALGORITHMS)
    assert str(caught.value) == reason


@measured_again
def test_a_hundred_keys_are_read_in_less_than_the_loop_may_be_held() -> None:
    full = key_set(*(jwk("RS256", f"k{number}") for number in range(100)))
    at_most(0.05, lambda: parse_key_set(full, ALGORITHMS))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(["RS256", "ES256", "EdDSA"]),
    st.dictionaries(
        st.sampled_from(["kty", "kid", "use", "key_ops", "alg", "crv", "x", "y", "n", "e", "d", "oth"]), JSON
    ),
)
def test_a_key_is_read_or_left_out_and_nothing_else(kind: str, fields: dict[str, Any]) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        text = json.dumps({"keys": [{**jwk(kind), **fields}, jwk("ES256", "good", 99)]}).encode()
        assert (
            parse_key_set(text, ALGORITHMS).find("good", "ES256") is not None or fields.get("kid") == "good"
        )

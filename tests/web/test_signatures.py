"""PyJWT with shortcuts says what PyJWT says; which tokens are believed is shown in `test_tokens`."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.web.signatures import Signatures

SECRET = b"a secret of the tests, long enough for HS256"
SEGMENTS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12).map(str.encode)


def outcome(decode: Callable[[bytes, str], bytes], segment: bytes) -> bytes | None:
    try:
        return decode(segment, "payload")
    except jwt.DecodeError:
        return None


@given(SEGMENTS)
def test_a_segment_is_read_as_pyjwt_reads_it(segment: bytes) -> None:
    ours, theirs = Signatures._decode_base64url_segment, jwt.PyJWS._decode_base64url_segment
    assert outcome(ours, segment) == outcome(theirs, segment)


def test_a_signature_is_judged_as_pyjwt_judges_it() -> None:
    token = jwt.encode({"sub": "bob"}, SECRET, "HS256")
    options: dict[str, Any] = {"algorithms": ["HS256"]}
    assert Signatures().decode_complete(token, SECRET, **options) == jwt.PyJWS().decode_complete(
        token, SECRET, **options
    )
    for wrong in (token[:-3] + "abc", f"{token}x", token.replace(".", "..", 1)):
        with pytest.raises(jwt.PyJWTError):
            Signatures().decode_complete(wrong, SECRET, **options)
    with pytest.raises(jwt.InvalidAlgorithmError):
        Signatures().decode_complete(token, SECRET, algorithms=["RS256"])


def test_other_verifiers_of_the_process_are_as_they_were() -> None:
    Signatures()
    with pytest.raises(jwt.InvalidKeyError):
        jwt.PyJWS().decode_complete(
            jwt.encode({}, SECRET, "HS256"), b"ssh-rsa " + b"A" * 40, algorithms=["HS256"]
        )

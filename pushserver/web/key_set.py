"""A key set (JWKS, RFC 7517 section 5): which of its keys tokens may be signed with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from pushserver.core.jsontext import parse_strict
from pushserver.web.token_keys import TokenKey, fits, is_key_id

__all__ = ["KeySet", "parse_key_set"]

MAX_KEYS = 100
MAX_RSA_BITS = 8192
"""A signature by a larger key would take longer to check than the loop may be held."""

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""Each type of public key and the one algorithm that it is used for here; `oct`, a secret, is none."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that are of use, by id (None if it has none) and the one algorithm that each is for."""

    keys: Mapping[tuple[str | None, str], TokenKey]
    left_out: Sequence[str]
    """For a log: which keys are of no use, and why."""

    def find(self, key_id: str | None, algorithm: str) -> TokenKey | None:
        """The key of that id; without one, the only key for the algorithm."""
        if key_id is not None:
            return self.keys.get((key_id, algorithm))
        fitting = [key for (_, its_algorithm), key in self.keys.items() if its_algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None


def parse_key_set(text: bytes, algorithms: Sequence[str]) -> KeySet:
    """The keys for any of `algorithms` (RS256, ES256, EdDSA) in a JWKS.

    A key of no use is left out and spoils none of the others. Two different keys for one algorithm under one
    id are both left out, for nobody can say which is meant. Raises `ValueError`, which quotes nothing, for
    what is no JWKS, has more than 100 keys, or none of use.
    """
    members = _members(text)
    keys: dict[tuple[str | None, str], TokenKey] = {}
    left_out: dict[int, str] = {}
    twice: set[tuple[str | None, str]] = set()
    for place, member in enumerate(members):
        try:
            key_id, key = _parse_key(member, algorithms)
        except ValueError as error:
            left_out[place] = f"key {place}: {error}"
            continue
        named = (key_id, key.algorithm)
        if keys.setdefault(named, key).key != key.key:
            twice.add(named)
            left_out[place] = f"key {place}: another has its kid"
    of_use = {named: key for named, key in keys.items() if named not in twice}
    if not of_use:
        raise ValueError("has no key of use")
    return KeySet(of_use, tuple(left_out.values()))


def _members(text: bytes) -> list[Any]:
    try:
        parsed = parse_strict(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    members = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(members, list):
        raise ValueError("is no key set")  # noqa: TRY004 - of what somebody sent
    if len(members) > MAX_KEYS:
        raise ValueError(f"has more than {MAX_KEYS} keys")
    return members


def _parse_key(member: object, algorithms: Sequence[str]) -> tuple[str | None, TokenKey]:
    """A key and its id. Raises `ValueError` for one of no use."""
    if not isinstance(member, dict):
        raise ValueError("is no object")  # noqa: TRY004 - of what somebody sent
    for reason in _refusals(member, algorithms):
        raise ValueError(reason)
    algorithm = _ALGORITHMS[member["kty"]]
    try:
        key = jwt.PyJWK(member, algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        # Its text would quote the key.
        raise ValueError("cannot be read") from None
    if not fits(algorithm, key) or (algorithm == "RS256" and key.key_size > MAX_RSA_BITS):
        raise ValueError(f"does not fit {algorithm}")
    return member.get("kid"), TokenKey(algorithm, key)


def _refusals(member: Mapping[str, Any], algorithms: Sequence[str]) -> Iterator[str]:
    """Why a key is of no use, by what it says of itself."""
    kind = member.get("kty")
    algorithm = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    if algorithm is None:
        yield "is no public key of type RSA, EC or OKP"
        return
    if "d" in member or "k" in member:
        yield "is private"
    if member.get("use", "sig") != "sig":
        yield "is not for signatures"
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        yield "is not for verifying"
    if member.get("alg", algorithm) != algorithm:
        yield "is for another algorithm"
    if algorithm not in algorithms:
        yield f"is for {algorithm}, which auth.algorithms does not name"
    key_id = member.get("kid")
    if "kid" in member and not (isinstance(key_id, str) and is_key_id(key_id)):
        yield "has a malformed kid"

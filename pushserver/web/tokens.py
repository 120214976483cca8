"""Tokens: who somebody is, from a JWT (RFC 7519) that one of our own keys has signed.

PyJWT answers for the signature only. Every claim is checked here, because a time is judged by the
store's clock and not by this host's, and because types have to be exact: PyJWT takes `"exp": "1e9"`
and a missing `sub`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from pushserver.core.errors import ConfigError, InvalidNameError, NotAuthenticatedError, UnknownKeyError
from pushserver.core.jsontext import parse_strict
from pushserver.core.names import check_username
from pushserver.web.signatures import Signatures
from pushserver.web.token_keys import SYMMETRIC, TokenKey, is_key_id

__all__ = ["Identity", "KeySource", "TokenVerifier", "make_token"]

MAX_TOKEN_CHARS = 8192
MAX_LEEWAY_S = 60
LAST_TIME_S = 253_402_300_799
"""The end of the year 9999. A larger time is no time: most likely it was written in milliseconds."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_BRINGS_A_KEY = frozenset({"jwk", "jku", "x5c", "x5u"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified token is for."""

    username: str
    """The token's `sub`, which has passed `core.names.check_username`."""

    expires_at: float
    """The token's `exp` as it stands: seconds since 1970, the leeway *not* added.

    Whoever closes a connection on expiry adds `TokenVerifier.leeway_s`. Without it a token that was
    taken within the leeway would be closed at once.
    """

    categories_claim: object = None
    """The token's `categories` as decoded JSON, unchecked; None without one."""


class KeySource(Protocol):
    """Keys that change while the pod runs, each for one algorithm and found by its id."""

    @property
    def algorithms(self) -> Sequence[str]:
        """The algorithms that these keys are for; tokens of others are none of their business."""

    def find(self, key_id: str | None, algorithm: str) -> TokenKey:
        """The one key that is meant; `key_id` None: by a token that names none.

        Raises `NotAuthenticatedError`: `UnknownKeyError` if there may be newer keys. Raises `FetchError` if
        nobody can tell now.
        """

    async def look_again(self) -> bool:
        """Ask for newer keys; False if that was done just now. Raises `FetchError` if too many wait."""


class TokenVerifier:
    """Believes a token that one of `keys` has signed, that is valid now, and that is meant for us.

    Keys are tried in their order, so a wrong signature costs one try for each. Tokens of the algorithms of
    `source` are believed by its keys, and by one of them only. `now` tells the seconds
    since 1970 by the store's clock. An empty `issuer` asks for none. An empty `audience` refuses tokens
    that name one (RFC 7519 section 4.1.3). Raises `ConfigError` for a `leeway_s` outside 0 to 60.
    """

    __slots__ = ("_audience", "_issuer", "_jws", "_keys", "_now", "_source", "leeway_s")

    def __init__(
        self,
        keys: Iterable[TokenKey],
        *,
        issuer: str = "",
        audience: str = "",
        leeway_s: float = 0,
        now: Callable[[], float],
        source: KeySource | None = None,
    ) -> None:
        if not 0 <= leeway_s <= MAX_LEEWAY_S:
            raise ConfigError("auth.leeway_s", f"must be 0 to {MAX_LEEWAY_S} seconds")
        self.use_keys(keys)
        self._source = source
        self._issuer = issuer
        self._audience = audience
        self.leeway_s = leeway_s
        self._now = now
        self._jws = Signatures()

    def use_keys(self, keys: Iterable[TokenKey]) -> None:
        """Believe these from now on, and no others."""
        self._keys = tuple(keys)

    def verify(self, token: object) -> Identity:
        """Who `token` is for. It may be anything: a refresh frame brings what its JSON held.

        Raises `NotAuthenticatedError`, and `FetchError` while the keys of the issuer are not to be had, and
        asks nobody: a key that a token brings, or says where to find, is never used.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(token):
            raise NotAuthenticatedError("token is malformed")
        claims = _parse_claims(self._signed_payload(token))
        expires_at = self._check_times(claims)
        self._check_parties(claims)
        return Identity(_subject(claims), expires_at, claims.get("categories"))

    async def verify_anew(self, token: object) -> Identity:
        """As `verify`; where a token names a key that is not known, newer keys are waited for."""
        try:
            return self.verify(token)
        except UnknownKeyError:
            if self._source is None or not await self._source.look_again():
                raise
        return self.verify(token)

    def _signed_payload(self, token: str) -> bytes:
        reason = "token algorithm is not accepted"
        for candidate in self._keys if self._source is None else self._meant(token, self._source):
            try:
                signed = self._jws.decode_complete(token, candidate.key, algorithms=[candidate.algorithm])
            except jwt.InvalidAlgorithmError:
                continue
            except jwt.InvalidSignatureError:
                reason = "token signature is wrong"
                continue
            except jwt.PyJWTError:
                # Its text may quote the token.
                raise NotAuthenticatedError("token is malformed") from None
            _check_header(signed["header"])
            payload: bytes = signed["payload"]
            return payload
        raise NotAuthenticatedError(reason)

    def _meant(self, token: str, source: KeySource) -> Sequence[TokenKey]:
        """The keys to try, by what the token says of itself, which is not verified yet."""
        try:
            header = self._jws.get_unverified_header(token)
        except jwt.PyJWTError:
            raise NotAuthenticatedError("token is malformed") from None
        if header.get("alg") not in source.algorithms:
            return self._keys
        _check_header(header)
        return (source.find(header.get("kid"), header["alg"]),)

    def _check_times(self, claims: Mapping[str, Any]) -> float:
        now = self._now()
        expires_at = _time(claims, "exp")
        if now >= expires_at + self.leeway_s:
            raise NotAuthenticatedError("token has expired")
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > now + self.leeway_s:
                raise NotAuthenticatedError(f"token is not valid yet ({name})")
        return expires_at

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        if self._issuer and claims.get("iss") != self._issuer:
            raise NotAuthenticatedError("token is from another issuer")
        if (self._audience or "aud" in claims) and not _names(claims.get("aud"), self._audience):
            raise NotAuthenticatedError("token is for another audience")


def _names(aud: object, audience: str) -> bool:
    """Whether `aud`, a text or a list of texts, names this `audience`; nothing names an empty one."""
    named = aud if isinstance(aud, list) else [aud]
    return bool(audience) and all(isinstance(name, str) for name in named) and audience in named


def _check_header(header: Mapping[str, Any]) -> None:
    """Refuse what no honest issuer of ours writes, although nothing here would use it."""
    if not _BRINGS_A_KEY.isdisjoint(header):
        raise NotAuthenticatedError("token brings its own key")
    if not is_key_id(header.get("kid", "-")):
        raise NotAuthenticatedError("token key id is malformed")


def _parse_claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = parse_strict(payload)
    except ValueError:
        raise NotAuthenticatedError("token is malformed") from None
    if not isinstance(claims, dict):
        raise NotAuthenticatedError("token is malformed")
    return claims


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotAuthenticatedError(f"token has no usable {name}")
    # Compared before it becomes a float: an integer of 4000 digits has none, and 1e400 is infinite.
    if not 0 <= value <= LAST_TIME_S:
        raise NotAuthenticatedError(f"token has no usable {name}")
    return float(value)


def _subject(claims: Mapping[str, Any]) -> str:
    try:
        return check_username(claims.get("sub"))
    except InvalidNameError as error:
        raise NotAuthenticatedError(f"token sub {error.reason}") from None


def make_token(
    secret: bytes, username: str, ttl_s: float, now: float, categories: Mapping[str, Any] | None = None
) -> str:
    """An HS256 token for `username` that expires `ttl_s` seconds after `now` (seconds since 1970).

    For development and tests; a back end makes its own. Raises `InvalidNameError`.
    """
    claims: dict[str, Any] = {"sub": check_username(username), "iat": int(now), "exp": now + ttl_s}
    if categories is not None:
        claims["categories"] = categories
    return jwt.encode(claims, secret, SYMMETRIC)

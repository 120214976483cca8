"""The keys that tokens are signed with: from settings, each bound to the one algorithm it is used for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from pushserver.config_checks import MIN_SECRET_BYTES
from pushserver.core.errors import ConfigError

__all__ = ["SYMMETRIC", "TokenKey", "fits", "is_key_id", "load_keys"]

SYMMETRIC = "HS256"
"""The one algorithm whose key is a secret; those of all others are public."""

_KEY_NEEDED = {
    "RS256": "an RSA public key of at least 2048 bits",
    "ES256": "a public key on the curve P-256",
    "EdDSA": "an Ed25519 or Ed448 public key",
}
_KEY_ID = re.compile(r"[A-Za-z0-9._~:@=+/#-]{1,256}")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key and the one algorithm it is used for, so that no token chooses how its key is read."""

    algorithm: str
    key: Any = field(repr=False)


def load_keys(
    algorithms: Sequence[str],
    *,
    secret: bytes = b"",
    previous_secret: bytes = b"",
    public_key_file: str = "",
    jwks_url: str = "",
) -> tuple[TokenKey, ...]:
    """The keys that the settings of `auth` give (empty: not set), each bound to its algorithm.

    `secret` comes first, so that the previous one costs nothing while nobody uses it.

    `algorithms` are any of HS256 (with `secret`, and during a rotation `previous_secret`), RS256, ES256
    and EdDSA (with the public key in the PEM file; those behind `jwks_url` are no part of the answer).

    Raises `ConfigError` naming the setting: for an
    unknown or no algorithm, a secret under 32 bytes, a key that is missing, unreadable, private or of
    another type, and one that no algorithm uses (its tokens would all be refused).
    """
    unknown = [name for name in algorithms if name != SYMMETRIC and name not in _KEY_NEEDED]
    if unknown or not algorithms:
        raise ConfigError("auth.algorithms", f"must name some of {SYMMETRIC}, {', '.join(_KEY_NEEDED)}")
    secrets = _load_secrets(SYMMETRIC in algorithms, secret, previous_secret)
    asymmetric = [name for name in _KEY_NEEDED if name in algorithms]
    if not jwks_url:
        return (*secrets, *_load_public_key(asymmetric, public_key_file))
    if not asymmetric:
        raise ConfigError(
            "auth.jwks_url", f"is set, but auth.algorithms names none of {', '.join(_KEY_NEEDED)}"
        )
    if public_key_file:
        raise ConfigError("auth.jwks_url", "and auth.public_key_file cannot both be set")
    return tuple(secrets)


def _load_secrets(wanted: bool, secret: bytes, previous_secret: bytes) -> list[TokenKey]:
    if wanted and not secret:
        raise ConfigError("auth.secret", f"{SYMMETRIC} needs a secret")
    given = {"auth.secret": secret, "auth.previous_secret": previous_secret}
    return [_load_secret(wanted, setting, value) for setting, value in given.items() if value]


def _load_secret(wanted: bool, setting: str, secret: bytes) -> TokenKey:
    if not wanted:
        raise ConfigError(setting, f"is set, but auth.algorithms does not name {SYMMETRIC}")
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(setting, f"must have at least {MIN_SECRET_BYTES} bytes")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        # A public key as HMAC secret would let everybody sign.
        raise ConfigError(setting, "is a key file's text, not a secret") from None
    return TokenKey(SYMMETRIC, secret)


def _load_public_key(algorithms: Sequence[str], path: str) -> list[TokenKey]:
    setting = "auth.public_key_file"
    if not path:
        if algorithms:
            raise ConfigError(setting, f"{algorithms[0]} needs {_KEY_NEEDED[algorithms[0]]}")
        return []
    if not algorithms:
        raise ConfigError(setting, f"is set, but auth.algorithms names none of {', '.join(_KEY_NEEDED)}")
    key = _read_public_key(setting, Path(path))
    for algorithm in algorithms:
        if not fits(algorithm, key):
            raise ConfigError(setting, f"{algorithm} needs {_KEY_NEEDED[algorithm]}")
    return [TokenKey(algorithm, key) for algorithm in algorithms]


def _read_public_key(setting: str, path: Path) -> object:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(setting, f"cannot be read ({error.strerror})") from None
    if b"PRIVATE KEY" in text:
        raise ConfigError(setting, "holds a private key, which only the issuer of tokens may have")
    try:
        return load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(setting, "holds no public key in PEM") from None


def fits(algorithm: str, key: object) -> bool:
    """Whether this is a public key that the algorithm may use."""
    if algorithm == "RS256":
        return isinstance(key, RSAPublicKey) and key.key_size >= 2048
    if algorithm == "ES256":
        return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    return isinstance(key, Ed25519PublicKey | Ed448PublicKey)


def is_key_id(text: str) -> bool:
    """Whether an honest issuer may call a key so."""
    return bool(_KEY_ID.fullmatch(text)) and ".." not in text

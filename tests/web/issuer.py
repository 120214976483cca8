"""An issuer of tokens with keys of every type, which can be asked for them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

__all__ = [
    "ALGORITHMS",
    "NOW",
    "jwk",
    "key_set",
    "private_key",
    "private_pem",
    "public_pem",
    "signed_by",
    "written",
]

NOW = 1_700_000_000.0
ALGORITHMS = ("RS256", "ES256", "EdDSA")

_MAKERS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "short RSA": lambda: rsa.generate_private_key(65537, 1024),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}
_WRITERS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "short RSA": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "P-384": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
    "Ed448": jwt.algorithms.OKPAlgorithm,
}


def private_key(kind: str, number: int = 1) -> Any:
    """A private key of a kind, the same at each call for a number."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    return _MAKERS[kind]()


def jwk(kind: str = "ES256", key_id: str | None = "one", number: int = 1, **fields: Any) -> dict[str, Any]:
    """A public key as a JWK; `fields` are added, None takes one away."""
    key = private_key(kind, number).public_key()
    whole = {**_WRITERS[kind].to_jwk(key, as_dict=True), "kid": key_id, **fields}
    return {name: value for name, value in whole.items() if value is not None}


def key_set(*keys: object) -> bytes:
    """A JWKS."""
    return json.dumps({"keys": keys}).encode()


def signed_by(
    kind: str = "ES256",
    key_id: str | None = "one",
    number: int = 1,
    *,
    algorithm: str = "",
    exp: float = NOW + 60,
    sub: str = "alice",
    **header: Any,
) -> str:
    """A token of the issuer's; without `key_id` it names no key."""
    named = {} if key_id is None else {"kid": key_id}
    algorithm = algorithm or {"Ed448": "EdDSA"}.get(kind, kind)
    claims = {"sub": sub, "exp": exp}
    return jwt.encode(claims, private_key(kind, number), algorithm, headers={**named, **header})


def public_pem(key: Any, encoding: Encoding = Encoding.PEM) -> bytes:
    """The public half of a private key, as a file holds it."""
    public: bytes = key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    return public


def private_pem(key: Any) -> bytes:
    """A private key, as a file holds it."""
    private: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private


def written(directory: Path, content: bytes) -> str:
    """The path of a key file with this content."""
    file = directory / "key.pem"
    file.write_bytes(content)
    return str(file)

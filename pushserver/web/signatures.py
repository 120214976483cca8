"""Signatures of tokens: PyJWT, without what it does over again for every token."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

import jwt
from jwt.algorithms import HMACAlgorithm

__all__ = ["Signatures"]

_HS256 = "HS256"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_URLSAFE = bytes.maketrans(b"+/", b"-_")


class _ReadySecret(HMACAlgorithm):
    """HS256 with a secret that `tokens.load_keys` has looked at: PyJWT would do so for every token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """The key as it is."""
        return key if isinstance(key, bytes) else super().prepare_key(key)


class Signatures(jwt.PyJWS):
    """PyJWT's verifier, for tokens of three segments of base64url's characters without padding.

    PyJWT looks at every character of a segment in Python, which takes longer than all the rest; the caller's
    pattern has done so. Where PyJWT comes to call it otherwise, its own way is taken again, more slowly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unregister_algorithm(_HS256)
        self.register_algorithm(_HS256, _ReadySecret(HMACAlgorithm.SHA256))

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        """The bytes of a segment in the one spelling they have. Raises `DecodeError`."""
        try:
            decoded = a2b_base64(segment.translate(_STANDARD) + b"=" * (-len(segment) % 4))
        except ValueError:
            raise jwt.DecodeError(f"Invalid {name} padding") from None
        if b2a_base64(decoded, newline=False).rstrip(b"=").translate(_URLSAFE) != segment:
            raise jwt.DecodeError(f"Invalid {name} padding")
        return decoded

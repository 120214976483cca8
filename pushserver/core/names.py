"""The rules for usernames, message ids and pod names, and how they stand in Redis keys.

Whatever passes here can neither forge a Redis key, a log line nor a metric label.
"""

from __future__ import annotations

import re
import unicodedata

from pushserver.core.errors import InvalidNameError

__all__ = [
    "check_message_id",
    "check_pod_name",
    "check_username",
    "from_key",
    "key_safe",
    "pod_name_from_host",
]

MAX_USERNAME_BYTES = 128
MAX_POD_NAME = 63

_MESSAGE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_POD_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NOT_IN_POD_NAME = re.compile(r"[^a-z0-9.-]+")
_JOINERS = frozenset("\u200c\u200d")
_KEY_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


def check_username(name: object) -> str:
    """Return `name` if it is 1 to 128 bytes of UTF-8 without control or format characters.

    Format characters (category Cf, such as U+202E), which hide or reorder what an operator reads, are
    refused with the control characters; the two joiners, which names and emoji need, are not.

    Raises `InvalidNameError`.
    """
    if not isinstance(name, str) or not name:
        raise InvalidNameError("username", "must be a non-empty text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidNameError("username", "holds a lone surrogate") from None
    if size > MAX_USERNAME_BYTES:
        raise InvalidNameError("username", f"is longer than {MAX_USERNAME_BYTES} bytes")
    if not name.isprintable():  # quick, but private and unassigned characters may pass
        _refuse_controls(name)
    return name


def _refuse_controls(name: str) -> None:
    for char in name:
        if char not in _JOINERS and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            raise InvalidNameError("username", f"holds the control character U+{ord(char):04X}")


def check_message_id(value: object) -> str:
    """Return `value` if it is 1 to 64 characters of `[A-Za-z0-9._:-]`; raises `InvalidNameError`."""
    if not isinstance(value, str) or not _MESSAGE_ID.fullmatch(value):
        raise InvalidNameError("id", "must be 1 to 64 characters of [A-Za-z0-9._:-]")
    return value


def check_pod_name(value: object) -> str:
    """Return `value` if it is a pod name (like a host name, at most 63); raises `InvalidNameError`."""
    if not isinstance(value, str) or len(value) > MAX_POD_NAME or not _POD_NAME.fullmatch(value):
        raise InvalidNameError(
            "pod name", "must match [a-z0-9]([-a-z0-9.]*[a-z0-9])? and have at most 63 characters"
        )
    return value


def pod_name_from_host(host: str, port: int) -> str:
    """The default pod name: the host name in lower case, other characters to `-`, then `-PORT`."""
    suffix = f"-{port}"
    stem = _NOT_IN_POD_NAME.sub("-", host.lower()).strip("-.")[: MAX_POD_NAME - len(suffix)]
    return check_pod_name((stem.rstrip("-.") or "pod") + suffix)


def key_safe(name: str) -> str:
    """`name` as it may stand in a Redis key: `%`, `{` and `}` percent-encoded, so injective.

    A name cannot open or close a hash tag, and no two names give one key.
    """
    # Hardly any name has one of these, and to look for them costs a tenth of a translation.
    escaped = "%" in name or "{" in name or "}" in name
    return name.translate(_KEY_ESCAPES) if escaped else name


def from_key(text: str) -> str:
    """The name that `key_safe` made `text` of."""
    return text.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")

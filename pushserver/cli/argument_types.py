"""The types of arguments: each gives the value, or says what is wrong with it."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pydantic import SecretStr

from pushserver.config_checks import check_database_url
from pushserver.core.categories import parse_categories
from pushserver.core.errors import InvalidNameError
from pushserver.core.names import check_message_id, check_username

__all__ = [
    "DAY_MS",
    "category",
    "database_url",
    "length",
    "message_id",
    "moment",
    "positive",
    "seconds",
    "token_text",
    "username",
    "websocket_url",
]

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY_MS = _UNITS_MS["d"]
_LENGTH = "a number from 1 to 99999 and m, h or d (minutes, hours, days), as 24h"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def username(text: str) -> str:
    """A username."""
    try:
        return check_username(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(error.reason) from None


def database_url(text: str) -> str:
    """A database of exposures."""
    try:
        return check_database_url(SecretStr(text)).get_secret_value()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def message_id(text: str) -> str:
    """A message id."""
    try:
        return check_message_id(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def length(text: str) -> int:
    """A length of time, in milliseconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be {_LENGTH}")
    return int(found[1]) * _UNITS_MS[found[2]]


def moment(text: str) -> int:
    """A time, or how long ago it was; in milliseconds since 1970."""
    if re.fullmatch(r"[0-9]+[mhd]", text):
        return int(time.time() * 1000) - length(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be ISO 8601, as 2026-01-31T12:00, or a length: {_LENGTH}"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def category(text: str) -> tuple[str, str]:
    """KIND=VALUE."""
    kind, _, value = text.partition("=")
    try:
        parse_categories({kind: value})
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return kind, value


def positive(text: str) -> int:
    """A number from 1 to 999999999."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError("must be a number from 1 to 999999999")
    return int(text)


def seconds(text: str) -> float:
    """Seconds from 0 to a day."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) > 86_400:
        raise argparse.ArgumentTypeError("must be seconds from 0 to 86400")
    return float(text)


def token_text(text: str) -> str:
    """A token, as far as its characters tell."""
    if not _TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError("has characters that no token has")
    return text


def websocket_url(text: str) -> str:
    """Where a client connects."""
    try:
        parts = urlsplit(text)
        if parts.scheme in {"ws", "wss"} and parts.hostname and parts.port != 0 and text.isprintable():
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be ws://HOST[:PORT]/PATH or wss://...")

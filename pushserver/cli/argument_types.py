"""The types of arguments: each gives the value, or says what is wrong with it."""

from __future__ import annotations

import argparse
import re
from urllib.parse import urlsplit

from pushserver.core.categories import parse_categories
from pushserver.core.errors import InvalidNameError
from pushserver.core.names import check_username

__all__ = ["category", "positive", "token_text", "username", "websocket_url"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def username(text: str) -> str:
    """A username."""
    try:
        return check_username(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(error.reason) from None


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

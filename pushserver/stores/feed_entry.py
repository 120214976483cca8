"""What a pod is told through its feed: hints, and what it is to do for a user.

An entry of the stream has one field that names what it is, with JSON; beside hints stand the texts of
messages that are small, each under `text:ID`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pushserver.core.categories import Categories, parse_categories
from pushserver.core.jsontext import dump, parse_quick
from pushserver.core.names import check_message_id, check_username
from pushserver.stores.replies import check_token
from pushserver.stores.stream import fields_of

__all__ = ["Ask", "FeedEntry", "Hint", "Hints", "Kick", "Push", "Recategorize", "decode", "encode"]

Flat = list[str | bytes | int | float]


@dataclass(frozen=True, slots=True)
class Hint:
    """User U has a new message: the `seq`-th that was appended to the inbox."""

    user: str
    seq: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Hints:
    """Many hints; `texts` has those of small messages: id -> (text, ms since 1970 when it goes away)."""

    hints: Sequence[Hint]
    texts: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Push:
    """A message for those only who are live: for `users`, or for whom `categories` mean (if not None)."""

    message_id: str
    text: bytes
    users: Sequence[str] = ()
    categories: Categories | None = None


@dataclass(frozen=True, slots=True)
class Kick:
    """Close the user's connections."""

    user: str


@dataclass(frozen=True, slots=True)
class Recategorize:
    """The user's categories were changed: read them anew."""

    user: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What of this message was sent to the user's connections? The answer goes to `stores.replies`."""

    user: str
    message_id: str
    token: str


FeedEntry = Hints | Push | Kick | Recategorize | Ask


def encode(entry: FeedEntry) -> Flat:
    """Fields and values in turn."""
    match entry:
        case Hints(hints, texts):
            told = [[hint.user, hint.seq, hint.message_id] for hint in hints]
            expires = {message_id: expires_at for message_id, (_, expires_at) in texts.items()}
            flat: Flat = ["hints", dump({"hints": told, "expires": expires})]
            for message_id, (text, _) in texts.items():
                flat += (f"text:{message_id}", text)
            return flat
        case Push(message_id, text, users, categories):
            about = {"id": message_id, "users": users, "categories": categories}
            return ["push", dump(about), "text", text]
        case Kick(user):
            return ["kick", dump({"user": user})]
        case Recategorize(user):
            return ["categories", dump({"user": user})]
        case Ask(user, message_id, token):
            return ["ask", dump({"user": user, "id": message_id, "token": token})]


def decode(flat: Sequence[bytes]) -> FeedEntry | None:
    """The entry; None if it says nothing that is known: the feed's first, or one of a newer version.

    Anybody may write into the stream, so names are checked: nothing but names goes on to whoever acts on it.
    """
    fields = fields_of(flat)
    kind = next(iter(fields), b"")
    read = _READERS.get(kind)
    if read is None:
        return None
    try:
        return read(parse_quick(fields[kind]), fields)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _hints(about: Any, fields: Mapping[bytes, bytes]) -> Hints:
    texts = {
        check_message_id(message_id): (fields[b"text:" + message_id.encode()], _number(expires_at))
        for message_id, expires_at in about["expires"].items()
    }
    hints = [
        Hint(check_username(user), _number(seq), check_message_id(message_id))
        for user, seq, message_id in about["hints"]
    ]
    return Hints(hints, texts)


def _push(about: Any, fields: Mapping[bytes, bytes]) -> Push:
    categories = about["categories"]
    if categories is not None:
        categories = parse_categories(categories)
    users = [check_username(user) for user in about["users"]]
    return Push(check_message_id(about["id"]), fields[b"text"], users, categories)


def _kick(about: Any, _: Mapping[bytes, bytes]) -> Kick:
    return Kick(check_username(about["user"]))


def _recategorize(about: Any, _: Mapping[bytes, bytes]) -> Recategorize:
    return Recategorize(check_username(about["user"]))


def _ask(about: Any, _: Mapping[bytes, bytes]) -> Ask:
    return Ask(check_username(about["user"]), check_message_id(about["id"]), check_token(about["token"]))


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("no whole number")
    return value


_READERS: dict[bytes, Callable[[Any, Mapping[bytes, bytes]], FeedEntry]] = {
    b"hints": _hints,
    b"push": _push,
    b"kick": _kick,
    b"categories": _recategorize,
    b"ask": _ask,
}

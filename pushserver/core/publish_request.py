"""A back end's request to publish: strict reading of its JSON into a `Publication`.

    {"id"?, "to": {"users": [..]} | {"categories": {kind: [..]}} | {"everyone": true},
     "content": ANY, "ttl"?, "offline"?}

`content` goes on as it stands in the request, white space inside it included, so that no number and no
order of names changes on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pushserver.core.categories import NO_CATEGORIES, Categories, parse_categories
from pushserver.core.errors import InvalidFieldError, InvalidNameError
from pushserver.core.jsontext import parse_strict
from pushserver.core.jsonwalk import JsonWalk, Steps
from pushserver.core.names import check_message_id, check_username
from pushserver.core.publication import Publication

__all__ = ["PublishRules", "checked_json", "content_text", "decoded", "parse_publish", "target_categories"]

USERS_A_STEP = 1000
MAX_CATEGORIES_BYTES = 512 * 1024
"""More than the most that `parse_categories` takes, however it is escaped."""
_ONE_TARGET = "must have exactly one of users, categories and everyone"


@dataclass(frozen=True, slots=True)
class PublishRules:
    """What a request may ask for, from settings; `ttl_s` is for those that ask for none."""

    max_users: int
    ttl_s: int
    max_ttl_s: int


def parse_publish(body: bytes, rules: PublishRules, new_id: Callable[[], str]) -> Steps[Publication]:
    """What `body` asks for; `new_id` makes an id if it names none.

    Raises `InvalidFieldError` for the first field that is wrong, or one that is unknown.
    """
    walk = JsonWalk(decoded(body))
    walk.enter("{", "must be a JSON object")
    given: dict[str, Any] = {}
    seen: set[str] = set()
    while (name := (yield from walk.next_name(seen))) is not None:
        walk.field = name[:64]
        if name == "to":
            given[name] = yield from _target(walk, rules)
        elif name == "id":
            given[name] = _message_id((yield from walk.string()))
        elif name in {"content", "ttl", "offline"}:
            given[name] = yield from walk.value()
        else:
            walk.refuse("is not a field; there are id, to, content, ttl and offline")
        walk.field = ""
    walk.end()
    for name in ("to", "content"):
        if name not in given:
            raise InvalidFieldError(name, "is missing")
    users, categories = given["to"]
    return Publication(
        id=given.get("id") or new_id(),
        content=given["content"],
        ttl_s=_ttl(given["ttl"], rules) if "ttl" in given else rules.ttl_s,
        users=users,
        categories=categories,
        offline=_flag("offline", given.get("offline", "true")),
        id_is_new="id" not in given,
    )


def checked_json(body: bytes, field: str = "") -> Steps[Any]:
    """The value of a small JSON text, checked as strictly as a publish. Raises `InvalidFieldError`."""
    text = yield from content_text(body, field)
    return parse_strict(text)


def content_text(body: bytes, field: str = "content") -> Steps[str]:
    """The text of a JSON value as it may be published. Raises `InvalidFieldError`."""
    walk = JsonWalk(decoded(body, field))
    walk.field = field
    text = yield from walk.value()
    walk.end()
    return text


def decoded(body: bytes, field: str = "") -> str:
    """UTF-8 without a byte order mark. Raises `InvalidFieldError`."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidFieldError(field, "begins with a byte order mark")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidFieldError(field, "is not UTF-8") from None


def target_categories(raw: object, field: str = "to.categories") -> Categories:
    """Whom a message is for, by category: every kind with a value. Raises `InvalidFieldError`."""
    if isinstance(raw, dict):
        if not raw:
            # It would mean everyone, which has to be said.
            raise InvalidFieldError(field, "must name a kind; for everybody there is everyone")
        for kind, values in raw.items():
            if values == []:
                raise InvalidFieldError(f"{field}.{kind[:64]}", "must have a value")
    try:
        return parse_categories(raw)
    except InvalidNameError as error:
        raise InvalidFieldError(field + error.kind.removeprefix("categories"), error.reason) from None


def _target(walk: JsonWalk, rules: PublishRules) -> Steps[tuple[tuple[str, ...], Categories | None]]:
    walk.enter("{", "must be an object: " + _ONE_TARGET)
    seen: set[str] = set()
    target: tuple[tuple[str, ...], Categories | None] = ((), None)
    while (name := (yield from walk.next_name(seen))) is not None:
        walk.field = f"to.{name[:64]}"
        if name == "users":
            target = ((yield from _users(walk, rules.max_users)), None)
        elif name == "categories":
            target = ((), (yield from _categories(walk)))
        elif name == "everyone":
            if (yield from walk.value()) != "true":
                walk.refuse("must be true")
            target = ((), NO_CATEGORIES)
        else:
            walk.refuse("is not a field; there are users, categories and everyone")
        walk.field = "to"
    if len(seen) != 1:
        walk.refuse(_ONE_TARGET)
    return target


def _users(walk: JsonWalk, max_users: int) -> Steps[tuple[str, ...]]:
    """The usernames, each once. Each is judged as it is read: a wrong list is not read to its end."""
    field = walk.field
    walk.enter("[", "must be an array of usernames")
    users: dict[str, None] = {}
    number = 0
    while walk.next_item(first=number == 0):
        if number == max_users:
            walk.refuse(f"has more than {max_users} users")
        walk.field = f"{field}[{number}]"
        try:
            users[check_username((yield from walk.string()))] = None
        except InvalidNameError as error:
            walk.refuse(error.reason)
        walk.field = field
        number += 1
        if number % USERS_A_STEP == 0:
            yield
    if not users:
        walk.refuse("must name a user")
    return tuple(users)


def _categories(walk: JsonWalk) -> Steps[Categories]:
    text = yield from walk.value()
    if len(text) > MAX_CATEGORIES_BYTES:
        walk.refuse("is too large")
    return target_categories(parse_strict(text), walk.field)


def _message_id(value: str | None) -> str:
    try:
        return check_message_id(value)
    except InvalidNameError as error:
        raise InvalidFieldError("id", error.reason) from None


def _ttl(text: str, rules: PublishRules) -> int:
    try:
        # As JSON Schema has it, 60.0 is an integer.
        seconds = float(text)
    except ValueError:  # no number: the walk lets pass no word that float() knows
        seconds = 0.0
    if seconds.is_integer() and 1 <= seconds <= rules.max_ttl_s:
        return int(seconds)
    raise InvalidFieldError("ttl", f"must be whole seconds from 1 to {rules.max_ttl_s}")


def _flag(field: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise InvalidFieldError(field, "must be true or false")
    return text == "true"

"""The shapes that the description of the API names."""

from __future__ import annotations

from typing import Any

from pushserver.core.categories import KINDS, MAX_VALUE_BYTES, MAX_VALUES
from pushserver.core.names import MAX_USERNAME_BYTES
from pushserver.core.publication import KINDS as PUBLICATION_KINDS
from pushserver.core.publish_request import PublishRules

__all__ = ["Shape", "closed", "ref", "schemas"]

Shape = dict[str, Any]

_COUNT: Shape = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Shape = {"type": ["integer", "null"], "minimum": 0}
_TEXT: Shape = {"type": "string"}
_MILLISECONDS: Shape = {"type": "integer", "description": "Milliseconds since 1970 by Redis' clock."}
_MILLISECONDS_OR_NULL: Shape = {**_MILLISECONDS, "type": ["integer", "null"]}
_VALUE: Shape = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": MAX_VALUE_BYTES},
        {"type": "integer", "description": "Kept as its text."},
    ],
    "description": f"At most {MAX_VALUE_BYTES} bytes of printable text.",
}


def ref(name: str) -> Shape:
    """The shape of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(required: Shape, optional: Shape | None = None, **more: Any) -> Shape:
    """An object with these members and no other."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def schemas(rules: PublishRules) -> Shape:
    """Every shape by its name; bounds are those in force."""
    pods = {"type": "array", "items": _TEXT, "description": "Pods that were told."}
    ids = {"type": "array", "items": ref("MessageId")}
    user = {"user": ref("Username")}
    return {
        "Username": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_USERNAME_BYTES,
            "description": f"1 to {MAX_USERNAME_BYTES} bytes of UTF-8 without control characters.",
        },
        "MessageId": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
        "Categories": _categories(min_values=0),
        "TargetCategories": {
            **_categories(min_values=1),
            "minProperties": 1,
            "description": "Any of the values within a kind, all of the kinds.",
        },
        "Target": _target(rules),
        "Publish": _publish(rules),
        "Published": closed(
            {"id": ref("MessageId"), "users": _COUNT_OR_NULL, "online": _COUNT_OR_NULL},
            description="`users` and `online` are null for categories and everyone.",
        ),
        "Duplicate": closed(
            {
                "id": ref("MessageId"),
                "users": _COUNT_OR_NULL,
                "online": _COUNT_OR_NULL,
                "duplicate": {"const": True},
            }
        ),
        "Recalled": closed({"id": ref("MessageId"), "recalled": {"const": True}}),
        "Explained": _explained(),
        "Way": _way(),
        "SentOn": _sent_on(),
        "User": _user(),
        "Ids": closed({**user, "ids": ids}),
        "PutBack": closed({**user, "id": ref("MessageId"), "put_back": {"const": True}}),
        "StoredCategories": closed({**user, "categories": ref("Categories"), "pods": pods}),
        "Disconnected": closed({**user, "pods": pods}),
        "Erased": closed({**user, "erased": {"const": True}, "pods": pods}),
        "Pods": closed({"pods": {"type": "array", "items": _pod()}}),
        "Stats": {"type": "object", "description": "This pod's name, boot, readiness and counts."},
        "CategoryCounts": closed({"categories": {"type": "array", "items": _category_counts()}}),
        "Exposures": _exposures(),
        "Description": {"type": "object"},
        "Error": closed({"error": _error()}),
    }


def _target(rules: PublishRules) -> Shape:
    users = {"type": "array", "items": ref("Username"), "minItems": 1, "maxItems": rules.max_users}
    return {
        "oneOf": [
            closed({"users": {**users, "description": "One that is named twice counts once."}}),
            closed({"categories": ref("TargetCategories")}),
            closed({"everyone": {"const": True}}),
        ]
    }


def _publish(rules: PublishRules) -> Shape:
    return closed(
        {"to": ref("Target"), "content": {"description": "Any JSON; it goes to clients as it stands."}},
        {
            "id": {
                **ref("MessageId"),
                "description": "Also the idempotency key; made by the server if there is none.",
            },
            "ttl": {
                "type": "integer",
                "minimum": 1,
                "maximum": rules.max_ttl_s,
                "default": rules.ttl_s,
                "description": "Whole seconds that the message waits.",
            },
            "offline": {
                "type": "boolean",
                "default": True,
                "description": "False: for those only who are live right now; stored nowhere.",
            },
        },
    )


def _categories(min_values: int) -> Shape:
    values = {
        "anyOf": [
            _VALUE,
            {"type": "array", "items": _VALUE, "minItems": min_values, "maxItems": MAX_VALUES},
        ]
    }
    return {
        "type": "object",
        "properties": dict.fromkeys(KINDS, values),
        "additionalProperties": False,
    }


def _explained() -> Shape:
    return closed(
        {
            "id": ref("MessageId"),
            "kind": {"enum": [*PUBLICATION_KINDS, None]},
            "state": _TEXT,
            "why": _TEXT,
            **{f"{name}_at": _MILLISECONDS_OR_NULL for name in ("queued", "accepted", "expires", "recalled")},
            "users": _COUNT_OR_NULL,
            "erased": _COUNT,
            "log": {
                "type": ["object", "null"],
                "description": "Its place in the log: `id`, and `to`, the categories.",
            },
        },
        {"user": ref("Way")},
    )


def _way() -> Shape:
    return closed(
        {
            "user": ref("Username"),
            "state": _TEXT,
            "why": _TEXT,
            "at": _MILLISECONDS_OR_NULL,
            "online": {"type": "boolean"},
            "connections": {"type": "array", "items": ref("SentOn")},
        },
        description="`state` is waiting, sent, confirmed, settled, expired, evicted, recalled, parked or "
        "absent; for categories and everyone ahead or passed; unknown if only the database of exposures can "
        "tell.",
    )


def _sent_on() -> Shape:
    return closed(
        {"pod": _TEXT, "connection": {"type": ["string", "null"], "description": "null: no answer in time."}},
        {
            "state": _TEXT,
            "unconfirmed": _COUNT,
            "pushed_at": _MILLISECONDS_OR_NULL,
            "confirmed": {"type": "boolean"},
        },
    )


def _user() -> Shape:
    return {
        "type": "object",
        "properties": {
            "user": ref("Username"),
            "online": {"type": "boolean"},
            "pods": {"type": "object", "description": "Presence by pod."},
            "connections": {"type": "array", "items": {"type": "object"}, "description": "On this pod."},
            "categories": {"type": "object"},
            "inbox": {"type": "object", "properties": {"waiting": _COUNT, "parked": _COUNT}},
        },
        "required": ["user"],
    }


def _pod() -> Shape:
    return closed(
        {"pod": _TEXT, "alive": {"type": "boolean"}},
        {
            "boot": _COUNT,
            "host": _TEXT,
            "address": _TEXT,
            "version": _TEXT,
            "started": _MILLISECONDS,
            "expires": _MILLISECONDS,
            "lease_left_ms": {"type": "integer", "description": "Below 0 once the lease ran out."},
        },
    )


def _category_counts() -> Shape:
    size = closed({"value": _TEXT, "connections": _COUNT})
    return closed(
        {
            "kind": {"enum": list(KINDS)},
            "values": {**_COUNT, "description": "How many somebody here has."},
            "top": {
                "type": "array",
                "items": size,
                "description": "Those with most connections, descending.",
            },
        }
    )


def _exposures() -> Shape:
    return closed(
        {
            "sink": {"enum": ["stream", "pubsub", "none"]},
            "waiting": {
                **_COUNT,
                "description": "Events in the Redis stream, of all pods: for a consumer with the sink "
                "`stream`, else the spool.",
            },
            "max": {**_COUNT, "description": "Events beyond these are dropped: `exposure.spool_max`."},
        }
    )


def _error() -> Shape:
    return closed(
        {
            "code": {"type": "string", "description": "For programs; it does not change."},
            "message": {"type": "string", "description": "For people."},
        },
        {
            "field": {"type": "string", "description": "Path of the field that is wrong: `to.users[3]`."},
            "kind": {"type": "string", "description": "With `unavailable`: the class of Redis' trouble."},
        },
    )

"""The description of the API, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from pushserver import __version__
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin.openapi_schemas import Shape, ref, schemas

__all__ = ["describe_api"]

_ERRORS = {
    400: "`bad_field` with the `field` that is wrong; `bad_username`, `bad_id` for a part of the path.",
    401: "`not_authenticated`: no API key, or a wrong one.",
    403: "`origin`: the request comes from a web page that is not the dashboard.",
    404: "`unknown_message`, `not_parked`.",
    405: "`method_not_allowed`; `Allow` names those that are.",
    409: "`id_reused`: the id is that of another message.",
    410: "`recalled`: the message of that id was recalled.",
    413: "`too_large`: more body than the call takes.",
    415: "`unsupported_media_type`.",
    421: "`wrong_host`: without API keys the server is asked for by address or localhost.",
    429: "`too_many_guesses`: wrong keys from this address; come back after `Retry-After` seconds.",
    503: "`unavailable`: Redis did not do it, `kind` says why; it may be done in part. Repeat it.",
}
_ALWAYS = (401, 403, 405, 413, 421, 429)
_WITH_BODY = (400, 415)
_STORED = (503,)
_JSON = "application/json"
_NDJSON = "application/x-ndjson"

_USER: Shape = {"name": "user", "in": "path", "required": True, "schema": ref("Username")}
_ID: Shape = {"name": "id", "in": "path", "required": True, "schema": ref("MessageId")}


def describe_api(rules: PublishRules) -> Shape:
    """The whole document; its bounds are those in force."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pushserver",
            "version": __version__,
            "description": "Send messages to users, and look after users and pods. "
            'Every error is `{"error": {"code", "message"}}`.',
        },
        "security": [{"key": []}],
        "paths": {**_messages(), **_users(), **_others()},
        "components": {
            "schemas": schemas(rules),
            "responses": {f"E{status}": _error(status) for status in _ERRORS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _messages() -> Shape:
    return {
        "/v1/messages": {
            "post": _call(
                "publish",
                "Send a message. 202: it is in the inbox of every named user.",
                {202: "Published", 200: "Duplicate"},
                (*_WITH_BODY, 409, 410, *_STORED),
                body=_body(_JSON, ref("Publish")),
            )
        },
        "/v1/messages/batch": {
            "post": _call(
                "batch",
                "Send many messages: one `Publish` on a line, at most 10 000 lines. Each is answered, in "
                'order, by a line `{"line", "status", ...}` with what `publish` would have answered; '
                "read the answers while sending. Blank lines are skipped; a line too many ends the batch.",
                {},
                (415,),
                body=_body(_NDJSON, {"type": "string"}),
            ),
        },
        "/v1/messages/{id}": {
            "get": _call(
                "explain",
                "Where a message is and why; with `user`, on its way to that user.",
                {200: "Explained"},
                (400, 404, *_STORED),
                parameters=[_ID, {**_USER, "in": "query", "required": False}],
            ),
            "delete": _call(
                "recall",
                "Take back what is not delivered yet, on every pod.",
                {200: "Recalled"},
                (400, 404, *_STORED),
                parameters=[_ID],
            ),
        },
    }


def _users() -> Shape:
    stored: Any = {"parameters": [_USER], "errors": (400, *_STORED)}
    return {
        "/v1/users/{user}": {
            "get": _call("user", "Where a user is, and what waits.", {200: "User"}, **stored),
            "delete": _call(
                "erase", "Disconnect a user and remove every key of theirs.", {200: "Erased"}, **stored
            ),
        },
        "/v1/users/{user}/inbox": {
            "get": _call("inbox", "The ids that wait, oldest first.", {200: "Ids"}, **stored)
        },
        "/v1/users/{user}/parked": {
            "get": _call("parked", "The ids taken out of the inbox as poison.", {200: "Ids"}, **stored)
        },
        "/v1/users/{user}/parked/{id}": {
            "post": _call(
                "put_back",
                "Put a parked message back into the inbox.",
                {200: "PutBack"},
                (400, 404, *_STORED),
                parameters=[_USER, _ID],
            )
        },
        "/v1/users/{user}/categories": {
            "put": _call(
                "set_categories",
                "Store a user's categories in place of those before; live connections move at once.",
                {200: "StoredCategories"},
                (*_WITH_BODY, *_STORED),
                parameters=[_USER],
                body=_body(_JSON, ref("Categories")),
            )
        },
        "/v1/users/{user}/disconnect": {
            "post": _call(
                "disconnect", "Close a user's connections on every pod.", {200: "Disconnected"}, **stored
            )
        },
    }


def _others() -> Shape:
    return {
        "/v1/pods": {"get": _call("pods", "The cluster.", {200: "Pods"}, _STORED)},
        "/v1/stats": {"get": _call("stats", "This pod's figures.", {200: "Stats"}, ())},
        "/v1/categories": {
            "get": _call("categories", "This pod's connections by category.", {200: "CategoryCounts"}, ())
        },
        "/v1/exposures": {"get": _call("exposures", "What waits to be kept.", {200: "Exposures"}, _STORED)},
        "/openapi.json": {"get": _call("description", "This document.", {200: "Description"}, ())},
    }


def _call(
    name: str,
    summary: str,
    answers: dict[int, str],
    errors: tuple[int, ...],
    *,
    parameters: list[Shape] | None = None,
    body: Shape | None = None,
) -> Shape:
    responses = {
        str(status): {"description": shape, "content": {_JSON: {"schema": ref(shape)}}}
        for status, shape in answers.items()
    }
    if not answers:
        responses["200"] = {"description": "Results", "content": {_NDJSON: {"schema": {"type": "string"}}}}
    for status in sorted({*errors, *_ALWAYS}):
        responses[str(status)] = {"$ref": f"#/components/responses/E{status}"}
    return {
        "operationId": name,
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": body} if body else {}),
        "responses": responses,
    }


def _body(kind: str, schema: Shape) -> Shape:
    return {"required": True, "content": {kind: {"schema": schema}}}


def _error(status: int) -> Shape:
    return {"description": _ERRORS[status], "content": {_JSON: {"schema": ref("Error")}}}

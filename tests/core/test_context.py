from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context import Context, Handler
from pushserver.core.context_errors import ErrorEntry
from pushserver.core.request import HttpRequest
from pushserver.core.response import Response

REQUEST = HttpRequest("GET", "/ws", peer="192.0.2.1")


def context(*handlers: Handler | None) -> Context:
    return Context(REQUEST, ClientIPRule(), handlers)


def test_a_context_holds_what_it_was_built_with_and_nothing_else() -> None:
    ctx = Context(REQUEST, ClientIPRule(), params=[("room", "a")], full_path="/ws/:room")
    assert ctx.request is REQUEST
    assert (ctx.keys, ctx.errors, ctx.params) == ({}, [], [("room", "a")])
    assert (ctx.full_path(), ctx.client_ip(), ctx.remote_ip()) == ("/ws/:room", "192.0.2.1", "192.0.2.1")
    assert not ctx.is_aborted()
    assert not hasattr(ctx, "__dict__")


def test_no_two_contexts_share_anything_that_changes() -> None:
    first, second = context(), context()
    first.set("k", "v")
    first.add_param("room", "a")
    first.error(OSError())
    first.status(404)
    assert (second.keys, second.params, second.errors, second.writer.has_status()) == ({}, [], [], False)


@pytest.mark.parametrize(
    "gin, python",
    [
        ("Next", "next"),
        ("Abort", "abort"),
        ("IsAborted", "is_aborted"),
        ("AbortWithStatus", "abort_with_status"),
        ("AbortWithStatusJSON", "abort_with_status_json"),
        ("AbortWithError", "abort_with_error"),
        ("Error", "error"),
        ("Status", "status"),
        ("Header", "header"),
        ("Copy", "copy"),
    ],
)
def test_each_method_answers_to_gins_spelling(gin: str, python: str) -> None:
    assert getattr(Context, gin) is getattr(Context, python)


def test_each_field_is_one_object_under_both_names_also_after_assigning_to_either() -> None:
    ctx = context()
    fields: list[tuple[str, str, Callable[[], object]]] = [
        ("keys", "Keys", dict),
        ("errors", "Errors", list),
        ("params", "Params", list),
        ("request", "Request", lambda: HttpRequest("GET", "/other")),
        ("writer", "Writer", Response),
    ]
    for python, gin, new in fields:
        assert getattr(ctx, gin) is getattr(ctx, python)
        for name in (python, gin):
            value = new()
            setattr(ctx, name, value)
            assert getattr(ctx, gin) is value
            assert getattr(ctx, python) is value


def test_a_bare_abort_refuses_the_upgrade() -> None:
    ctx = context()
    ctx.abort()
    assert not ctx.writer.has_status()
    assert ctx.refusal_status == 403


@pytest.mark.parametrize(
    "code, refusal", [(200, 200), (401, 401), (503, 503), (101, 403), (0, 403), (-1, 403)]
)
def test_an_abort_refuses_with_a_final_status_of_its_own_if_it_has_one(code: int, refusal: int) -> None:
    before, after, at_once = context(), context(), context()
    before.status(code)
    before.abort()
    after.abort()
    after.status(code)
    at_once.abort_with_status(code)
    assert [before.refusal_status, after.refusal_status, at_once.refusal_status] == [refusal] * 3


def test_a_status_alone_refuses_nothing() -> None:
    ctx = context()
    ctx.status(404)
    assert ctx.refusal_status is None


def test_a_response_that_was_sent_refuses_the_upgrade_without_an_abort() -> None:
    ctx = context()
    ctx.status(404)
    ctx.writer.write_header_now()
    assert not ctx.is_aborted()
    assert ctx.refusal_status == 404


def test_the_first_status_that_is_sent_stays() -> None:
    ctx = context()
    ctx.abort_with_status(401)
    ctx.abort_with_status(403)
    ctx.status(500)
    assert ctx.writer.status() == ctx.refusal_status == 401
    assert ctx.is_aborted()


def test_a_refusal_carries_json() -> None:
    ctx = context()
    ctx.header("Retry-After", "3")
    ctx.abort_with_status_json(503, {"error": {"code": "busy", "message": "使"}})
    assert ctx.is_aborted()
    assert ctx.writer.written()
    assert ctx.refusal_status == 503
    assert json.loads(ctx.writer.body) == {"error": {"code": "busy", "message": "使"}}
    assert ctx.writer.headers == {"Retry-After": "3", "Content-Type": "application/json; charset=utf-8"}


def test_a_response_that_was_sent_is_not_changed_by_a_second_refusal() -> None:
    ctx = context()
    ctx.abort_with_status_json(401, {"a": 1})
    ctx.abort_with_status_json(403, {"b": 2})
    ctx.header("X-Late", "1")
    assert ctx.refusal_status == 401
    assert ctx.writer.body == b'{"a":1}'
    assert "X-Late" not in ctx.writer.headers


@pytest.mark.parametrize("obj", [float("nan"), b"bytes", "\ud800", {"deep": "\ud800"}])
def test_a_refusal_stays_a_refusal_when_its_body_is_not_json(obj: object) -> None:
    ctx = context()
    ctx.abort_with_status_json(401, obj)
    assert ctx.refusal_status == 401
    assert ctx.writer.written()
    assert ctx.writer.body == b""
    assert [type(entry.err) for entry in ctx.errors] in ([ValueError], [UnicodeEncodeError])


def test_an_error_is_recorded_and_aborts_nothing() -> None:
    ctx = context()
    error = OSError("gone")
    entry = ctx.error(error)
    assert entry.err is error
    assert ctx.errors == [entry]
    assert not ctx.is_aborted()


def test_an_entry_is_recorded_as_it_is() -> None:
    ctx = context()
    entry = ErrorEntry(OSError("gone"))
    assert ctx.error(entry) is entry
    assert ctx.errors == [entry]


def test_no_error_is_no_entry() -> None:
    ctx = context()
    with pytest.raises(ValueError, match="err is None"):
        ctx.error(None)
    assert ctx.errors == []


def test_an_abort_with_an_error_does_both() -> None:
    ctx = context()
    entry = ctx.abort_with_error(400, OSError("gone"))
    assert ctx.errors == [entry]
    assert ctx.refusal_status == 400
    assert ctx.writer.written()


def test_a_header_of_the_response_is_set_and_removed() -> None:
    ctx = context()
    ctx.header("retry-after", "3")
    assert ctx.writer.headers == {"Retry-After": "3"}
    ctx.header("Retry-After", "")
    assert ctx.writer.headers == {}


@pytest.mark.gen_test
async def test_a_copy_runs_nothing_and_counts_as_aborted() -> None:
    notes: list[str] = []
    ctx = context(lambda ctx: notes.append("a"))
    twin = ctx.copy()
    await twin.next()
    assert notes == []
    assert twin.is_aborted()
    assert not ctx.is_aborted()
    await ctx.next()
    assert notes == ["a"]


def test_a_copy_has_the_same_values_and_its_own_places_for_them() -> None:
    shared = object()
    ctx = Context(REQUEST, ClientIPRule(), params=[("room", "a")], full_path="/ws/:room")
    ctx.set("k", shared)
    entry = ctx.error(OSError())
    ctx.status(404)
    twin = ctx.copy()
    assert twin.must_get("k") is shared
    assert (twin.request, twin.params, twin.errors) == (REQUEST, [("room", "a")], [entry])
    assert (twin.full_path(), twin.client_ip(), twin.writer.status()) == ("/ws/:room", "192.0.2.1", 404)
    twin.set("k", "other")
    twin.add_param("new", "n")
    twin.error(OSError())
    twin.abort_with_status(500)
    ctx.set("only here", 1)
    assert ctx.keys == {"k": shared, "only here": 1}
    assert twin.keys == {"k": "other"}
    assert (ctx.params, ctx.errors, ctx.writer.status()) == ([("room", "a")], [entry], 404)
    assert ctx.refusal_status is None

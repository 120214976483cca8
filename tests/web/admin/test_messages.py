"""One message: published, refused, recalled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushserver.core.errors import (
    IdReusedError,
    InvalidFieldError,
    RecalledError,
    StoreRefusedError,
    StoreUnavailableError,
)
from pushserver.core.publication import Publication, Published
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.web.admin.desk import desk


@pytest.mark.gen_test
async def test_a_message_is_taken_with_202_and_its_counts() -> None:
    async with desk() as at:
        at.publisher.answers["m-1"] = Published("m-1", users=2, online=1)
        answer = await at.publish(
            {"id": "m-1", "to": {"users": ["alice", "bob"]}, "content": {"a": 1}, "ttl": 5}
        )
        assert (answer.status, answer.json) == (202, {"id": "m-1", "users": 2, "online": 1})
        assert at.publisher.asked == [Publication("m-1", '{"a": 1}', 5, ("alice", "bob"))]
        assert at.results() == {"accepted": 1}


@pytest.mark.gen_test
async def test_a_message_without_an_id_gets_one_and_counts_of_nobody_are_null() -> None:
    async with desk() as at:
        for to in ({"everyone": True}, {"categories": {"vip": ["3"]}}):
            answer = await at.publish({"to": to, "content": None, "offline": False})
            assert answer.status == 202
            assert answer.json == {"id": at.publisher.asked[-1].id, "users": None, "online": None}
        assert [one.id for one in at.publisher.asked] == ["new-1", "new-2"]


@pytest.mark.gen_test
async def test_a_repeat_is_200_and_says_so() -> None:
    async with desk() as at:
        at.publisher.answers["m-1"] = Published("m-1", duplicate=True, users=1, online=0)
        answer = await at.publish({"id": "m-1", "to": {"users": ["alice"]}, "content": 1})
        assert (answer.status, answer.json) == (
            200,
            {"id": "m-1", "users": 1, "online": 0, "duplicate": True},
        )
        assert at.results() == {"duplicate": 1}


@pytest.mark.parametrize(
    "error, status, code, more",
    [
        (InvalidFieldError("content", "too large"), 400, "bad_field", {"field": "content"}),
        (IdReusedError("m-1"), 409, "id_reused", {}),
        (RecalledError("m-1"), 410, "recalled", {}),
        (StoreUnavailableError("timeout", "secret"), 503, "unavailable", {"kind": "timeout"}),
        (StoreRefusedError("oom", "secret"), 503, "unavailable", {"kind": "oom"}),
    ],
)
@pytest.mark.gen_test
async def test_what_the_publisher_refuses_has_its_status(
    error: Exception, status: int, code: str, more: dict[str, str]
) -> None:
    async with desk() as at:
        at.publisher.trouble = error
        answer = await at.publish({"id": "m-1", "to": {"users": ["alice"]}, "content": 1})
        assert (answer.status, answer.code) == (status, code)
        told = answer.json["error"]
        assert {name: told[name] for name in told.keys() - {"code", "message"}} == more
        assert ("retry-after" in answer.headers) == (status == 503)
        assert b"secret" not in answer.body
        assert at.results() == {code: 1}


@pytest.mark.parametrize(
    "body, field",
    [
        (b"", None),
        (b"[]", None),
        (b'{"to":{"users":["a"]},"content":NaN}', "content"),
        (b'{"to":{"users":["a",7]},"content":1}', "to.users[1]"),
        (b'{"to":{"users":["a"]},"content":1,"ttl":0}', "ttl"),
        (b'{"to":{"users":["a"]},"content":1,"wat":0}', "wat"),
    ],
)
@pytest.mark.gen_test
async def test_a_wrong_request_is_400_with_the_field(body: bytes, field: str | None) -> None:
    async with desk() as at:
        answer = await at.publish(body or b" ")
        assert (answer.status, answer.code) == (400, "bad_field")
        assert answer.json["error"].get("field") == field
        assert not at.publisher.asked
        assert at.results() == {"bad_field": 1}


@pytest.mark.gen_test
async def test_a_message_is_recalled_or_404() -> None:
    async with desk() as at:
        answer = await at.send("DELETE", "/v1/messages/known")
        assert (answer.status, answer.json) == (200, {"id": "known", "recalled": True})
        answer = await at.send("DELETE", "/v1/messages/other")
        assert (answer.status, answer.code) == (404, "unknown_message")
        for wrong in ("a%2Fb", "%00", "x" * 65, "%C3%A9"):
            answer = await at.send("DELETE", f"/v1/messages/{wrong}")
            assert (answer.status, answer.code) == (400, "bad_id"), wrong
        assert at.publisher.recalled == ["known", "other"]
        at.publisher.trouble = StoreUnavailableError("timeout", "")
        assert (await at.send("DELETE", "/v1/messages/known")).status == 503


def of_users() -> dict[str, Any]:
    """As many users as there may be, with names that take as much as they can."""
    return {"to": {"users": ["\U0001f600" * 29 + f"{number:05}" for number in range(10_000)]}, "content": 1}


def of_content(part: str) -> bytes:
    many = ",".join([part] * (1024 * 1024 // (len(part) + 1)))
    return f'{{"to":{{"everyone":true}},"content":[{many}]}}'.encode()


@measured_again
@pytest.mark.parametrize(
    "body",
    [
        json.dumps(of_users()).encode(),
        of_content("0"),
        of_content("[]"),
        of_content('{"a":1}'),
        of_content("1e1"),
        of_content('"\\n"'),
        of_content('"' + "x" * 500_000 + '"'),
    ],
    ids=["10000 users", "numbers", "lists", "objects", "floats", "escapes", "text"],
)
@pytest.mark.gen_test
async def test_a_large_message_holds_the_loop_for_no_longer_than_it_may_be(body: bytes) -> None:
    async with desk(max_content_bytes=1024 * 1024) as at:
        with short_callbacks():
            answer = await at.publish(body)
        assert answer.status == 202


# -- where it is


@pytest.mark.gen_test
async def test_a_message_is_explained_for_all_or_for_one_user() -> None:
    async with desk() as at:
        answer = await at.get("/v1/messages/known")
        assert (answer.status, answer.json["state"], "user" in answer.json) == (200, "accepted", False)
        answer = await at.get("/v1/messages/known?user=%20al%2Fice%E6%84%9B")
        assert answer.json["user"]["user"] == " al/ice愛"
        assert at.explainer.asked == [("known", ""), ("known", " al/ice愛")]
        answer = await at.get("/v1/messages/none")
        assert (answer.status, answer.code) == (404, "unknown_message")


@pytest.mark.parametrize(
    "path, code",
    [
        ("a%20b", "bad_id"),
        ("known?user=", "bad_username"),
        ("known?user=%0a", "bad_username"),
        ("known?user=%ff", "bad_username"),
        ("known?user=a&user=b", "bad_field"),
    ],
)
@pytest.mark.gen_test
async def test_a_wrong_question_is_400(path: str, code: str) -> None:
    async with desk() as at:
        answer = await at.get(f"/v1/messages/{path}")
        assert (answer.status, answer.code) == (400, code)
        assert at.explainer.asked == []

"""Users: asked for, and changed."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.web.admin.desk import desk


@pytest.mark.gen_test
async def test_a_user_is_asked_for_by_percent_encoded_name() -> None:
    async with desk() as at:
        for name in (
            "alice",
            "al ice",
            "a/b",
            "a+b",
            "\u00fc\u4f60\U0001f600",
            "%",
            "a?b#c",
            "{}",
            "..",
            "x" * 128,
        ):
            answer = await at.get(f"/v1/users/{quote(name, safe='')}")
            assert (answer.status, answer.json) == (200, {"user": name}), name
        assert (await at.get("/v1/users/a+b")).json == {"user": "a+b"}


@pytest.mark.gen_test
async def test_a_name_that_is_none_is_400() -> None:
    async with desk() as at:
        for name in ("%00", "a%0Ab", "%1b", "%E2%80%AE", "x" * 129, "%ED%A0%80", "%ff", "%C3%A9" * 65):
            answer = await at.get(f"/v1/users/{name}")
            assert answer.status == 400, name
            assert answer.code in {"bad_username", "bad_request"}, name
        assert not at.users.asked


@pytest.mark.gen_test
async def test_what_waits_and_what_is_parked_is_listed() -> None:
    async with desk() as at:
        answer = await at.get("/v1/users/a%2Fb/inbox")
        assert (answer.status, answer.json) == (200, {"user": "a/b", "ids": ["older", "newer"]})
        answer = await at.get("/v1/users/alice/parked")
        assert (answer.status, answer.json) == (200, {"user": "alice", "ids": ["poison"]})
        assert at.users.asked == [("inbox", "a/b"), ("parked", "alice")]


@pytest.mark.gen_test
async def test_a_parked_message_is_put_back_or_404() -> None:
    async with desk() as at:
        answer = await at.send("POST", "/v1/users/alice/parked/poison")
        assert (answer.status, answer.json) == (200, {"user": "alice", "id": "poison", "put_back": True})
        answer = await at.send("POST", "/v1/users/alice/parked/other")
        assert (answer.status, answer.code) == (404, "not_parked")
        answer = await at.send("POST", "/v1/users/alice/parked/a%20b")
        assert (answer.status, answer.code) == (400, "bad_id")
        assert at.users.asked == [("put_back", "alice", "poison"), ("put_back", "alice", "other")]


@pytest.mark.gen_test
async def test_categories_are_stored_as_the_core_understands_them() -> None:
    async with desk() as at:
        answer = await at.send(
            "PUT", "/v1/users/alice/categories", {"level": 7, "vip": ["3", 4, "3"], "sc": []}
        )
        assert (answer.status, answer.json) == (
            200,
            {"user": "alice", "categories": {"vip": ["3", "4"], "level": ["7"]}, "pods": ["pod-1"]},
        )
        assert (await at.send("PUT", "/v1/users/alice/categories", {})).json["categories"] == {}
        assert at.users.asked == [
            ("set_categories", "alice", {"vip": ("3", "4"), "level": ("7",)}),
            ("set_categories", "alice", {}),
        ]


@pytest.mark.parametrize(
    "body, field",
    [
        (b"", None),
        (b"[]", None),
        (b'{"king":["1"]}', None),
        (b'{"vip":[true]}', "vip"),
        (b'{"vip":[""]}', "vip"),
        (b'{"vip":["3"],"level":{"a":1}}', "level"),
        (b'{"vip":["3"],"vip":["4"]}', None),
        (b'{"vip":["\\ud800"]}', None),
        (b'{"vip":[1e400]}', None),
        (b'{"vip":["3"]} x', None),
    ],
)
@pytest.mark.gen_test
async def test_wrong_categories_are_400_with_the_kind(body: bytes, field: str | None) -> None:
    async with desk() as at:
        answer = await at.send("PUT", "/v1/users/alice/categories", body or b" ")
        assert (answer.status, answer.code) == (400, "bad_field")
        assert answer.json["error"].get("field") == field
        assert not at.users.asked


@pytest.mark.gen_test
async def test_a_user_is_disconnected_and_erased() -> None:
    async with desk() as at:
        answer = await at.send("POST", "/v1/users/alice/disconnect")
        assert (answer.status, answer.json) == (200, {"user": "alice", "pods": ["pod-1", "pod-2"]})
        answer = await at.send("DELETE", "/v1/users/alice")
        assert (answer.status, answer.json) == (200, {"user": "alice", "erased": True, "pods": []})
        assert at.users.asked == [("disconnect", "alice"), ("erase", "alice")]


@pytest.mark.gen_test
async def test_a_wrong_name_is_refused_by_every_call() -> None:
    async with desk() as at:
        for method, rest in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/inbox"),
            ("GET", "/parked"),
            ("POST", "/parked/m"),
            ("POST", "/disconnect"),
        ):
            answer = await at.send(method, f"/v1/users/a%0Ab{rest}")
            assert (answer.status, answer.code) == (400, "bad_username"), (method, rest)
        assert (await at.send("PUT", "/v1/users/%00/categories", {})).code == "bad_username"
        assert not at.users.asked

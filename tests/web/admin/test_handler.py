"""Who may ask the admin listener, what bodies it takes, and how it refuses."""

from __future__ import annotations

import asyncio
import hmac
import json

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin import listener
from pushserver.web.admin.intake import max_request_bytes
from pushserver.web.admin.listener import ROUTES
from pushserver.web.guesses import MAX_GUESSES
from tests.raw_http import Answer, head, read_answer
from tests.web.admin.desk import KEY, bearer, desk

# -- who may ask


@pytest.mark.gen_test
async def test_the_api_wants_one_of_its_keys() -> None:
    async with desk("another-api-key-here", KEY) as at:
        for path in ("/v1/stats", "/v1/users/alice"):
            for headers in (
                [],
                [bearer(KEY + "x")],
                [bearer(KEY[:-1])],
                [bearer(KEY.upper())],
                [bearer("")],
                [bearer("\xff")],
                [("Authorization", KEY)],
                [("Authorization", f"Basic {KEY}")],
                [bearer(), bearer()],
                [("Cookie", f"key={KEY}")],
            ):
                answer = await at.get(path, *headers)
                assert (answer.status, answer.code) == (401, "not_authenticated"), headers
                assert answer.headers["www-authenticate"] == "Bearer"
            for headers in (
                [bearer()],
                [("authorization", f"bEARER  {KEY}")],
                [bearer("another-api-key-here")],
            ):
                assert (await at.get(path, *headers)).status == 200, headers
        assert at.users.asked == [("describe", "alice")] * 3


@pytest.mark.gen_test
async def test_every_key_is_compared_in_constant_time_whichever_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []
    compare_digest = hmac.compare_digest

    def compare(given: bytes, known: bytes) -> bool:
        compared.append(known.decode())
        return compare_digest(given, known)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = (KEY, "second-key-of-tests", "third-key-of-tests!")
    async with desk(*keys) as at:
        for given in (*keys, "wrong"):
            compared.clear()
            await at.get("/v1/stats", bearer(given))
            assert compared == list(keys)


@pytest.mark.gen_test
async def test_an_address_that_guesses_is_not_believed_for_a_while() -> None:
    async with desk(KEY) as at:
        for _ in range(MAX_GUESSES):
            assert (await at.get("/v1/stats", bearer("a-wrong-key-of-tests"))).status == 401
        for key in ("a-wrong-key-of-tests", KEY):
            answer = await at.get("/v1/stats", bearer(key))
            assert (answer.status, answer.code) == (429, "too_many_guesses")
            assert answer.headers["retry-after"] == "60"
        assert (await at.get("/healthz")).status == 200


@pytest.mark.gen_test
async def test_a_back_end_with_an_old_key_locks_out_nobody_behind_the_same_proxy() -> None:
    async with desk(KEY) as at:
        assert (await at.get("/v1/stats", bearer())).status == 200
        for _ in range(MAX_GUESSES + 1):
            assert (await at.get("/v1/stats", bearer("an-old-key-of-the-tests"))).status == 401
        assert (await at.get("/v1/stats", bearer())).status == 200


@pytest.mark.gen_test
async def test_a_request_without_a_key_is_no_guess() -> None:
    async with desk(KEY) as at:
        for _ in range(MAX_GUESSES + 1):
            assert (await at.get("/v1/stats")).status == 401
        assert (await at.get("/v1/stats", bearer())).status == 200


@pytest.mark.gen_test
async def test_another_web_page_is_refused_with_or_without_a_key() -> None:
    for keys in ((), (KEY,)):
        async with desk(*keys) as at:
            for header in (
                ("Origin", "https://evil.example"),
                ("Origin", "null"),
                ("Origin", ""),
                ("Origin", "http://127.0.0.1:8000"),
                ("Origin", "http://localhost"),
                ("Origin", "https://127.0.0.1"),
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Site", "same-site"),
            ):
                answer = await at.get("/v1/stats", bearer(), header)
                assert (answer.status, answer.code) == (403, "origin"), header
            for header in (("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "same-origin")):
                assert (await at.get("/v1/stats", bearer(), header)).status == 200


@pytest.mark.gen_test
async def test_without_keys_only_a_host_that_nobody_can_rebind_is_answered() -> None:
    async with desk() as at:
        for host in (
            "127.0.0.1",
            f"127.0.0.1:{at.port}",
            "localhost:8001",
            "LOCALHOST",
            "[::1]",
            "[::1]:8001",
        ):
            assert (await at.get("/v1/stats", host=host)).status == 200, host
        for host in (
            "rebound.example",
            f"rebound.example:{at.port}",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "127.0.0.1:8001:8001",
            "[::1].rebound.example",
            "1.2.3",
        ):
            answer = await at.get("/v1/stats", host=host)
            assert (answer.status, answer.code) == (421, "wrong_host"), host
    async with desk(KEY) as at:
        assert (await at.get("/v1/stats", bearer(), host="push.example")).status == 200


# -- refusals


@pytest.mark.gen_test
async def test_redis_trouble_is_503_with_its_class() -> None:
    async with desk() as at:
        at.users.trouble = StoreUnavailableError("timeout", "what only the log may know")
        answer = await at.get("/v1/users/alice")
        assert (answer.status, answer.code) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert b"timeout" in answer.body
        assert b"only the log" not in answer.body


@pytest.mark.gen_test
async def test_an_error_of_ours_is_500_in_json_and_one_event_of_the_log() -> None:
    async with desk() as at:
        at.users.trouble = ZeroDivisionError("what only the log may know")
        with capture_logs() as lines:
            answer = await at.get("/v1/users/alice?key=SECRET")
        assert (answer.status, answer.code) == (500, "internal_server_error")
        assert b"only the log" not in answer.body
        (line,) = lines
        assert (line["event"], line["path"]) == ("request.failed", "/v1/users/alice")
        assert "SECRET" not in str(line)


@pytest.mark.gen_test
async def test_every_other_path_is_404_in_json() -> None:
    async with desk() as at:
        for path in ("/", "/v1", "/v1/users/", "/v1/users/a/b", "/v1/stats/", "//evil", "/metrics/", "/ws"):
            answer = await at.get(path)
            assert (answer.status, answer.code) == (404, "not_found"), path
            assert "location" not in answer.headers


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X-BREW")


@pytest.mark.gen_test
async def test_every_other_method_is_405_in_json_and_told_which_are_right() -> None:
    async with desk() as at:
        for template, handler in ROUTES.items():
            path = template.format(user="alice", id="m-1")
            right = [method for method in METHODS if method.lower() in vars(handler)]
            assert right, path
            for method in set(METHODS) - set(right):
                answer = await at.get(path, method=method)
                assert answer.status == 405, (path, method)
                assert sorted(answer.headers["allow"].split(", ")) == sorted(right), (path, method)
                assert method == "HEAD" or answer.code == "method_not_allowed", (path, method)
        assert (await at.get("/nowhere", method="POST")).status == 404


@pytest.mark.gen_test
async def test_no_answer_tells_a_version_of_anything() -> None:
    async with desk(KEY) as at:
        for path in (*ROUTES, "/nowhere"):
            assert (await at.get(path)).headers["server"] == "pushserver"


@pytest.mark.gen_test
async def test_calls_are_counted_by_name_and_class_of_status() -> None:
    async with desk() as at:
        await at.get("/v1/users/alice")
        await at.get("/v1/users/%00")
        await at.get("/v1/users/alice", method="PATCH")
        at.users.trouble = StoreUnavailableError("timeout", "")
        await at.get("/v1/users/alice")
        await at.get("/v1/users/alice", method="DELETE")
        for call, status, times in (
            ("user", "2xx", 1),
            ("user", "4xx", 1),
            ("none", "4xx", 1),
            ("user", "5xx", 1),
            ("erase", "5xx", 1),
        ):
            assert at.counted("api_requests", call=call, status=status) == times, (call, status)


# -- bodies


async def begun(port: int, *headers: tuple[str, str], method: str = "POST", path: str) -> Answer:
    """What is answered to a head, before any of its body is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head([("Host", "127.0.0.1"), *headers], method=method, path=path))
    try:
        return await read_answer(reader)
    finally:
        writer.close()


@pytest.mark.gen_test
async def test_whoever_may_not_ask_is_answered_before_any_body_and_cut_off() -> None:
    async with desk(KEY) as at:
        for path in ("/v1/messages", "/v1/messages/batch", "/v1/stats", "/nowhere", "/metrics"):
            for length in (("Content-Length", "1000000000"), ("Transfer-Encoding", "chunked")):
                for expect in ((), (("Expect", "100-continue"),)):
                    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
                    about = [("Host", "a"), ("Content-Type", "application/json"), length, *expect]
                    writer.write(head(about, method="POST", path=path))
                    answer = await asyncio.wait_for(reader.read(), 10)
                    assert answer[:12] in {b"HTTP/1.1 401", b"HTTP/1.1 404", b"HTTP/1.1 405"}, (path, answer)
                    writer.close()


@pytest.mark.gen_test
async def test_a_body_is_bounded_by_its_length_or_as_it_comes() -> None:
    bound = max_request_bytes(1000, 10)
    async with desk(rules=PublishRules(10, 600, 600), max_content_bytes=1000) as at:
        kind = ("Content-Type", "application/json")
        answer = await begun(at.port, kind, ("Content-Length", str(bound + 1)), path="/v1/messages")
        assert (answer.status, answer.code) == (413, "too_large")
        text = json.dumps({"to": {"everyone": True}, "content": 1}).encode()
        assert (await at.publish(text + b" " * (bound - len(text)))).status == 202
        for size, status in ((bound, 202), (bound + 1, 413)):
            data = text + b" " * (size - len(text))
            chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (100, data[:100], size - 100, data[100:])
            sent = await at.get(
                "/v1/messages", kind, ("Transfer-Encoding", "chunked"), method="POST", body=chunks
            )
            assert sent.status == status
            if status == 413:
                assert sent.code == "too_large"
        assert len(at.publisher.asked) == 2


@pytest.mark.gen_test
async def test_a_call_that_takes_no_body_says_so() -> None:
    async with desk() as at:
        for method, path in (
            ("POST", "/v1/users/alice/disconnect"),
            ("DELETE", "/v1/users/alice"),
            ("GET", "/v1/stats"),
            ("GET", "/healthz"),
        ):
            assert (await at.send(method, path, b"{}")).code == "too_large", path
            assert (await at.get(path, ("Content-Length", "0"), method=method)).status == 200, path
        assert len(at.users.asked) == 2


@pytest.mark.gen_test
async def test_a_body_is_what_the_call_takes() -> None:
    async with desk() as at:
        message = {"to": {"everyone": True}, "content": 1}
        for kind in (
            "application/json",
            "Application/JSON; charset=UTF-8",
            'application/json;charset="utf-8"',
        ):
            assert (await at.send("POST", "/v1/messages", message, kind=kind)).status == 202, kind
        for kind in (
            "",
            "text/plain",
            "application/json; charset=latin-1",
            "application/jsonp",
            "application/x-ndjson",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            answer = await at.send("POST", "/v1/messages", message, kind=kind)
            assert (answer.status, answer.code) == (415, "unsupported_media_type"), kind
        zipped = ("Content-Encoding", "gzip")
        assert (await at.send("POST", "/v1/messages", message, zipped)).status == 415
        assert (await at.send("POST", "/v1/messages/batch", message)).status == 415
        assert (await at.send("PUT", "/v1/users/alice/categories", {}, kind="text/plain")).status == 415
        assert len(at.publisher.asked) == 3


@pytest.mark.gen_test
async def test_a_connection_is_kept_for_the_next_call() -> None:
    async with desk() as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        data = b'{"to":{"everyone":true},"content":1}'
        about = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
        ]
        for _ in range(3):
            writer.write(head(about, method="POST", path="/v1/messages") + data)
            assert (await read_answer(reader)).status == 202
            writer.write(head(about[:1], path="/v1/stats"))
            assert (await read_answer(reader)).status == 200
        writer.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b'{"to":', id="half of it"),
        pytest.param(b"", id="nothing of it"),
        pytest.param(None, id="chunks without an end"),
    ],
)
async def test_a_body_that_does_not_come_ends_its_connection_also_behind_one_that_came(
    begin: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = b'{"to":{"everyone":true},"content":1}'
    monkeypatch.setattr(listener, "IDLE_S", 0.2)
    about = [("Host", "localhost"), ("Content-Type", "application/json")]
    with_length = [*about, ("Content-Length", str(len(whole)))]
    post = {"method": "POST", "path": "/v1/messages"}
    async with desk() as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(head(with_length, **post) + whole)
        assert (await read_answer(reader)).status == 202
        if begin is None:
            chunked = ("Transfer-Encoding", "chunked")
            writer.write(head([*about, chunked], **post) + b"4\r\n" + whole[:4] + b"\r\n")
        else:
            writer.write(head(with_length, **post) + begin)
        assert (await read_answer(reader)).status == 0
        assert len(at.publisher.asked) == 1
        writer.close()

from __future__ import annotations

import logging

import pytest

from pushserver.core.response import Response


def test_a_fresh_response_is_an_empty_200_that_nobody_asked_for() -> None:
    response = Response()
    assert (response.status(), response.headers, response.body) == (200, {}, b"")
    assert not response.has_status()
    assert not response.written()


def test_each_method_answers_to_gins_spelling() -> None:
    assert Response.Status is Response.status
    assert Response.Written is Response.written
    assert Response.WriteHeader is Response.write_header
    assert Response.WriteHeaderNow is Response.write_header_now


def test_the_last_status_before_the_seal_counts() -> None:
    response = Response()
    response.write_header(404)
    response.write_header(401)
    response.write_header_now()
    assert response.status() == 401
    assert response.has_status()
    assert response.written()


@pytest.mark.parametrize("code", [0, -1])
def test_a_status_that_is_not_positive_changes_nothing(code: int) -> None:
    response = Response()
    response.write_header(code)
    assert not response.has_status()
    response.write_header(401)
    response.write_header(code)
    assert response.status() == 401


def test_a_status_after_the_seal_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    response = Response()
    response.write_header(401)
    response.write_header_now()
    response.write_header(403)
    assert response.status() == 401
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "status 403 ignored: the response has status 401 already")
    ]


def test_repeating_the_status_after_the_seal_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    response = Response()
    response.write_header_now()
    response.write_header(200)
    response.write_header_now()
    assert caplog.records == []


def test_a_header_is_set_in_any_letter_case_and_removed_by_an_empty_value() -> None:
    response = Response()
    response.set_header("retry-AFTER", "1")
    response.set_header("Retry-After", "2")
    response.set_header("www-authenticate", "Bearer")
    assert response.headers == {"Retry-After": "2", "Www-Authenticate": "Bearer"}
    response.set_header("RETRY-AFTER", "")
    response.set_header("X-Absent", "")
    assert response.headers == {"Www-Authenticate": "Bearer"}


def test_a_header_value_cannot_forge_a_line() -> None:
    response = Response()
    response.set_header("X-Echo", "a\r\nSet-Cookie: b\x00\x1b\x7f\tc")
    assert response.headers == {"X-Echo": "a  Set-Cookie: b   \tc"}


def test_a_sealed_response_takes_no_more_headers_and_no_body() -> None:
    response = Response()
    response.set_header("X-A", "1")
    response.write_header_now()
    response.set_header("X-A", "")
    response.set_header("X-B", "2")
    response.write_json(b"{}")
    assert (response.headers, response.body) == ({"X-A": "1"}, b"")


def test_json_seals_the_response() -> None:
    response = Response()
    response.write_json(b"{}")
    response.write_json(b"[]")
    assert response.written()
    assert response.body == b"{}"
    assert response.headers == {"Content-Type": "application/json; charset=utf-8"}


def test_json_leaves_a_content_type_that_is_set() -> None:
    response = Response()
    response.set_header("content-type", "application/problem+json")
    response.write_json(b"{}")
    assert response.headers == {"Content-Type": "application/problem+json"}


@pytest.mark.parametrize(
    "code, body", [(101, b""), (199, b""), (200, b"{}"), (204, b""), (304, b""), (401, b"{}")]
)
def test_a_body_goes_only_with_a_status_that_may_have_one(code: int, body: bytes) -> None:
    response = Response()
    response.write_header(code)
    response.write_json(b"{}")
    assert response.body == body


def test_a_copy_answers_the_same_and_goes_its_own_way() -> None:
    response = Response()
    response.set_header("X-A", "1")
    response.write_header(401)
    twin = response.copy()
    twin.set_header("X-A", "2")
    twin.write_header(403)
    twin.write_json(b"{}")
    assert (response.status(), response.headers, response.body) == (401, {"X-A": "1"}, b"")
    assert not response.written()
    sealed = twin.copy()
    assert (sealed.status(), sealed.headers, sealed.body) == (403, twin.headers, b"{}")
    assert sealed.written()

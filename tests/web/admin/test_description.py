"""The description of the API and the API: one says what the other does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from pushserver.core.errors import IdReusedError, RecalledError, StoreUnavailableError
from pushserver.core.publication import Published
from pushserver.web.admin.dashboard import FILES
from pushserver.web.admin.listener import ROUTES
from pushserver.web.admin.openapi import describe_api
from tests.web.admin.desk import KEY, RULES, Desk, bearer, desk

DOCUMENT = describe_api(RULES)
NOT_DESCRIBED = {"/healthz", "/readyz", "/metrics", *FILES}
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
EXAMPLES = 12

load_all_checks()
# Any, for what schemathesis gives for checks is not what it takes by its own types.
DESCRIBED: Any = CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)

# A batch is a text of lines, each with a status of its own: what is wrong with one refuses not the batch.
UNFIT = {"/v1/messages/batch": {"negative_data_rejection"}}


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """A batch's body: text as it is."""
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


def implemented() -> dict[str, dict[str, str]]:
    """Path to its methods, with the name of each call."""
    return {
        path: {
            method: handler.calls[method.upper()]  # type: ignore[attr-defined]  # what is described has it
            for method in METHODS
            if method in vars(handler)
        }
        for path, handler in ROUTES.items()
        if path not in NOT_DESCRIBED
    }


def test_routes_and_description_name_the_same_paths_methods_and_calls() -> None:
    described = {
        path: {method: call["operationId"] for method, call in methods.items()}
        for path, methods in DOCUMENT["paths"].items()
    }
    assert described == implemented()


def test_every_call_has_a_name_of_its_own() -> None:
    names = [name for methods in implemented().values() for name in methods.values()]
    assert len(names) == len(set(names))


@pytest.mark.gen_test
async def test_the_description_is_served_with_the_bounds_in_force() -> None:
    async with desk(KEY) as at:
        assert (await at.get("/openapi.json")).status == 401
        answer = await at.get("/openapi.json", bearer())
        assert answer.json == json.loads(json.dumps(DOCUMENT))
        ttl = answer.json["components"]["schemas"]["Publish"]["properties"]["ttl"]
        assert (ttl["default"], ttl["maximum"]) == (RULES.ttl_s, RULES.max_ttl_s)


def narrowed() -> dict[str, Any]:
    """The description for requests that are right: no schema can count bytes or tell control characters."""
    document: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    shapes = document["components"]["schemas"]
    texts = [shapes["Username"]]
    for name in ("Categories", "TargetCategories"):
        for values in shapes[name]["properties"].values():
            texts += [values["anyOf"][0]["anyOf"][0], values["anyOf"][1]["items"]["anyOf"][0]]
    for text in texts:
        assert text.pop("minLength") == 1
        assert text.pop("maxLength") == 128
        text["pattern"] = "^[ -~]{1,128}$"
    return document


def explore(at: Desk, method: str, path: str, mode: GenerationMode) -> None:
    """Ask as the description says, or as it says one must not, and hold the answers to it."""
    right = mode is GenerationMode.POSITIVE
    schema = schemathesis.openapi.from_dict(narrowed() if right else DOCUMENT)
    operation = schema[path][method]
    checks: Any = CHECKS.get_by_names(
        [name for name in CHECKS.get_all_names() if name not in UNFIT.get(path, ())]
    )
    with requests.Session() as session:

        @seed(1)
        @hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def answers_as_described(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(
                base_url=f"http://127.0.0.1:{at.port}",
                session=session,
                headers=dict([bearer()]),
                checks=checks,
            )

        answers_as_described()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=["right", "wrong"])
@pytest.mark.parametrize("method, path", OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
@pytest.mark.gen_test(timeout=60)
async def test_every_call_answers_as_described(method: str, path: str, mode: GenerationMode) -> None:
    async with desk(KEY) as at:
        await asyncio.to_thread(explore, at, method, path, mode)


@pytest.mark.parametrize(
    "told",
    [
        Published("m-1", duplicate=True, users=1, online=0),
        IdReusedError("m-1"),
        RecalledError("m-1"),
        StoreUnavailableError("timeout", ""),
    ],
    ids=["duplicate", "reused", "recalled", "away"],
)
@pytest.mark.gen_test(timeout=60)
async def test_what_the_publisher_answers_is_described(told: Published | Exception) -> None:
    async with desk(KEY) as at:
        at.publisher.answers["m-1"] = told
        schema = schemathesis.openapi.from_dict(DOCUMENT)
        case = schema["/v1/messages"]["post"].Case(
            body={"id": "m-1", "to": {"users": ["alice"]}, "content": 1}, media_type="application/json"
        )
        url, headers = f"http://127.0.0.1:{at.port}", dict([bearer()])
        await asyncio.to_thread(case.call_and_validate, base_url=url, headers=headers, checks=DESCRIBED)

"""The client for browsers as the public listener serves it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from tests.raw_http import ask
from tests.web.doorway import doorway

HOST = ("Host", "push.example")
SOURCE = resources.files("pushserver.web").joinpath("static/pushserver.js").read_bytes()


@pytest.mark.gen_test
async def test_the_module_is_served_to_pages_of_any_origin() -> None:
    async with doorway(origin={"allow": ["https://app.example"]}) as door:
        headers = [HOST, ("Origin", "https://elsewhere.example")]
        answer = await ask(door.port, headers, path="/pushserver.js")
    assert (answer.status, answer.body) == (200, SOURCE)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["server"] == "pushserver"


@pytest.mark.gen_test
async def test_who_has_it_is_not_sent_it_again() -> None:
    async with doorway() as door:
        first = await ask(door.port, [HOST], path="/pushserver.js")
        assert first.headers["cache-control"] == "public, max-age=3600"
        etag = first.headers["etag"]
        same = await ask(door.port, [HOST, ("If-None-Match", etag)], path="/pushserver.js")
        other = await ask(door.port, [HOST, ("If-None-Match", '"other"')], path="/pushserver.js")
    assert (same.status, same.body) == (304, b"")
    assert same.headers["etag"] == etag
    assert (other.status, other.body) == (200, SOURCE)


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("HEAD", "/pushserver.js", 200),
        ("POST", "/pushserver.js", 405),
        ("GET", "/pushserver.d.ts", 404),
        ("GET", "/static/pushserver.js", 404),
        ("GET", "/static/demo.html", 404),
        ("GET", "/demo", 404),
        ("POST", "/demo/token", 404),
        ("POST", "/demo/messages", 404),
        ("GET", "/demo/users/alice", 404),
        ("GET", "/pushserver.js/../demo.html", 404),
    ],
)
@pytest.mark.gen_test
async def test_nothing_else_of_its_folder_is_nor_a_demonstration_in_production(
    method: str, path: str, status: int
) -> None:
    async with doorway() as door:
        assert (await ask(door.port, [HOST], method=method, path=path)).status == status


def test_the_types_name_every_event_and_method_of_the_module() -> None:
    types = resources.files("pushserver.web").joinpath("static/pushserver.d.ts").read_text()
    source = SOURCE.decode()
    emitted = set(re.findall(r'#(?:emit|to)\("(message|welcome|live|state|error)"', source)) | {
        "state",
        "error",
    }
    (events,) = re.findall(r"interface Events \{(.*?)\}", types, re.S)
    assert set(re.findall(r"(\w+):", events)) == emitted
    methods = set(re.findall(r"^  (?:get )?([a-z]\w*)\(.*\) \{$", source.partition("class Seen")[0], re.M))
    declared = types.partition("export class Client")[2]
    assert methods == set(re.findall(r"^  (?:readonly )?(\w+)[(:<]", declared, re.M))
    states = set(re.findall(r'#to\("(\w+)"', source))
    (named,) = re.findall(r"type State = (.*);", types)
    assert states == set(re.findall(r'"(\w+)"', named))

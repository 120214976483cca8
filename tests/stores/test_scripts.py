from __future__ import annotations

import re
from pathlib import Path

import pytest

from pushserver.stores import scripts
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys
from pushserver.stores.scripts import script
from tests.stores.engines import REAL

NAMES = sorted(path.stem for path in (Path(scripts.__file__).parent / "lua").glob("*.lua"))
REFUSED_WHEN_FULL = {
    "categories_write",
    "inbox_append",
    "inbox_put_back",
    "log_append",
    "message_publish",
}
"""What makes Redis fuller than it is, and whose caller, a back end, can be told so."""


@pytest.mark.parametrize("name", NAMES)
def test_every_script_has_a_header_and_says_what_it_takes_and_answers(name: str) -> None:
    header, *lines = script(name).text.splitlines()
    comment = "\n".join(line for line in lines if line.startswith("--"))
    assert header.startswith("#!lua")
    assert "KEYS" in comment
    assert "->" in comment


@pytest.mark.parametrize("name", NAMES)
def test_a_full_redis_refuses_no_script_but_what_back_ends_ask_for(name: str) -> None:
    header = script(name).text.splitlines()[0]
    flags = set(re.findall("allow-oom|no-writes", header))
    assert len(flags) == (0 if name in REFUSED_WHEN_FULL else 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_takes_values_by_its_arguments_only(name: str) -> None:
    """The text is the same each time, so nothing is put into it."""
    assert script(name) is script(name)
    assert "loadstring" not in script(name).text


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.gen_test
async def test_every_script_compiles_and_is_named_by_its_digest(commands: Commands, name: str) -> None:
    for digest in await commands.on_each_node("SCRIPT", "LOAD", script(name).text):
        assert digest.decode() == script(name).sha


def test_a_script_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        script("no_such_script")


# -- answers that nobody here needs, but that are promised


@pytest.mark.gen_test
async def test_the_index_says_how_many_came_and_went(commands: Commands, keys: Keys) -> None:
    pod, users = keys.pod("pod-1"), keys.pod_users("pod-1")
    await commands.call("HSET", pod, "boot", 7)
    assert await commands.script("index_add", [users], [7, "alice", "bob"]) == 2
    assert await commands.script("index_add", [users], [8, "alice", "carol"]) == 1
    assert await commands.script("index_remove", [pod, users], [8, "alice"]) == 0
    assert await commands.script("index_remove", [pod, users], [7, "alice", "bob", "dave"]) == 2
    assert await commands.call("HGETALL", users) == [b"carol", b"8"]


@pytest.mark.gen_test
async def test_a_removal_of_presence_says_what_it_found(commands: Commands, keys: Keys) -> None:
    presence, field = keys.presence("alice"), "alice:pod-1"
    assert await commands.script("presence_remove", [presence], [field, 7]) == 0
    await commands.call("HSET", presence, field, '{"boot":8,"since":1}')
    assert await commands.script("presence_remove", [presence], [field, 7]) == -1
    assert await commands.script("presence_remove", [presence], [field, 8]) == 1


@pytest.mark.gen_test
async def test_reaping_and_releasing_say_whether_they_did(commands: Commands, keys: Keys) -> None:
    names = [keys.pod("pod-1"), keys.pod_users("pod-1"), keys.feed("pod-1")]
    for name, boot, answer in [
        ("lease_reaped", 6, 0),
        ("lease_reaped", 7, 1),
        ("lease_release", 6, 0),
        ("lease_release", 7, 1),
    ]:
        await commands.call("HSET", names[0], "boot", 7, "expires", 1)
        assert await commands.script(name, names, [boot]) == answer


@pytest.mark.gen_test
async def test_the_index_of_pods_says_who_is_new(commands: Commands, keys: Keys) -> None:
    assert await commands.script("pods_index", [keys.pods], ["pod-1", 1000]) == 1
    assert await commands.script("pods_index", [keys.pods], ["pod-1", 2000]) == 0


@pytest.mark.gen_test
async def test_told_says_nothing(commands: Commands, keys: Keys) -> None:
    assert await commands.script("missed_told", [keys.missed("alice")], ["evicted", 1]) is None


@pytest.mark.gen_test
async def test_a_cursor_says_whether_it_moved(commands: Commands, keys: Keys) -> None:
    cursor = keys.cursor("alice")
    assert await commands.script("cursor_move", [cursor], ["5-1", 100, 0]) == 0
    assert await commands.script("cursor_move", [cursor], ["5-1", 100, 1]) == 1
    assert await commands.script("cursor_move", [cursor], ["5-1", 100, 1]) == 0
    assert await commands.script("cursor_move", [cursor], ["5-2", 100, 0]) == 1


@pytest.mark.gen_test
async def test_a_note_that_a_message_was_sent_says_whether_it_had_a_record(
    commands: Commands, keys: Keys
) -> None:
    record = keys.publish("m-1")
    assert await commands.script("message_sent", [record], []) == 0
    assert await commands.call("EXISTS", record) == 0
    await commands.call("HSET", record, "digest", "x")
    assert await commands.script("message_sent", [record], []) == 1

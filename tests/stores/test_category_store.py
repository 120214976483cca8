from __future__ import annotations

import pytest

from pushserver.core.errors import InvalidNameError
from pushserver.core.jsontext import dump
from pushserver.stores.category_store import CategoryStore
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys
from pushserver.stores.presence import PresenceStore


@pytest.fixture
def categories(commands: Commands, keys: Keys) -> CategoryStore:
    return CategoryStore(commands, keys)


@pytest.mark.gen_test
async def test_categories_are_read_in_the_order_of_kinds(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.categories("alice"), "hall", '["東","b"]', "vip", "[3]")
    read = await categories.read("alice")
    assert read == {"vip": ("3",), "hall": ("東", "b")}
    assert list(read) == ["vip", "hall"]


@pytest.mark.gen_test
async def test_a_user_without_categories_has_none(categories: CategoryStore) -> None:
    assert await categories.read("alice") == {}


@pytest.mark.gen_test
async def test_users_with_braces_have_categories_of_their_own(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.categories("{alice}"), "vip", "[1]")
    assert await categories.read("alice") == {}
    assert await categories.read("{alice}") == {"vip": ("1",)}


@pytest.mark.parametrize(
    "kind, values", [("color", '["red"]'), ("vip", "[[1]]"), ("vip", '["\\u0000"]'), ("vip", "[true]")]
)
@pytest.mark.gen_test
async def test_what_is_no_category_is_refused_whole(
    categories: CategoryStore, commands: Commands, keys: Keys, kind: str, values: str
) -> None:
    await commands.call("HSET", keys.categories("alice"), "hall", '["1"]', kind, values)
    with pytest.raises(InvalidNameError):
        await categories.read("alice")


@pytest.mark.parametrize(
    "kind, values", [("vip", "[1"), ("vip", b"\xff"), (b"\xff", "[1]"), ("vip", "[NaN]")]
)
@pytest.mark.gen_test
async def test_what_is_no_json_or_no_text_is_a_value_error(
    categories: CategoryStore, commands: Commands, keys: Keys, kind: str | bytes, values: str | bytes
) -> None:
    await commands.call("HSET", keys.categories("alice"), kind, values)
    with pytest.raises(ValueError, match=r"\w"):
        await categories.read("alice")


@pytest.mark.gen_test
async def test_what_is_written_replaces_all_that_was_there_and_is_another_version(
    categories: CategoryStore,
) -> None:
    assert (await categories.read("alice")).version == 0
    await categories.write("alice", {"vip": ("1", "2"), "hall": ("東",)})
    first = await categories.read("alice")
    assert first == {"vip": ("1", "2"), "hall": ("東",)}
    await categories.write("alice", {"sc": ("x",)})
    second = await categories.read("alice")
    assert second == {"sc": ("x",)}
    await categories.write("alice", {})
    third = await categories.read("alice")
    assert third == {}
    assert 0 < first.version < second.version < third.version


@pytest.mark.gen_test
async def test_a_write_tells_where_the_user_is_right_after_it(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    assert await categories.write("alice", {"vip": ("1",)}) == []
    await PresenceStore(commands, keys, "pod-7").write(1, "alice", 1, 0)
    assert await categories.write("alice", {"vip": ("2",)}) == ["pod-7"]


@pytest.mark.gen_test
async def test_a_presence_write_tells_the_version_of_that_moment(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    presence = PresenceStore(commands, keys, "pod-7")
    assert (await presence.write(1, "alice", 1, 10)).categories_version == 0
    await categories.write("alice", {"vip": ("1",)})
    version = (await categories.read("alice")).version
    assert (await presence.write(1, "alice", 1, 10)).categories_version == version


@pytest.mark.gen_test
async def test_a_kind_without_values_is_left_out(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.categories("alice"), "vip", "[]", "hall", '["H1"]')
    assert await categories.read("alice") == {"hall": ("H1",)}


@pytest.mark.gen_test
async def test_of_few_or_many_values_each_user_has_their_own(
    categories: CategoryStore, commands: Commands, keys: Keys
) -> None:
    """The few are parsed once for all who have them."""
    for number in (1, 90):
        for user in ("alice", "bob", "alice"):
            await commands.call(
                "HSET", keys.categories(user), "level", dump([f"{user}-{at}" for at in range(number)])
            )
            assert await categories.read(user) == {"level": tuple(f"{user}-{at}" for at in range(number))}

from __future__ import annotations

import pytest

from pushserver.core.errors import InvalidNameError
from pushserver.stores.category_store import CategoryStore
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys


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

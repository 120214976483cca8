from __future__ import annotations

import pytest

from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore, StoredContent
from pushserver.stores.keys import Keys

TEXT = '{"type":"message","id":"m-1","time":1,"content":"愛 \\u0000"}'


@pytest.fixture
def contents(commands: Commands, keys: Keys) -> ContentStore:
    return ContentStore(commands, keys)


@pytest.mark.gen_test
async def test_a_content_is_read_as_written_with_the_moment_it_goes(
    contents: ContentStore, commands: Commands
) -> None:
    before = int((await commands.call("TIME"))[0]) * 1000
    assert await contents.write("m-1", TEXT, 1000)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == TEXT.encode()
    assert stored.expires_at is not None
    assert before + 1000_000 <= stored.expires_at <= before + 1000_000 + 10_000


@pytest.mark.gen_test
async def test_a_content_is_written_once(contents: ContentStore, commands: Commands, keys: Keys) -> None:
    assert await contents.write("m-1", TEXT, 1000)
    assert not await contents.write("m-1", "another", 5000)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == TEXT.encode()
    assert await commands.call("TTL", keys.content("m-1")) <= 1000


@pytest.mark.gen_test
async def test_a_content_that_is_gone_is_none(contents: ContentStore) -> None:
    assert await contents.read("m-1") is None


@pytest.mark.gen_test
async def test_a_content_without_a_time_never_goes_away(
    contents: ContentStore, commands: Commands, keys: Keys
) -> None:
    """As another program may write it."""
    await commands.call("SET", keys.content("m-1"), TEXT)
    assert await contents.read("m-1") == StoredContent(TEXT.encode(), None)


@pytest.mark.gen_test
async def test_an_empty_content_is_there(contents: ContentStore, commands: Commands, keys: Keys) -> None:
    await commands.call("SET", keys.content("m-1"), "")
    assert await contents.read("m-1") == StoredContent(b"", None)


@pytest.mark.gen_test
async def test_a_large_content_comes_back_whole(contents: ContentStore) -> None:
    text = "x" * 3_000_000
    await contents.write("m-1", text, 10)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == text.encode()

"""Categories of users as the back end stored them: `categories:{U}`."""

from __future__ import annotations

from pushserver.core.cached import cached
from pushserver.core.categories import KINDS, Categories, parse_categories
from pushserver.core.jsontext import dump, parse_strict
from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import Keys
from pushserver.stores.presence_field import presence_of

__all__ = ["CategoryStore", "StoredCategories", "version_of"]

KEPT_MAX = 1024
"""Values of a kind that are kept parsed: many users have the same ones."""
MAX_KEPT_BYTES = 256
"""Bytes of the JSON of those."""


class StoredCategories(dict[str, tuple[str, ...]]):
    """Categories, and which version of them: whoever was told of no change can see that there was one."""

    __slots__ = ("version",)

    def __init__(self, categories: Categories, version: int) -> None:
        super().__init__(categories)
        self.version = version
        """0 if the API never wrote any."""


def version_of(categories: Categories) -> int | None:
    """Which version of the stored categories these are; None if they are not stored ones."""
    return categories.version if isinstance(categories, StoredCategories) else None


def _values(kind: bytes, text: bytes) -> tuple[str, ...]:
    """The values of a kind. Raises as `CategoryStore.read`."""
    return _parsed(kind, text) if len(text) <= MAX_KEPT_BYTES else _parsed.__wrapped__(kind, text)


@cached("category_values", KEPT_MAX)
def _parsed(kind: bytes, text: bytes) -> tuple[str, ...]:
    name = kind.decode()
    return parse_categories({name: parse_strict(text)}).get(name, ())


class CategoryStore:
    """Reads and writes the categories hash: kind -> JSON list of values, and `version`."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def read(self, user: str) -> StoredCategories:
        """The user's categories; empty when there are none.

        Raises `InvalidNameError` or `ValueError` when what is stored is not categories, for half of a
        user's categories would send messages to the wrong people.
        """
        flat = await self._commands.call("HGETALL", self._keys.categories(user))
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        version = int(fields.pop(b"version", b"0"))
        known = {kind.decode(): _values(kind, text) for kind, text in fields.items()}
        return StoredCategories({kind: known[kind] for kind in KINDS if known.get(kind)}, version)

    async def write(self, user: str, categories: Categories) -> list[str]:
        """Store them in place of what was there; answers the pods that the user is on, read afterwards."""
        keys = [self._keys.categories(user), self._keys.presence(user)]
        flat: list[Argument] = [
            item for kind, values in categories.items() for item in (kind, dump(list(values)))
        ]
        return list(presence_of(await self._commands.publish("categories_write", keys, flat)))

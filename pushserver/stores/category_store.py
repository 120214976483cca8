"""Categories of users as the back end stored them: `categories:{U}`."""

from __future__ import annotations

from pushserver.core.categories import Categories, parse_categories
from pushserver.core.jsontext import parse_strict
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys

__all__ = ["CategoryStore"]


class CategoryStore:
    """Reads the categories hash, kind -> JSON list of values."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def read(self, user: str) -> Categories:
        """The user's categories; empty when there are none.

        Raises `InvalidNameError` or `ValueError` when what is stored is not categories, for half of a
        user's categories would send messages to the wrong people.
        """
        flat = await self._commands.call("HGETALL", self._keys.categories(user))
        if not flat:
            return {}
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return parse_categories({kind.decode(): parse_strict(values) for kind, values in pairs})

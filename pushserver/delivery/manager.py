"""The Manager: this pod's registry of connections, keyed by user and by category; one per process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from pushserver.core.categories import Categories, matches
from pushserver.delivery.connection import Connection

__all__ = ["Manager"]


class Manager:
    """The truth about who is connected to this pod. Synchronous: no change of it is ever half done.

    A user with no connection and a category with no user leave nothing behind.
    """

    __slots__ = ("_by_category", "_by_user", "_connections")

    def __init__(self) -> None:
        # Most users hold one connection: a tuple of one is a quarter of a set's size.
        self._by_user: dict[str, tuple[Connection, ...]] = {}
        self._by_category: dict[tuple[str, str], dict[Connection, None]] = {}
        self._connections = 0

    def add(self, connection: Connection) -> bool:
        """Register a connection; True if it is the user's first on this pod. Twice is a `ValueError`."""
        held = self._by_user.get(connection.user, ())
        if connection in held:
            raise ValueError(f"connection {connection.id} is registered already")
        self._by_user[connection.user] = (*held, connection)
        self._connections += 1
        self._index(connection)
        return not held

    def remove(self, connection: Connection) -> bool:
        """Take a connection out; True if it was the user's last on this pod. Unknown ones are ignored."""
        held = self._by_user.get(connection.user, ())
        if connection not in held:
            return False
        self._connections -= 1
        self._unindex(connection)
        left = tuple(other for other in held if other is not connection)
        if left:
            self._by_user[connection.user] = left
        else:
            del self._by_user[connection.user]
        return not left

    def change_categories(self, connection: Connection, categories: Categories) -> None:
        """Move a registered connection to other categories, at once and completely."""
        self._unindex(connection)
        connection.change_categories(categories)
        self._index(connection)

    def has(self, user: str) -> bool:
        """Whether the user has a connection here."""
        return user in self._by_user

    def of(self, user: str) -> tuple[Connection, ...]:
        """The user's connections here, oldest first; a snapshot."""
        return self._by_user.get(user, ())

    def matching(self, target: Categories) -> list[Connection]:
        """The connections a target means: any of the values within a kind, all of the kinds; a snapshot.

        An empty target means everyone.
        """
        if not target:
            return list(self)
        if len(target) == 1:
            ((kind, values),) = target.items()
            return list(self._with_any(kind, values))
        smallest = min((self._with_any(kind, values) for kind, values in target.items()), key=len)
        return [connection for connection in smallest if matches(target, connection.categories)]

    def _with_any(self, kind: str, values: tuple[str, ...]) -> dict[Connection, None]:
        if len(values) == 1:
            return self._by_category.get((kind, values[0]), {})
        return dict.fromkeys(
            chain.from_iterable(self._by_category.get((kind, value), ()) for value in values)
        )

    def users(self) -> list[str]:
        """Every user here; a snapshot."""
        return list(self._by_user)

    def __iter__(self) -> Iterator[Connection]:
        """Every connection here; a snapshot is taken first, so the Manager may change meanwhile."""
        return iter([connection for held in self._by_user.values() for connection in held])

    def __len__(self) -> int:
        return self._connections

    @property
    def user_count(self) -> int:
        """How many users are connected here."""
        return len(self._by_user)

    @property
    def category_count(self) -> int:
        """How many (kind, value) pairs somebody here has."""
        return len(self._by_category)

    def categories(self) -> list[tuple[str, str]]:
        """Every (kind, value) pair that somebody here has; a snapshot."""
        return list(self._by_category)

    def category_size(self, kind: str, value: str) -> int:
        """How many connections have it now."""
        return len(self._by_category.get((kind, value), ()))

    def _index(self, connection: Connection) -> None:
        for kind, values in connection.categories.items():
            for value in values:
                self._by_category.setdefault((kind, value), {})[connection] = None

    def _unindex(self, connection: Connection) -> None:
        for kind, values in connection.categories.items():
            for value in values:
                held = self._by_category.get((kind, value))
                if held is None:
                    continue
                held.pop(connection, None)
                if not held:
                    del self._by_category[kind, value]

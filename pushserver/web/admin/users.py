"""Users: where they are, what waits for them, and what is done to them."""

from __future__ import annotations

from typing import ClassVar

from pushserver.core.categories import parse_categories
from pushserver.core.errors import InvalidFieldError, InvalidNameError
from pushserver.core.names import check_message_id, check_username
from pushserver.core.publish_request import MAX_CATEGORIES_BYTES, checked_json
from pushserver.web.admin.handler import ApiHandler
from pushserver.web.admin.turns import in_turns

__all__ = ["Disconnect", "Inbox", "Parked", "ParkedMessage", "User", "UserCategories"]


class User(ApiHandler):
    """`/v1/users/U`."""

    calls: ClassVar = {"GET": "user", "DELETE": "erase"}

    async def get(self, user: str) -> None:
        """Presence by pod, connections on this pod, categories, inbox length, parked."""
        self.answer(await self.admin.users.describe(check_username(user)))

    async def delete(self, user: str) -> None:
        """Erasure: the user is disconnected, and every key of theirs removed."""
        pods = await self.admin.users.erase(check_username(user))
        self.answer({"user": user, "erased": True, "pods": pods})


class Inbox(ApiHandler):
    """`/v1/users/U/inbox`."""

    calls: ClassVar = {"GET": "inbox"}

    async def get(self, user: str) -> None:
        """The ids that wait, oldest first."""
        self.answer({"user": user, "ids": await self.admin.users.inbox(check_username(user))})


class Parked(ApiHandler):
    """`/v1/users/U/parked`."""

    calls: ClassVar = {"GET": "parked"}

    async def get(self, user: str) -> None:
        """The ids that were taken out of the inbox as poison."""
        self.answer({"user": user, "ids": await self.admin.users.parked(check_username(user))})


class ParkedMessage(ApiHandler):
    """`/v1/users/U/parked/ID`."""

    calls: ClassVar = {"POST": "put_back"}

    async def post(self, user: str, message_id: str) -> None:
        """Put it back into the inbox."""
        check_username(user)
        if await self.admin.users.put_back(user, check_message_id(message_id)):
            self.answer({"user": user, "id": message_id, "put_back": True})
        else:
            self.refuse(404, "not_parked", "no message of that id is parked for this user")


class UserCategories(ApiHandler):
    """`/v1/users/U/categories`."""

    calls: ClassVar = {"PUT": "set_categories"}

    def max_body_bytes(self) -> int:
        """More than all the values that a user may have."""
        return MAX_CATEGORIES_BYTES

    async def put(self, user: str) -> None:
        """Store them in place of those before; live connections move at once."""
        check_username(user)
        raw = await in_turns(checked_json(self.body))
        try:
            categories = parse_categories(raw)
        except InvalidNameError as error:
            field = error.kind.removeprefix("categories").removeprefix(".")
            raise InvalidFieldError(field, error.reason) from None
        pods = await self.admin.users.set_categories(user, categories)
        self.answer({"user": user, "categories": categories, "pods": pods})


class Disconnect(ApiHandler):
    """`/v1/users/U/disconnect`."""

    calls: ClassVar = {"POST": "disconnect"}

    async def post(self, user: str) -> None:
        """Close the user's connections on every pod."""
        self.answer({"user": user, "pods": await self.admin.users.disconnect(check_username(user))})

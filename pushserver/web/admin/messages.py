"""Messages: publish one, say where it is, recall it."""

from __future__ import annotations

from typing import ClassVar

from pushserver.core.errors import InvalidFieldError, InvalidNameError
from pushserver.core.names import check_message_id, check_username
from pushserver.web.admin.handler import ApiHandler
from pushserver.web.admin.intake import Intake, max_request_bytes

__all__ = ["Message", "Messages"]


class Messages(ApiHandler):
    """`/v1/messages`."""

    calls: ClassVar = {"POST": "publish"}

    def max_body_bytes(self) -> int:
        """One request to publish."""
        return max_request_bytes(self.admin.max_content_bytes, self.admin.rules.max_users)

    async def post(self) -> None:
        """202: in the inbox of every named user; 200: it was there already."""
        intake = Intake(self.admin.publisher, self.admin.rules, self.admin.metrics)
        accepted = await intake.publish(await intake.read(self.body))
        self.answer(accepted.fields, accepted.status)


class Message(ApiHandler):
    """`/v1/messages/ID`."""

    calls: ClassVar = {"GET": "explain", "DELETE": "recall"}

    async def get(self, message_id: str) -> None:
        """Where it is and why; with `?user=U`, on its way to that user."""
        told = await self.admin.explainer.explain(check_message_id(message_id), self._user())
        if told is None:
            self._unknown()
        else:
            self.answer(told)

    async def delete(self, message_id: str) -> None:
        """Recall what is not delivered yet, on every pod."""
        if await self.admin.publisher.recall(check_message_id(message_id)):
            self.answer({"id": message_id, "recalled": True})
        else:
            self._unknown()

    def _unknown(self) -> None:
        self.refuse(404, "unknown_message", "no message of that id is known")

    def _user(self) -> str:
        """The query's `user`, "" without one. Tornado's own reading would strip it."""
        values = self.request.query_arguments.get("user", [])
        if len(values) > 1:
            raise InvalidFieldError("user", "is there twice")
        try:
            return check_username(values[0].decode()) if values else ""
        except UnicodeDecodeError:
            raise InvalidNameError("username", "is not UTF-8") from None

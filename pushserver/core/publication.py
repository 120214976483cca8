"""What a back end asks for: a message, for whom, and for how long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from pushserver.core.categories import Categories
from pushserver.core.jsontext import dump

__all__ = ["KINDS", "Publication", "Published"]

KINDS = ("users", "categories", "everyone", "live")


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish, every field of it checked already.

    Either `users` names whom it is for, or `categories` says what kind of users; no kind means everyone.
    """

    id: str
    """The message id, which is the idempotency key as well."""
    content: str
    """What it says: JSON text, which goes to clients as it stands here."""
    ttl_s: int
    users: tuple[str, ...] = ()
    """Usernames, none twice."""
    categories: Categories | None = None
    """None if it is for `users`."""
    offline: bool = True
    """False: for those only who are live right now; stored nowhere."""
    id_is_new: bool = field(default=False, compare=False)
    """The id was made for this call: no earlier one can have stored anything under it."""

    @property
    def digest(self) -> str:
        """Tells a repeat from another message under the same id: of whom it is for, content, ttl, offline."""
        text = dump([self._to, self.content, self.ttl_s, self.offline])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def kind(self) -> str:
        """For whom, in a word of `KINDS`; `live` if for the live only, whoever they are."""
        if not self.offline:
            return "live"
        if self.categories is None:
            return "users"
        return "categories" if self.categories else "everyone"

    @property
    def _to(self) -> dict[str, object]:
        """Whom it is for, in one order: users, kinds and values are sets."""
        if self.categories is None:
            return {"users": sorted(self.users)}
        return {"categories": sorted((kind, sorted(values)) for kind, values in self.categories.items())}


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publication."""

    id: str
    duplicate: bool = False
    """Everybody it is for had it already, from an earlier publish of the same id."""
    users: int | None = None
    """Users it was for; None if it is for categories or everyone."""
    online: int | None = None
    """How many of them were present on some pod; None like `users`."""

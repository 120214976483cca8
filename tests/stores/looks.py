"""What the rescan sees of one user."""

from __future__ import annotations

from pushserver.stores.presence import PresenceStore, Seen

__all__ = ["look"]


async def look(presence: PresenceStore, user: str) -> Seen:
    """One look at one user, which must be answered."""
    [seen] = await presence.look([user])
    assert isinstance(seen, Seen), seen
    return seen

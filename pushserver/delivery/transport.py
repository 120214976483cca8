"""The seams of a connection: the socket below it, and the window that bounds it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Transport", "Window"]


class Transport(Protocol):
    """What a connection needs of its socket. No method blocks or raises for what the peer does."""

    progressed_at: float
    """Monotonic second of the last byte that was received, or taken by the kernel out of a backlog."""
    written: int
    """Bytes written so far, those that the kernel has not taken yet included."""

    def write(self, data: bytes) -> None:
        """Send whole frames, in order; what the kernel does not take now is kept and sent later."""

    @property
    def descriptor(self) -> int:
        """Where whole frames may be written without a word: nothing is in the way. -1 where they may not.

        When something gets into the way the connection is told (`write_down`), before it does.
        """

    def wrote(self, size: int) -> None:
        """So many bytes went to the descriptor; told by then at the latest, and before a ping is made."""

    def took(self, data: bytes, taken: int) -> None:
        """Not all of `data` went into the descriptor: only so many bytes, or -1 if it is broken."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what was written, and end; at most a few seconds later, then cut."""

    def abort(self) -> None:
        """End at once, without a goodbye."""

    @property
    def buffered(self) -> int:
        """Bytes the kernel has not taken yet."""


class Window(Protocol):
    """What may be unconfirmed on one connection at a time."""

    @property
    def messages(self) -> int:
        """Messages at most."""

    @property
    def bytes(self) -> int:
        """Bytes of frames at most."""

    @property
    def ping_interval_s(self) -> float:
        """Seconds of silence after which a ping is sent in any case."""

    @property
    def log_confirm_s(self) -> float:
        """Seconds that the confirm of a message from the log may wait for a ping."""

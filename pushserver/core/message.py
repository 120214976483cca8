"""Messages: the text that is stored once, and its finished WebSocket frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pushserver.core.deflate import deflated_frame
from pushserver.core.errors import InvalidContentError
from pushserver.core.frames import payload_of, text_frame
from pushserver.core.jsontext import parse_strict

__all__ = ["Message", "frame_of", "message_parts"]


@dataclass(frozen=True, slots=True)
class Message:
    """A content ready to be pushed: `frame` goes to every connection as it is."""

    id: str
    frame: bytes
    queued_at: int
    """Milliseconds since 1970 by Redis' clock: the `time` of the message."""
    on_deflated: Callable[[Message], None] | None = field(default=None, repr=False, compare=False)
    """Told when a compressed frame was made, which is then kept here; None: none is ever made."""
    _deflated: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def deflated(self, most: int) -> bytes:
        """The frame for a client that takes compressed ones of up to `most` bytes; the same object each time.

        It is made at the first call, and is `frame` itself where it would be no smaller.
        """
        if self.on_deflated is None or len(self.frame) > most:
            return self.frame
        made = self._deflated
        if made is None:
            made = min(self.frame, deflated_frame(payload_of(self.frame)), key=len)
            object.__setattr__(self, "_deflated", made)
            self.on_deflated(self)
        return made

    @property
    def size(self) -> int:
        """Bytes of its frames."""
        made = self._deflated
        return len(self.frame) + (0 if made is None or made is self.frame else len(made))


def message_parts(message_id: str, content: str) -> tuple[str, str]:
    """The text of a message frame up to its time and behind it; `content` is JSON text."""
    return f'{{"type":"message","id":"{message_id}","time":', f',"content":{content}}}'


def frame_of(
    message_id: str, text: bytes, max_bytes: int, on_deflated: Callable[[Message], None] | None = None
) -> Message:
    """Check a stored content once and build its frame.

    Anybody may write `msg:ID`, so it has to be UTF-8, at most `max_bytes`, and a JSON object of type
    `message` with that id and a time. Raises `InvalidContentError`.
    """
    if len(text) > max_bytes:
        raise InvalidContentError(message_id, f"is larger than {max_bytes} bytes")
    try:
        parsed = parse_strict(text)
    except ValueError as error:
        raise InvalidContentError(message_id, f"is not JSON ({type(error).__name__})") from None
    if not isinstance(parsed, dict) or parsed.get("type") != "message" or parsed.get("id") != message_id:
        raise InvalidContentError(message_id, "is not the message frame of that id")
    time_ms = parsed.get("time")
    if isinstance(time_ms, bool) or not isinstance(time_ms, int):
        raise InvalidContentError(message_id, "has no integer time")
    if "content" not in parsed:
        raise InvalidContentError(message_id, "has no content")
    return Message(message_id, text_frame(text), time_ms, on_deflated)

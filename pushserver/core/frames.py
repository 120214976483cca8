"""WebSocket frames without I/O (RFC 6455 section 5): building the server's, parsing the client's.

Without an extension every reserved bit is a violation; `deflate` has the parser for the one there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import PushServerError

__all__ = [
    "RSV1",
    "Binary",
    "Close",
    "Event",
    "FrameParser",
    "Ping",
    "Pong",
    "ProtocolError",
    "Text",
    "close_frame",
    "compressed_text_frame",
    "payload_of",
    "ping_frame",
    "pong_frame",
    "text_frame",
]

# A frame's first byte: the FIN bit and the opcode (0 continuation, 1 text, 2 binary).
_FIN = 0x80
_TEXT = 0x81
_CLOSE = 0x88
_PING = 0x89
_PONG = 0x8A
_LEGAL_FIRST_BYTES = frozenset({0x00, 0x01, 0x02, 0x80, _TEXT, 0x82, _CLOSE, _PING, _PONG})
_CONTROL = 0x08
"""Set in the opcodes of all control frames."""
RSV1 = 0x40
"""Set in the first frame of a compressed message."""
_MASKED = 0x80
_LEGAL_CLOSE_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))
_MAX_CONTROL_BYTES = 125


def text_frame(payload: bytes) -> bytes:
    """A whole text message in one frame. `payload` has to be UTF-8; it is not looked at."""
    return _data_frame(_TEXT, payload)


def compressed_text_frame(payload: bytes) -> bytes:
    """As `text_frame`, of a payload that is compressed, for who negotiated that."""
    return _data_frame(_TEXT | RSV1, payload)


def payload_of(frame: bytes) -> memoryview:
    """What stands behind the header of a frame that was built here."""
    return memoryview(frame)[{126: 4, 127: 10}.get(frame[1], 2) :]


def _data_frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 0x10000:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def ping_frame(payload: bytes) -> bytes:
    """A ping. Raises `ValueError` for more than 125 bytes."""
    return _control_frame(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping that carried `payload`. Raises `ValueError` for more than 125 bytes."""
    return _control_frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; `reason` is cut to 123 bytes of UTF-8, at a character's end."""
    cut = reason.encode(errors="replace")[: _MAX_CONTROL_BYTES - 2]
    return _control_frame(_CLOSE, code.to_bytes(2) + cut.decode(errors="ignore").encode())


def _control_frame(first: int, payload: bytes) -> bytes:
    if len(payload) > _MAX_CONTROL_BYTES:
        raise ValueError(f"a control frame holds at most {_MAX_CONTROL_BYTES} bytes")
    return bytes((first, len(payload))) + payload


# Events are made for every pong of every client, hence not frozen: that doubles what making one costs.
@dataclass(slots=True)
class Text:
    """A whole text message, put together from its fragments; `payload` is known to be UTF-8."""

    payload: bytes


@dataclass(slots=True)
class Binary:
    """A whole binary message, put together from its fragments."""

    payload: bytes


@dataclass(slots=True)
class Ping:
    """A ping; the caller owes a pong with the same payload."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """A pong, asked for or not."""

    payload: bytes


@dataclass(slots=True)
class Close:
    """The client's close frame, the last event. `code` is None if it held none; `reason` is any text."""

    code: int | None
    reason: str


Event = Text | Binary | Ping | Pong | Close


class ProtocolError(PushServerError):
    """The client broke RFC 6455, or its message is too big: close with `close_code` and `reason`.

    `events` are those that the same `feed` had completed before the violation; they are valid and
    given nowhere else. `reason` holds nothing that the client sent.
    """

    def __init__(self, close_code: CloseCode, reason: str, events: Sequence[Event] = ()) -> None:
        self.close_code = close_code
        self.reason = reason
        self.events = events
        super().__init__(f"{close_code}: {reason}")


class FrameParser:
    """Turns what one client sends into events, in order.

    A message larger than `max_message_bytes`, over all its fragments, is refused (1009) by the header
    that announces it. So within a message about `max_message_bytes` are held at most, however small
    its pieces and however many of them are empty; between messages nothing but this object.

    `frames_seen`, for a rate limit: frames completed by the last `feed`, control and fragments too.
    """

    __slots__ = ("_ended", "_max_bytes", "_message", "_message_is_text", "_needed", "_tail", "frames_seen")

    _negotiated: frozenset[int] = frozenset()
    """First bytes that are legal because of an extension."""

    def __init__(self, max_message_bytes: int) -> None:
        self.frames_seen = 0
        self._max_bytes = max_message_bytes
        self._tail: bytearray | None = None  # the beginning of a frame that is not whole yet
        self._needed = 0  # bytes the tail must have before looking at it again is of use
        self._message: bytearray | None = None  # the fragments of an unfinished message
        self._message_is_text = False
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data`, the next bytes from the client, completes.

        Raises `ProtocolError` at the first violation; it carries the events from before it. After
        that, and after a `Close`, bytes are ignored and no event comes.
        """
        self.frames_seen = 0
        events: list[Event] = []
        if self._ended:
            return events
        if self._tail is None and _is_lone_pong(data):
            self.frames_seen = 1
            return [Pong(_unmask(data[2:6], data[6:]))]
        if self._tail is not None:
            self._tail += data
            if len(self._tail) < self._needed:
                return events
            data = bytes(self._tail)
            self._tail = None
        try:
            self._parse(data, events)
        except ProtocolError as error:
            self._end()
            error.events = events
            raise
        return events

    def skip_messages(self) -> None:
        """From now on only a `Close` is of interest: what a message says need not be found out."""

    def _parse(self, data: bytes, events: list[Event]) -> None:
        position, size = 0, len(data)
        while position < size and not self._ended:
            mask_at, end = self._bounds(data, position)
            if end > size:
                self._tail = bytearray(data[position:])
                self._needed = end - position
                return
            start = mask_at + 4
            payload = _unmask(data[mask_at:start], data[start:end])
            self.frames_seen += 1
            event = self._event(data[position], payload)
            if event is not None:
                events.append(event)
            position = end

    def _bounds(self, data: bytes, position: int) -> tuple[int, int]:
        """Where the mask of the frame at `position` begins, and where the frame ends.

        Both lie beyond `data` if the header does; everything a header can violate is judged here.
        """
        mask_at = position + 2
        if mask_at > len(data):
            return mask_at, mask_at
        first = data[position]
        length = data[position + 1] ^ _MASKED
        if (first not in _LEGAL_FIRST_BYTES and first not in self._negotiated) or length > 127:
            raise self._illegal_start(first)
        if length > _MAX_CONTROL_BYTES:
            if first & _CONTROL:
                raise _violation("a control frame holds at most 125 bytes")
            mask_at += 2 if length == 126 else 8
            if mask_at > len(data):
                return mask_at, mask_at
            length = _extended_length(data[position + 2 : mask_at])
        if not first & _CONTROL:
            self._check_data_header(first, length)
        return mask_at, mask_at + 4 + length

    def _illegal_start(self, first: int) -> ProtocolError:
        if first in _LEGAL_FIRST_BYTES or first in self._negotiated:
            return _violation("a client's frame must be masked")
        if first & 0x70:
            return _violation("a reserved bit is set")
        if first | _FIN in _LEGAL_FIRST_BYTES:
            return _violation("a control frame must not be fragmented")
        return _violation("unknown opcode")

    def _check_data_header(self, first: int, length: int) -> None:
        if first & ~_FIN == 0:
            if self._message is None:
                raise _violation("nothing to continue")
            length += len(self._message)
        elif self._message is not None:
            raise _violation("a new message within a fragmented one")
        if length > self._max_bytes:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message holds at most {self._max_bytes} bytes")

    def _event(self, first: int, payload: bytes) -> Event | None:
        if first == _PONG:
            return Pong(payload)
        if first == _PING:
            return Ping(payload)
        if first == _CLOSE:
            self._end()
            return _close_event(payload)
        return self._message_event(first, payload)

    def _message_event(self, first: int, payload: bytes) -> Event | None:
        finished = first & _FIN
        if self._message is None:  # then this begins one: a header of another kind has been refused
            self._message_is_text = first | _FIN == _TEXT
            if not finished:
                self._message = bytearray(payload)
                return None
        else:
            self._message += payload
            if not finished:
                return None
            payload = bytes(self._message)
            self._message = None
        return self._whole(payload)

    def _whole(self, payload: bytes) -> Event:
        if not self._message_is_text:
            return Binary(payload)
        _decoded(payload)
        return Text(payload)

    def _end(self) -> None:
        self._ended = True
        self._message = None


def _is_lone_pong(data: bytes) -> bool:
    """Whether this is one whole pong and nothing else: nearly all that clients send."""
    length = len(data) - 6
    return 0 <= length <= _MAX_CONTROL_BYTES and data[0] == _PONG and data[1] == _MASKED | length


def _violation(reason: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, reason)


def _extended_length(encoded: bytes) -> int:
    length = int.from_bytes(encoded)
    if length >> 63:
        raise _violation("the length's top bit is set")
    if length < (126 if len(encoded) == 2 else 0x10000):
        raise _violation("the length is not in its shortest form")
    return length


def _unmask(mask: bytes, payload: bytes) -> bytes:
    """XOR in C: both as one large integer each."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def _close_event(payload: bytes) -> Close:
    if not payload:
        return Close(None, "")
    code = int.from_bytes(payload[:2])  # half a code, one byte, is below every legal one
    if not any(code in codes for codes in _LEGAL_CLOSE_CODES):
        raise _violation("a close code that must not be sent")
    return Close(code, _decoded(payload[2:]))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_DATA, "text must be UTF-8") from None

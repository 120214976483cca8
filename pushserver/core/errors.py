"""The one error tree.

    PushServerError
    ├── ConfigError             a setting is wrong; the start stops
    ├── InvalidNameError        a username, message id, pod name or category breaks its rule
    ├── InvalidContentError     a stored content is no message frame
    ├── InvalidFieldError       a field of a request is wrong                    HTTP 400
    ├── IdReusedError           the id is another message's                      HTTP 409
    ├── RecalledError           the message was recalled                         HTTP 410
    ├── NotAuthenticatedError   no token, or one that is not believed            HTTP 401
    │   └── UnknownKeyError         its key is unknown; newer keys of the issuer may have it
    ├── FetchError              another server, asked by HTTP, did not answer as it should   HTTP 503
    ├── StoreError              Redis did not do what was asked
    │   ├── StoreUnavailableError   away, slow, loading, or moved: trying again helps   HTTP 503
    │   └── StoreRefusedError       full, read-only or not permitted: an operator is needed  HTTP 503
    ├── SinkError               an exposure was not accepted
    │   ├── SinkUnavailableError    trying again helps
    │   └── SinkRefusedError        topic missing or not permitted: an operator is needed
    │       └── EventRefusedError   the sink refuses just these events: others it may take
    ├── InvalidEventError       what was read is no exposure event
    ├── SourceError             exposure events cannot be read now
    ├── DatabaseError           the database of exposures did not do what was asked
    │   └── DatabaseRefusedError    it refuses just these values: trying again does not help
    ├── NotConnectedError       a client ended, and does not come back by itself
    │   ├── ClosedError             the server closed the connection for good
    │   └── RefusedError            the handshake was refused for good
    └── TakenOverError          a newer process holds this pod's name

Each class holds its facts and writes its own text.
"""

from __future__ import annotations

__all__ = [
    "ClosedError",
    "ConfigError",
    "DatabaseError",
    "DatabaseRefusedError",
    "EventRefusedError",
    "FetchError",
    "IdReusedError",
    "InvalidContentError",
    "InvalidEventError",
    "InvalidFieldError",
    "InvalidNameError",
    "NotAuthenticatedError",
    "NotConnectedError",
    "PushServerError",
    "RecalledError",
    "RefusedError",
    "SinkError",
    "SinkRefusedError",
    "SinkUnavailableError",
    "SourceError",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "TakenOverError",
    "UnknownKeyError",
]


class PushServerError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(PushServerError):
    """A setting is unknown or wrong. `setting` is its dotted name, `section.name`."""

    def __init__(self, setting: str, reason: str) -> None:
        self.setting = setting
        self.reason = reason
        super().__init__(f"{setting}: {reason}")


class InvalidNameError(PushServerError, ValueError):
    """A name breaks its rule. `kind` says which name ("username"); the name itself is not repeated."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class InvalidContentError(PushServerError, ValueError):
    """A stored content is not a message frame that a client could read."""

    def __init__(self, message_id: str, reason: str) -> None:
        self.message_id = message_id
        self.reason = reason
        super().__init__(f"content of {message_id}: {reason}")


class InvalidFieldError(PushServerError, ValueError):
    """A field of a back end's request is wrong. `field` is its path ("to.users[3]"), "" for the whole."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}" if field else reason)


class IdReusedError(PushServerError):
    """A message of that id exists, and says something else or is for somebody else."""

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(f"{message_id} is the id of another message")


class RecalledError(PushServerError):
    """The message of that id was recalled, and is published no more."""

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(f"{message_id} was recalled")


class NotAuthenticatedError(PushServerError):
    """Nobody was verified. `reason` is safe to show to the client and never holds the token."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnknownKeyError(NotAuthenticatedError):
    """The token names a key that the issuer's keys, as they were fetched last, do not have."""


class FetchError(PushServerError):
    """Another server did not answer, or not as it should; trying again may help.

    `kind` is a short class for metrics ("timeout", "status"); neither text holds a path, a query or a secret.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class StoreError(PushServerError):
    """Redis did not do what was asked. `kind` is a short class for metrics ("timeout", "oom")."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class StoreUnavailableError(StoreError):
    """Redis is away, slow, loading or moved; the command may or may not have been carried out."""


class StoreRefusedError(StoreError):
    """Redis answered and refused (full, read-only, no permission); trying again at once does not help."""


class SinkError(PushServerError):
    """An exposure event was not accepted. `kind` is a short class for metrics."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class SinkUnavailableError(SinkError):
    """The sink is away, slow or out of quota; trying again helps."""


class SinkRefusedError(SinkError):
    """The sink has no such topic or gives no permission; an operator is needed."""


class EventRefusedError(SinkRefusedError):
    """The sink refuses a request for what is in it; without the events that are to blame it may be taken."""


class InvalidEventError(PushServerError, ValueError):
    """What was read is no exposure event. `reason` is a short class for metrics, `detail` says where."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class SourceError(PushServerError):
    """Exposure events cannot be read, or acknowledged, now; trying again may help. `kind` is for metrics."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class DatabaseError(PushServerError):
    """The database of exposures did not do what was asked; it may have. `kind` is for metrics."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"{kind}: {reason}")


class DatabaseRefusedError(DatabaseError):
    """The database refuses just these values, and stored none of them; without them it works."""


class NotConnectedError(PushServerError):
    """The client ended, and will not come back by itself."""


class ClosedError(NotConnectedError):
    """The server closed the connection for good (docs/protocol.md, "Close codes")."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed with {code} {reason}".rstrip())


class RefusedError(NotConnectedError):
    """The handshake was refused for good; `status` is that of HTTP, 200 if it was no WebSocket's answer."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"refused with {reason}")


class TakenOverError(PushServerError):
    """A process with a larger boot holds this pod's name; `host` is where it runs."""

    def __init__(self, pod: str, host: str) -> None:
        self.pod = pod
        self.host = host
        super().__init__(f"pod name {pod} taken over by {host}")

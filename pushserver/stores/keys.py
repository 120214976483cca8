"""Every Redis key, its unit and its time to live, named once.

`{U}` and `{POD}` are hash tags: all keys of one user, and all of one pod, share a slot of a cluster, and
no command or script crosses slots. What stands inside a tag is percent-encoded by `core.names.key_safe`.
"""

from __future__ import annotations

from collections.abc import Callable

from pushserver.core.errors import InvalidNameError
from pushserver.core.names import check_message_id, check_pod_name, check_username, from_key, key_safe

__all__ = [
    "BLAME_TTL_S",
    "CURSOR_TTL_S",
    "GONE_MAX",
    "GONE_TTL_S",
    "MISSED_TTL_S",
    "PARKED_TTL_S",
    "REPLY_TTL_S",
    "SEEN_MAX",
    "Keys",
    "pod_name",
    "pod_of",
    "presence_field",
]

BLAME_TTL_S = 86_400
"""How long a suspicion against a message is remembered."""
PARKED_TTL_S = 30 * 86_400
"""How long parked ids can be put back."""
MISSED_TTL_S = 30 * 86_400
"""How long a user who stays away is still told what was missed."""
CURSOR_TTL_S = 30 * 86_400
"""How long a user who stays away keeps the place in the log."""
GONE_TTL_S = 38 * 86_400
"""How long it is known what left an inbox unseen: longer than any message is on record."""
GONE_MAX = 1000
"""Messages of a user that are known to have left the inbox unseen: the latest."""
REPLY_TTL_S = 10
"""How long the answers to a question are kept; whoever asked waits for a second."""
SEEN_MAX = 4096
"""Ids of a user that are remembered at most for repeats of a publish."""


class Keys:
    """Builds the keys under one prefix; braces in it would break the hash tags, and settings refuse them."""

    __slots__ = ("boots", "exposures", "log", "log_seen", "pods", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.pods = f"{prefix}pods"
        self.boots = f"{prefix}boots"
        self.exposures = f"{prefix}exposures"
        self.log = f"{prefix}log"
        # Beside the log in its slot.
        self.log_seen = f"{prefix}log-seen:{{{self.log}}}"

    def presence(self, user: str) -> str:
        """Hash: field `U:POD` -> `{"boot","since"}`. A field goes when the last connection closes."""
        return f"{self.prefix}presence:{{{key_safe(user)}}}"

    def inbox(self, user: str) -> str:
        """List of message ids, oldest first; capped; lives at least as long as its newest content."""
        return f"{self.prefix}inbox:{{{key_safe(user)}}}"

    def seq(self, user: str) -> str:
        """Number raised by each append; lives as long as the inbox."""
        return f"{self.prefix}seq:{{{key_safe(user)}}}"

    def seen(self, user: str) -> str:
        """Sorted set: every id appended -> its time; trimmed to the time a repeat is allowed."""
        return f"{self.prefix}seen:{{{key_safe(user)}}}"

    def missed(self, user: str) -> str:
        """Hash: `expired`, `evicted`, `parked` -> how many since the user was last told."""
        return f"{self.prefix}missed:{{{key_safe(user)}}}"

    def parked(self, user: str) -> str:
        """List of ids taken out of the inbox as poison."""
        return f"{self.prefix}parked:{{{key_safe(user)}}}"

    def gone(self, user: str) -> str:
        """List of `REASON MS ID`, oldest first: what left the inbox unseen; empty where one was put back."""
        return f"{self.prefix}gone:{{{key_safe(user)}}}"

    def blame(self, user: str) -> str:
        """Hash: id -> closes that blame it; field `*` is there from the first such close on."""
        return f"{self.prefix}blame:{{{key_safe(user)}}}"

    def categories(self, user: str) -> str:
        """Hash: kind -> JSON list of values; written by the API."""
        return f"{self.prefix}categories:{{{key_safe(user)}}}"

    def cursor(self, user: str) -> str:
        """Log id up to which the user has everything; written at the first connect, then moved forward."""
        return f"{self.prefix}cursor:{{{key_safe(user)}}}"

    def content(self, message_id: str) -> str:
        """Text of the finished message frame; goes by its TTL."""
        return f"{self.prefix}msg:{message_id}"

    def publish(self, message_id: str) -> str:
        """Hash, the record of a publish, in the content's slot.

        digest, kind, users (named), queued_at, accepted_at, recalled_at, recalled, sent, erased (users), and
        forget_at: from then on it is kept only to explain. Times in ms.
        """
        return f"{self.prefix}publish:{{{self.content(message_id)}}}"

    def reply(self, token: str) -> str:
        """Hash: pod -> its answer to a question; goes away by itself."""
        return f"{self.prefix}reply:{token}"

    def user_of(self, key: bytes) -> str | None:
        """The user of a key of `inbox`, `parked` or `gone`; None if it is another key."""
        kind, opening, name = key.decode(errors="replace").removeprefix(self.prefix).partition(":{")
        if kind not in {"inbox", "parked", "gone"} or not opening or not name.endswith("}"):
            return None
        return _checked(check_username, from_key(name[:-1]))

    def message_of(self, key: bytes) -> str | None:
        """The message of a key of `publish`; None if it is another key."""
        text = key.decode(errors="replace")
        begin = f"{self.prefix}publish:{{{self.prefix}msg:"
        if not text.startswith(begin) or not text.endswith("}"):
            return None
        return _checked(check_message_id, text[len(begin) : -1])

    def pod(self, name: str) -> str:
        """Hash, the lease: boot, expires (ms), claimed; host, address, started, version."""
        return f"{self.prefix}pod:{{{name}}}"

    def pod_users(self, name: str) -> str:
        """Hash: user -> boot; always a superset of the presence on that pod."""
        return f"{self.prefix}pod-users:{{{name}}}"

    def feed(self, name: str) -> str:
        """Stream of hints for that pod."""
        return f"{self.prefix}feed:{{{name}}}"


def _checked(check: Callable[[object], str], name: str) -> str | None:
    """Anybody may have written the key."""
    try:
        return check(name)
    except InvalidNameError:
        return None


def presence_field(user: str, pod: str) -> str:
    """The field of presence: `U:POD`."""
    return f"{user}:{pod}"


def pod_of(field: bytes) -> str | None:
    """The pod of a presence field, behind the last colon; None if somebody else wrote what is no field."""
    _, colon, pod = field.rpartition(b":")
    return pod_name(pod) if colon else None


def pod_name(name: bytes) -> str | None:
    """A stored pod name; None if it is none."""
    try:
        return check_pod_name(name.decode("ascii"))
    except (InvalidNameError, UnicodeDecodeError):
        return None

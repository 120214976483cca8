"""Explaining: where a message is, and why; for everybody it is for, or for one user.

Redis knows what is under way. That a message reached its user is in the database of exposures, which is not
asked here: what is settled is said to be, as long as Redis remembers that the user had it at all, and would
remember if it had gone otherwise.
"""

from __future__ import annotations

from typing import Any

from pushserver.core.clock import StoreClock
from pushserver.core.counting import counted
from pushserver.delivery.questions import Questions
from pushserver.stores.cursor import CursorStore
from pushserver.stores.log import LogEntry, LogStore
from pushserver.stores.presence import PresenceStore
from pushserver.stores.stream import stream_id
from pushserver.stores.whereabouts import SKEW_MS, MessageRecord, Trace, UserTrace, Whereabouts

__all__ = ["Explainer"]

Told = dict[str, Any]

_TO_LOG = {"categories", "everyone"}


class Explainer:
    """Tells where messages are. Reads only; all raise `StoreError`."""

    def __init__(
        self,
        *,
        whereabouts: Whereabouts,
        log: LogStore,
        cursors: CursorStore,
        presence: PresenceStore,
        questions: Questions,
        clock: StoreClock,
        cap: int,
        idempotency_s: int,
    ) -> None:
        self._whereabouts = whereabouts
        self._log = log
        self._cursors = cursors
        self._presence = presence
        self._questions = questions
        self._clock = clock
        self._cap = cap
        self._idempotency_ms = idempotency_s * 1000

    async def explain(self, message_id: str, user: str = "") -> Told | None:
        """What is known of a message, and of its way to `user` if there is one; None if nothing is.

        Times are milliseconds since 1970 by Redis' clock, None where there is none.
        """
        record = await self._whereabouts.message(message_id)
        entry = await self._log_entry(record)
        state, why = _state(record, entry)
        told = {
            "id": message_id,
            "kind": record.kind,
            "state": state,
            "why": why,
            "queued_at": record.queued_at,
            "accepted_at": record.accepted_at,
            "expires_at": record.expires_at,
            "recalled_at": record.recalled_at,
            "users": record.users if record.kind == "users" else None,
            "erased": record.erased,
            "log": None if entry is None else {"id": stream_id(entry.position), "to": entry.target},
        }
        if not user:
            return told if record.is_known else None
        way = await self._way(record, entry, user)
        return {**told, "user": way} if record.is_known or way["state"] != "unknown" else None

    async def _log_entry(self, record: MessageRecord) -> LogEntry | None:
        if record.kind not in _TO_LOG or record.queued_at is None:
            return None
        found = await self._log.find(record.message_id, record.queued_at)
        # The log may be on a node whose clock is behind.
        return found or await self._log.find(record.message_id, max(0, record.queued_at - SKEW_MS))

    # -- one user

    async def _way(self, record: MessageRecord, entry: LogEntry | None, user: str) -> Told:
        pods = await self._presence.pods_of(user)
        connections = await self._questions.ask(pods, user, record.message_id)
        traces = await self._whereabouts.user(user)
        trace = traces.of.get(record.message_id)
        known = record.state_of(trace)
        sent = [one for one in connections if one.get("pushed_at") is not None]
        from_inbox = record.kind not in {*_TO_LOG, "live"}
        if sent and (known == "waiting" or (known is None and not from_inbox)):
            state, why = _on_its_way(sent)
        elif known is not None and trace is not None:
            state, why = known, self._why(known, trace, connections)
        elif record.kind in _TO_LOG:
            state, why = _in_log(record, entry, await self._cursors.read(user))
        else:
            # It left the inbox, whatever another connection was sent and has not confirmed.
            state, why = await self._settled(record, user, traces, sent)
        return {
            "user": user,
            "state": state,
            "why": why,
            "at": None if trace is None or known is None else trace.at_ms,
            "online": bool(pods),
            "connections": connections,
        }

    def _why(self, known: str, trace: Trace, connections: list[Told]) -> str:
        match known:
            case "waiting":
                where = "in the inbox" + (f" behind {counted(trace.place, 'other')}" if trace.place else "")
                if not connections:
                    return f"{where}; the user is not connected"
                return f"{where}; it was not sent yet to any of {counted(len(connections), 'connection')}"
            case "expired":
                return "its time ran out before the user came, or no client could have read it"
            case "evicted":
                return f"newer ones took its place: an inbox holds {self._cap} (inbox.cap)"
            case "recalled":
                return "it was recalled before the user had it"
        return "clients of the user closed with 1003, 1007 or 1009 when they got it; it can be put back"

    async def _settled(
        self, record: MessageRecord, user: str, traces: UserTrace, sent: list[Told]
    ) -> tuple[str, str]:
        """What is neither in the inbox nor known to have gone."""
        if record.kind == "live":
            return "unknown", "it was for who was live then, and is kept nowhere: exposures tell who had it"
        confirmed = any(one["confirmed"] for one in sent)
        appended = bool(sent) or await self._whereabouts.appended_at(user, record.message_id) is not None
        if confirmed or (appended and not traces.is_full):
            return "settled", "confirmed; its exposure was handed over, and then it left the inbox"
        if appended:
            return "unknown", "settled, or gone so long ago that it is noted no more: exposures tell which"
        if not await self._would_remember(record, user):
            return "unknown", "settled a while ago, or never for this user: exposures tell which"
        if record.accepted_at is None:
            return "absent", "not in the inbox yet: the publish was not completed; or not for this user"
        return "absent", "it was not put into the inbox: it is not for this user, or Redis lost that"

    async def _would_remember(self, record: MessageRecord, user: str) -> bool:
        """Whether an id that was appended for this publish would still be known."""
        if record.kind != "users" or record.queued_at is None or record.erased:
            return False
        if self._clock.now_ms() - record.queued_at >= self._idempotency_ms:
            return False
        return not await self._whereabouts.has_forgotten(user)


def _state(record: MessageRecord, entry: LogEntry | None) -> tuple[str, str]:
    """Of the message as a whole."""
    if not record.is_known:
        return "unknown", "there is no record of it, and no content"
    if record.recalled:
        return "recalled", "it was taken back; who had it before has it"
    if record.kind == "live":
        return ("sent", "handed to the pods") if record.sent else ("unfinished", "not handed to every pod")
    if not record.has_content:
        return "expired", "its time ran out; for whom it still waits, it does in vain"
    return _publish_state(record, entry)


def _publish_state(record: MessageRecord, entry: LogEntry | None) -> tuple[str, str]:
    """Of one that is in force."""
    if record.kind is None:
        return "unrecorded", "written by another program, or by an older version"
    if record.kind in _TO_LOG:
        if entry is not None:
            return "accepted", "it is in the log"
        return "unfinished", "not in the log: the publish was not completed, or the log was trimmed"
    if record.accepted_at is not None:
        return "accepted", "it was put into the inbox of every user it names"
    return "unfinished", "the publish was not completed: some may have it; a repeat completes it"


def _on_its_way(sent: list[Told]) -> tuple[str, str]:
    confirmed = [one["connection"] for one in sent if one["confirmed"]]
    if confirmed:
        return "confirmed", f"by connection {confirmed[0]}; its exposure is being handed over"
    return "sent", f"to connection {sent[0]['connection']}, which has not confirmed it yet"


def _in_log(record: MessageRecord, entry: LogEntry | None, cursor: int | None) -> tuple[str, str]:
    """By the cursor: how far the user got in the log."""
    if entry is None:
        return "unknown", "it is not in the log"
    if cursor is None:
        return "unknown", "the user has no place in the log: never connected, or not for long"
    if cursor >= entry.position:
        return "passed", "the user's cursor is beyond it: exposed, unless it was not meant for the user"
    if not record.has_content:
        return ("recalled" if record.recalled else "expired"), "the user's cursor had not reached it"
    return "ahead", "the user's cursor has not reached it: it comes with the next connection that it means"

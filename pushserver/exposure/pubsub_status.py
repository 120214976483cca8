"""What Google's Pub/Sub says when it does not do what was asked, and which one is asked."""

from __future__ import annotations

import os

from google.api_core.exceptions import GoogleAPICallError

__all__ = ["PASSING", "emulator", "one_line", "status_of"]

PASSING = frozenset(
    {
        "aborted",
        "cancelled",
        "deadline_exceeded",
        "internal",
        "resource_exhausted",
        "unavailable",
        "unknown",
    }
)
"""gRPC statuses after which the same request may be accepted; after any other an operator is needed."""


def emulator(host: str | None) -> str:
    """`HOST:PORT` of the emulator, "" for Google's; None is what PUBSUB_EMULATOR_HOST says."""
    return os.environ.get("PUBSUB_EMULATOR_HOST", "") if host is None else host


def status_of(error: GoogleAPICallError) -> str:
    """The gRPC status in small letters."""
    status = error.grpc_status_code
    return "unknown" if status is None else str(status.name).lower()


def one_line(text: str) -> str:
    """What a server said, fit for a log line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:200]).split())

"""Free ports of 127.0.0.1."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

# Below the range that the kernel takes for outgoing connections, any of which could be quicker than us.
_FIRST, _LAST = 12_000, 31_999

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on now, another one at each call."""
    while True:
        port = random.randint(_FIRST, _LAST)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

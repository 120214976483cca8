#!/usr/bin/env python3
"""Fuzz the parser of clients' frames: any stream says what the RFC says, however it is cut.

Run by `scripts/fuzz frames`. The first byte of an input says how it is cut; the rest is the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["pushserver.core.frames"]):
    from tests.core.client_frames import pieces, run
    from tests.core.conformance import CASES
    from tests.core.oracle import judge

LIMIT = 300
"""Bytes of a message at most: small, so that short inputs are too big."""


def check(data: bytes) -> None:
    """Raise `AssertionError` where the parser and the RFC's words do not agree."""
    how, wire = data[:1] or b"\x00", data[1:]
    expected = judge(wire, LIMIT)
    assert run([wire], LIMIT) == expected
    assert run(pieces(wire, range(1, len(wire), 1 + how[0] % 64)), LIMIT) == expected


def seeds() -> Iterator[bytes]:
    """The cases of the tests that are short, and lengths that need no payload to be judged."""
    yield from (case.data for case in CASES if len(case.data) < 512)
    for length in (0, 125, 126, 127, 0xFFFE, 0xFFFF, 0x10000, 1 << 62, 1 << 63):
        yield b"\x81\xff" + length.to_bytes(8, "big") + b"key!"
        yield b"\x82\xfe" + (length & 0xFFFF).to_bytes(2, "big") + b"key!"


def main() -> None:
    """Fuzz."""
    corpus = Path(sys.argv[-1])
    for number, data in enumerate(seeds()):
        (corpus / f"case-{number}").write_bytes(b"\x00" + data)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

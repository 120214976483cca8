#!/usr/bin/env python3
"""Fuzz the parsers of clients' frames: any stream says what the RFCs say, however it is cut.

Run by `scripts/fuzz frames`. The first byte of an input says how it is cut and, by its top bit, whether
compression was negotiated; the rest is the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["pushserver.core.frames", "pushserver.core.deflate"]):
    from pushserver.core.deflate import InflatingParser
    from pushserver.core.frames import FrameParser
    from tests.core.client_frames import CONTINUATION, TEXT, client, pieces, run
    from tests.core.conformance import CASES
    from tests.core.oracle import judge
    from tests.core.test_deflate import EXAMPLES, GARBLED, RSV1, VIOLATIONS, compressed

DEFLATE = 0x80
LIMIT = 300
"""Bytes of a message at most: small, so that short inputs are too big."""


def check(data: bytes) -> None:
    """Raise `AssertionError` where the parser and the RFC's words do not agree."""
    how, wire = int.from_bytes(data[:1], "big"), data[1:]
    deflate = how >= DEFLATE
    parser = InflatingParser if deflate else FrameParser
    expected = judge(wire, LIMIT, deflate=deflate)
    assert run([wire], LIMIT, parser) == expected
    assert run(pieces(wire, range(1, len(wire), 1 + how % 64)), LIMIT, parser) == expected


def seeds() -> Iterator[bytes]:
    """The cases of the tests that are short, and lengths that need no payload to be judged."""
    yield from (b"\x00" + case.data for case in CASES if len(case.data) < 512)
    for length in (0, 125, 126, 127, 0xFFFE, 0xFFFF, 0x10000, 1 << 62, 1 << 63):
        yield b"\x00\x81\xff" + length.to_bytes(8, "big") + b"key!"
        yield b"\x00\x82\xfe" + (length & 0xFFFF).to_bytes(2, "big") + b"key!"
    compressing = bytes((DEFLATE,))
    yield from (compressing + data for data in VIOLATIONS.values())
    payloads = [*EXAMPLES.values(), *GARBLED.values(), compressed(b"x" * 299), compressed(b"x" * 301)]
    for payload in payloads:
        # Not masked at all, so that what is changed is what is inflated.
        yield compressing + client(TEXT | RSV1, payload, key=bytes(4))
        begun = client(TEXT | RSV1, payload[:3], fin=0, key=bytes(4))
        yield compressing + begun + client(CONTINUATION, payload[3:], key=bytes(4))


def main() -> None:
    """Fuzz."""
    corpus = Path(sys.argv[-1])
    for number, data in enumerate(seeds()):
        (corpus / f"case-{number}").write_bytes(data)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

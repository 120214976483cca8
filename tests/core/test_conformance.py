"""RFC 6455 by cases, each however its bytes come in; and the judge of all other streams held to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.client_frames import CLOSE, client, pieces, run
from tests.core.conformance import CASES, LIMIT, Case
from tests.core.oracle import judge

SHORT = 400
"""Bytes up to which a stream is cut at each place there is."""


def splits(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    if len(data) <= SHORT:
        yield pieces(data, range(1, len(data)))
        for cut in range(1, len(data)):
            yield pieces(data, [cut])
    for size in (2, 3, 7, 64, 1000, 4096, 16_384):
        if len(data) // size < 3000:
            yield pieces(data, range(size, len(data), size))


def by_section(section: str) -> list[Case]:
    return [case for case in CASES if case.name.split(".")[0].split(" ")[0] == section]


@pytest.mark.parametrize("section", ["1", "2", "3", "4", "5", "6", "7", "9"])
def test_each_case_says_what_it_has_to_however_it_is_cut(section: str) -> None:
    cases = by_section(section)
    assert len(cases) > 10
    for case in cases:
        for split in splits(case.data):
            events, failed, _frames = run(split, LIMIT)
            sizes = [len(piece) for piece in split[:5]]
            assert (events, failed) == (list(case.events), case.code), f"{case.name}, in pieces of {sizes}"


def test_no_case_is_forgotten_and_none_told_twice() -> None:
    names = [case.name for case in CASES]
    assert sum(len(by_section(section)) for section in "12345679") == len(names)
    assert len(set(names)) == len(names)


def test_the_judge_of_streams_agrees_with_every_case() -> None:
    for case in CASES:
        assert judge(case.data, LIMIT)[:2] == (list(case.events), case.code), case.name


def test_every_close_code_there_is_is_taken_or_refused() -> None:
    for code in range(0x10000):
        data = client(CLOSE, code.to_bytes(2, "big"))
        assert run([data], LIMIT)[:2] == judge(data, LIMIT)[:2], code

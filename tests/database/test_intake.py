from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.errors import DatabaseError
from pushserver.database.database import Database
from pushserver.database.intake import Intake
from pushserver.exposure.event import build_events
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.database.look import ask
from tests.engines.postgres import Postgres
from tests.exposure.examples import an_event, an_exposure, some_events


@pytest.fixture
def intake(io_loop: IOLoop, database: Database) -> Iterator[Intake]:
    intake = Intake(database, timeout_s=30)
    yield intake
    io_loop.run_sync(intake.close)


@asynccontextmanager
async def closing(intake: Intake) -> AsyncIterator[Intake]:
    await intake.open()
    yield intake
    await intake.close()


@pytest.mark.gen_test
async def test_events_become_records(url: str, intake: Intake) -> None:
    event = build_events([an_exposure("alice"), an_exposure("bob", confirmed_at=1_800_000_000_000)], "pod-1")
    taken = await intake.take([event[0].data, *(one.data for one in some_events(3, "x"))])
    assert (taken.exposures, taken.new, taken.letters) == (5, 5, {})
    assert taken.confirmed_at == 1_800_000_000_000
    assert ask(url, "SELECT count(*) FROM exposures") == [(5,)]


@pytest.mark.gen_test
async def test_a_repeat_is_known(intake: Intake) -> None:
    events = [event.data for event in some_events(4)]
    await intake.take(events[:2])
    taken = await intake.take(events + events)
    assert (taken.exposures, taken.new) == (4, 2)


@pytest.mark.gen_test
async def test_poison_goes_to_the_dead_letters_and_blocks_nothing(url: str, intake: Intake) -> None:
    poison = [b"nonsense", b'{"schema":2}', b"", an_event().data.replace(b'"alice"', b'""')]
    taken = await intake.take([poison[0], an_event("m-1").data, *poison[1:], an_event("m-2").data])
    assert (taken.exposures, taken.new) == (2, 2)
    assert taken.letters == {"not_json": 1, "schema": 1, "empty": 1, "field": 1}
    found = ask(url, "SELECT reason FROM dead_letters ORDER BY 1")
    assert found == [("empty",), ("field",), ("not_json",), ("schema",)]


@pytest.mark.gen_test
async def test_what_only_the_database_refuses_is_a_dead_letter_too(
    url: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the decoder had let pass what no table takes."""
    decode = intake._decoder.decode

    def careless(data: bytes) -> list[object]:
        return [
            one._replace(source=None) if one.message_id == "bad" else one  # type: ignore[arg-type]  # on purpose
            for one in decode(data)
        ]

    monkeypatch.setattr(intake._decoder, "decode", careless)
    taken = await intake.take([an_event("m-1").data, an_event("bad").data, b"nonsense", an_event("m-2").data])
    assert (taken.exposures, taken.new, taken.letters) == (2, 2, {"not_json": 1, "refused": 1})
    assert ask(url, "SELECT message_id FROM exposures ORDER BY 1") == [("m-1",), ("m-2",)]
    assert ask(url, "SELECT reason FROM dead_letters ORDER BY 1") == [("not_json",), ("refused",)]


@measured_again
@pytest.mark.gen_test
async def test_the_loop_is_never_held(intake: Intake) -> None:
    shown = [an_exposure(f"user-{number}") for number in range(1000)]
    events = [event.data for n in range(10) for event in build_events(shown, f"pod-{n}")]
    with short_callbacks():
        await intake.take(events)


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_hangs_is_given_up_in_time_and_used_again_later(postgres: Postgres) -> None:
    async with closing(Intake(Database(postgres.new_database()), timeout_s=0.5)) as intake:
        events = [an_event().data]
        postgres.freeze()
        began = asyncio.get_running_loop().time()
        with pytest.raises(DatabaseError):
            await intake.take(events)
        assert asyncio.get_running_loop().time() - began < 5
        postgres.thaw()
        assert (await intake.take(events)).new == 1

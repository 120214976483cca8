from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions as google_errors
from google.auth.exceptions import DefaultCredentialsError
from tornado.ioloop import IOLoop

from pushserver.core.errors import EventRefusedError, SinkRefusedError, SinkUnavailableError
from pushserver.exposure.event import Event, build_events
from pushserver.exposure.pubsub_topic import PubSubTopic
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.exposure.examples import an_event, an_exposure, some_events
from tests.exposure.publishers import ScriptedPublisher
from tests.exposure.subscription import Subscription, new_topic

PASSING = [
    (google_errors.ServiceUnavailable, "unavailable"),
    (google_errors.DeadlineExceeded, "deadline_exceeded"),
    (google_errors.InternalServerError, "internal"),
    (google_errors.Aborted, "aborted"),
    (google_errors.Unknown, "unknown"),
    (google_errors.Cancelled, "cancelled"),
    (google_errors.ResourceExhausted, "resource_exhausted"),
]
LASTING = [
    (google_errors.NotFound, "not_found"),
    (google_errors.PermissionDenied, "permission_denied"),
    (google_errors.Unauthenticated, "unauthenticated"),
    (google_errors.InvalidArgument, "invalid_argument"),
    (google_errors.FailedPrecondition, "failed_precondition"),
]


class Waits:
    """Stands for the clock: notes each wait and lets it end at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


def scripted(publisher: ScriptedPublisher, waits: Waits, emulator_host: str = "") -> PubSubTopic:
    return PubSubTopic(
        "projects/p/topics/t", emulator_host=emulator_host, connect=publisher.connect, pause=waits
    )


@pytest.fixture
def topic_on(io_loop: IOLoop, pubsub_emulator: PubSubEmulator) -> Iterator[PubSubTopic]:
    topic = PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host, timeout_s=5)
    yield topic
    io_loop.run_sync(topic.close)


@pytest.mark.gen_test(timeout=30)
async def test_events_arrive_whole_and_with_their_attributes(
    pubsub_emulator: PubSubEmulator, topic_on: PubSubTopic
) -> None:
    shown = [an_exposure(f"ユーザー-{number}") for number in range(1000)]
    events = build_events(shown, "pod-1") + some_events(5)
    async with Subscription(pubsub_emulator, topic_on.name) as subscription:
        await topic_on.publish(events)
        arrived = await subscription.receive(len(events))
    assert {message.data: message.attributes for message in arrived} == {
        event.data: event.attributes for event in events
    }
    assert len(json.loads(events[0].data)["exposures"]) == 1000


@pytest.mark.gen_test(timeout=30)
async def test_opening_makes_a_missing_topic_on_the_emulator(
    pubsub_emulator: PubSubEmulator, topic_on: PubSubTopic
) -> None:
    await topic_on.open()
    await topic_on.open()
    async with Subscription(pubsub_emulator, topic_on.name) as subscription:
        await topic_on.publish([an_event()])
        assert len(await subscription.receive(1)) == 1


@pytest.mark.gen_test(timeout=30)
async def test_publishing_makes_a_topic_again_that_the_emulator_forgot(
    pubsub_emulator: PubSubEmulator, topic_on: PubSubTopic
) -> None:
    async with Subscription(pubsub_emulator, topic_on.name) as subscription:
        await topic_on.publish([an_event("m-1")])
        await subscription.delete_topic()
        await topic_on.publish([an_event("m-2")])
        await subscription.delete_topic()  # raises unless it is there again


@pytest.mark.gen_test(timeout=30)
async def test_an_emulator_that_hangs_is_unavailable_after_the_time_out(
    pubsub_emulator: PubSubEmulator,
) -> None:
    topic = PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host, attempts=1, timeout_s=0.3)
    await topic.open()
    pubsub_emulator.freeze()
    with pytest.raises(SinkUnavailableError) as failure:
        await topic.publish([an_event()])
    assert failure.value.kind == "deadline_exceeded"
    pubsub_emulator.thaw()
    await topic.close()


@pytest.mark.gen_test(timeout=30)
async def test_nobody_listening_is_unavailable() -> None:
    topic = PubSubTopic("projects/p/topics/t", emulator_host="127.0.0.1:1", attempts=1)
    with pytest.raises(SinkUnavailableError) as at_open:
        await topic.open()
    with pytest.raises(SinkUnavailableError) as at_publish:
        await topic.publish([an_event()])
    assert (at_open.value.kind, at_publish.value.kind) == ("unavailable", "unavailable")
    await topic.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("error, kind", PASSING)
async def test_what_passes_is_tried_again_after_growing_waits(
    waits: Waits, error: type[google_errors.GoogleAPICallError], kind: str
) -> None:
    publisher = ScriptedPublisher(error("once"), error("twice"))
    await scripted(publisher, waits).publish([an_event()])
    assert publisher.attempts == 3
    assert [int(seconds * 10) for seconds in waits.seconds] == [1, 2]


@pytest.mark.gen_test
@pytest.mark.parametrize("error, kind", PASSING)
async def test_after_three_attempts_the_sink_is_unavailable(
    waits: Waits, error: type[google_errors.GoogleAPICallError], kind: str
) -> None:
    publisher = ScriptedPublisher(*[error("no")] * 5)
    with pytest.raises(SinkUnavailableError) as failure:
        await scripted(publisher, waits).publish([an_event()])
    assert (failure.value.kind, publisher.attempts, len(waits.seconds)) == (kind, 3, 2)


@pytest.mark.gen_test
@pytest.mark.parametrize("error, kind", LASTING)
async def test_what_lasts_is_refused_at_once(
    waits: Waits, error: type[google_errors.GoogleAPICallError], kind: str
) -> None:
    publisher = ScriptedPublisher(error("no"))
    with pytest.raises(SinkRefusedError) as failure:
        await scripted(publisher, waits).publish([an_event()])
    assert (failure.value.kind, publisher.attempts, publisher.created) == (kind, 1, [])


@pytest.mark.gen_test
async def test_after_a_failure_a_publish_is_one_attempt_until_one_works(waits: Waits) -> None:
    """Who comes again has a back-off of its own; three attempts each time would undermine it."""
    publisher = ScriptedPublisher(*[google_errors.ResourceExhausted("quota")] * 5)
    topic = scripted(publisher, waits)
    attempts = []
    for _ in range(3):
        with pytest.raises(SinkUnavailableError):
            await topic.publish([an_event()])
        attempts.append(publisher.attempts)
    await topic.publish([an_event()])
    publisher.errors = [google_errors.ResourceExhausted("quota")] * 2
    await topic.publish([an_event()])
    assert (attempts, publisher.attempts) == ([3, 4, 5], 9)


@pytest.mark.gen_test
async def test_a_topic_is_made_on_the_emulator_only(waits: Waits) -> None:
    publisher = ScriptedPublisher(google_errors.NotFound("topic"))
    await scripted(publisher, waits, emulator_host="localhost:8085").publish([an_event()])
    assert (publisher.attempts, publisher.created) == (2, ["projects/p/topics/t"])


@pytest.mark.gen_test
async def test_what_a_server_says_stays_one_short_line(waits: Waits) -> None:
    publisher = ScriptedPublisher(google_errors.PermissionDenied("no\r\n\x1b[31m" + "x" * 5000))
    with pytest.raises(SinkRefusedError) as failure:
        await scripted(publisher, waits).publish([an_event()])
    assert failure.value.reason.isprintable()
    assert len(failure.value.reason) <= 200


@pytest.mark.gen_test
async def test_no_credentials_are_refused_and_looked_for_again(waits: Waits) -> None:
    """An operator may mount them while the pod runs."""
    publisher = ScriptedPublisher()
    missing = [DefaultCredentialsError("none")]

    async def connect(emulator_host: str) -> Any:
        if missing:
            raise missing.pop()
        return publisher

    topic = PubSubTopic("projects/p/topics/t", emulator_host="", connect=connect)
    with pytest.raises(SinkRefusedError) as failure:
        await topic.open()
    assert failure.value.kind == "credentials"
    await topic.publish([an_event()])
    assert publisher.attempts == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("variable, host", [("127.0.0.1:8085", "127.0.0.1:8085"), ("", ""), (None, "")])
async def test_the_emulator_is_found_by_googles_own_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, host: str
) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    if variable is not None:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", variable)
    publisher = ScriptedPublisher()
    topic = PubSubTopic("projects/p/topics/t", connect=publisher.connect)
    await topic.open()
    assert publisher.hosts == [host]


@pytest.mark.gen_test
async def test_one_client_serves_all_publishes_and_is_closed_once(waits: Waits) -> None:
    publisher = ScriptedPublisher()
    topic = scripted(publisher, waits)
    await topic.open()
    await topic.publish([an_event()])
    await topic.close()
    await topic.close()
    assert (len(publisher.hosts), publisher.closed) == (1, 1)


@pytest.mark.gen_test
async def test_a_missing_topic_in_production_is_told_with_the_name_of_its_setting(waits: Waits) -> None:
    publisher = ScriptedPublisher(google_errors.NotFound("no"))
    with pytest.raises(SinkRefusedError) as failure:
        await scripted(publisher, waits).publish([an_event()])
    assert failure.value.kind == "not_found"
    assert failure.value.reason == "there is no projects/p/topics/t (exposure.topic)"
    assert publisher.created == []


@pytest.mark.gen_test
async def test_a_missing_topic_in_development_is_made(waits: Waits) -> None:
    publisher = ScriptedPublisher(google_errors.NotFound("no"))
    topic = PubSubTopic(
        "projects/p/topics/t", emulator_host="", create=True, connect=publisher.connect, pause=waits
    )
    await topic.publish([an_event()])
    assert publisher.created == ["projects/p/topics/t"]


@pytest.mark.gen_test
async def test_a_request_refused_for_what_is_in_it_is_told_from_a_refusing_topic(waits: Waits) -> None:
    publisher = ScriptedPublisher(
        google_errors.InvalidArgument("empty"), google_errors.PermissionDenied("no")
    )
    topic = scripted(publisher, waits)
    with pytest.raises(EventRefusedError):
        await topic.publish([an_event()])
    with pytest.raises(SinkRefusedError) as failure:
        await topic.publish([an_event()])
    assert not isinstance(failure.value, EventRefusedError)


@pytest.mark.gen_test(timeout=30)
async def test_the_emulator_refuses_an_empty_event_as_an_event(
    pubsub_emulator: PubSubEmulator, topic_on: PubSubTopic
) -> None:
    await topic_on.open()
    with pytest.raises(EventRefusedError):
        await topic_on.publish([Event("", "", 0, b"")])

"""Commands, batched by tick: whatever is asked for in one turn of the loop shares a pipeline.

A connect costs the same few commands whatever the load; under a storm the pipelines grow and their
number does not. Two commands have an order only if the second is sent after the first was answered, or
if one script holds both: pipelines may travel side by side, and in a cluster to different nodes. Publishes
(`Commands.publish`) alone keep the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Any

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.cluster import Cluster
from pushserver.stores.command import Command, Part, Whole, teach
from pushserver.stores.faults import is_noscript, redirect, store_error
from pushserver.stores.lane import Client, Lane
from pushserver.stores.lanes import ClusterLanes, Lanes, NodeLanes, OneEngine
from pushserver.stores.link import Argument
from pushserver.stores.publish_lane import PublishLane
from pushserver.stores.scripts import script
from pushserver.stores.seal import Durability, seal_of

__all__ = ["Argument", "Commands"]

log = structlog.get_logger(__name__)

SCAN_COUNT = 1000
"""Keys looked at in one step of a scan: some 100 us of the engine's time."""


class Commands:
    """The one way to Redis. Answers are as the protocol has them: bytes, integers, lists, None.

    A waiter that is cancelled cancels nothing but its own waiting: the pipeline it shares goes on, so no
    other command can get its answer. An error of one command is its own, and fails no neighbour. Beyond
    `max_waiting` commands that were not sent yet a command fails at once with kind `busy`.

    What else a command meets (its time-out, an engine that is away) is told at `Lane`: there are two to the
    engine, one of them for publishes, and in a cluster two to each node. At most `max_in_flight` + 1
    connections are in use to each.
    """

    def __init__(
        self,
        client: Client | Cluster,
        metrics: Metrics,
        *,
        timeout_s: float,
        max_in_flight: int = 4,
        max_waiting: int = 200_000,
        durability: Durability = "none",
    ) -> None:
        seal = seal_of(durability, timeout_s)

        def lanes(client: Client) -> NodeLanes:
            return NodeLanes(
                ordinary=Lane(client, self, timeout_s=timeout_s, max_in_flight=max_in_flight),
                publish=PublishLane(client, self, timeout_s=timeout_s, seal=seal),
            )

        self._lanes: Lanes = (
            ClusterLanes(client, lanes) if isinstance(client, Cluster) else OneEngine(lanes(client))
        )
        self._sealed = seal is not None
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._room = 0
        """So many commands may be sent before those that wait are counted anew."""
        self._alarm = Alarm()
        self.last_fault: float | None = None
        """Monotonic second until which the last fault lasted, so of the first answer after it; None at first.

        An engine that hangs fails now and then and is away all the time in between.
        """
        self._fault_lasts = False

    # -- what others ask for

    def call(self, *args: Argument) -> Awaitable[Any]:
        """Send one command. Raises `StoreUnavailableError` or `StoreRefusedError` when awaited.

        Raises `ValueError` at once for a text that UTF-8 cannot hold.
        """
        return self._send(Command(args, asyncio.get_running_loop().create_future()))

    def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
        """Run `lua/NAME.lua` with keys of one slot; an engine that does not know it is taught it once."""
        return self._send(self._script(name, keys, args, publishes=False))

    def scripts(
        self, name: str, calls: Iterable[tuple[Sequence[str], Sequence[Argument]]]
    ) -> Awaitable[list[Any]]:
        """Run a script like `script` once for each pair of keys and arguments.

        Answers one list, in their order, with a `StoreError` where there is no answer, and raises none. That
        costs one future, however many they are; each pair has a slot of its own.
        """
        text, calls = script(name), list(calls)
        whole = Whole(len(calls))
        for place, (keys, args) in enumerate(calls):
            command = (b"EVALSHA", text.sha, len(keys), *keys, *args)
            self._send(Part(command, whole, place, text))
        return whole.answer

    def publish(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
        """Run a script like `script`, in order, answered only when it is as durable as `durability` asks.

        What is asked for first is carried out first on its node, whether it was awaited or not: one
        pipeline at a time, which nothing but publishes shares. That does not hold for what fails (it may
        still be carried out, late), nor in the moment in which a slot moves to another node of a cluster:
        what was sent to the old one may be overtaken by what is asked for then.

        Raises `StoreUnavailableError` of kind `durability` if a replica, or the disk, does not have it in
        time: it may have been carried out, and repeating it is safe.
        """
        return self._send(self._script(name, keys, args, publishes=True))

    @property
    def in_one_order(self) -> bool:
        """Whether that order holds whatever their slots are, for there is one node."""
        return isinstance(self._lanes, OneEngine)

    @property
    def sealed(self) -> bool:
        """Whether what a publish wrote counts only when its seal was answered."""
        return self._sealed

    async def learn_nodes(self) -> None:
        """Learn which node of a cluster has which slot, if one answers.

        Who publishes without knowing it is sent elsewhere by the first answers, and out of order.
        """
        await self._lanes.every()

    async def on_each_node(self, *args: Argument) -> list[Any]:
        """Send a command without a key to every node of the engine; an answer for each, in no order."""
        loop = asyncio.get_running_loop()
        sent = [(lanes, Command(args, loop.create_future())) for lanes in await self._lanes.every()]
        for lanes, command in sent:
            lanes.send(command)
        return list(await asyncio.gather(*(command.answer for _, command in sent)))

    async def scan(self, pattern: str, kind: str) -> AsyncIterator[list[bytes]]:
        """The keys that fit `pattern` and hold that type of value, on every node, in pages.

        A key that is there all the time comes at least once. Raises `StoreError`.
        """
        for lanes in await self._lanes.every():
            cursor = b"0"
            while True:
                args = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT, "TYPE", kind)
                command = Command(args, asyncio.get_running_loop().create_future())
                lanes.send(command)
                cursor, page = await command.answer
                if page:
                    yield page
                if cursor == b"0":
                    break

    @property
    def away(self) -> bool:
        """Redis does not answer; of a cluster, no node of it."""
        return self._lanes.away

    @property
    def waiting(self) -> int:
        """Commands not yet sent: the length of the queue, for the metrics."""
        return sum(lanes.waiting for lanes in self._lanes.all)

    async def close(self) -> None:
        """Wait for what travels, then fail what waits. Nothing may be sent afterwards."""
        for command in await self._lanes.close():
            command.refuse(StoreUnavailableError("closed", "the pod is leaving"))

    # -- sending

    def _script(
        self, name: str, keys: Sequence[str], args: Sequence[Argument], *, publishes: bool
    ) -> Command:
        text = script(name)
        command = (b"EVALSHA", text.sha, len(keys), *keys, *args)
        return Command(command, asyncio.get_running_loop().create_future(), text, publishes=publishes)

    def _send(self, command: Command) -> asyncio.Future[Any]:
        if self._room > 0 or self._has_room():
            self._room -= 1
            self._lanes.send(command)
        else:
            self._refuse([command], StoreUnavailableError("busy", "too many commands wait for Redis"))
        return command.answer

    def _has_room(self) -> bool:
        # Lanes are many in a cluster: they are counted when as many were sent as there was room for.
        self._room = self._max_waiting - self.waiting
        return self._room > 0

    # -- what lanes tell

    def answered(self, lane: Lane, batch: list[Command], results: list[Any], seconds: float) -> set[str]:
        """Hand out the answers; the kinds of error among them."""
        self._metrics.redis_round_trip(len(batch), seconds)
        self._lanes.heard()
        lasted, self._fault_lasts = self._fault_lasts, False
        kinds: set[str] = set()
        untaught: list[Command] = []
        for command, result in zip(batch, results, strict=True):
            if not isinstance(result, Exception):
                command.resolve(result)
            elif command.script is not None and is_noscript(result):
                untaught.append(command)
            elif not self._redirected(command, result):
                fault = self._fault(result, [command])
                kinds.add(fault.kind)
                self._tell(command, fault)
        if lasted and not self._fault_lasts:
            self.last_fault = time.monotonic()
        teach(untaught)
        lane.send_first(untaught)
        return kinds

    def _redirected(self, command: Command, result: Exception) -> bool:
        to = redirect(result)
        return to is not None and self._lanes.follow(command, to)

    def _tell(self, command: Command, fault: StoreError) -> None:
        """An operator is needed, so it is said once a minute; whose key it is shows whom to help.

        Of plain errors only that a key holds another type: the others are somebody's who expects them.
        """
        known = fault.kind != "error" or "WRONGTYPE" in fault.reason
        if isinstance(fault, StoreRefusedError) and known and self._alarm.due():
            keys = command.args[3:4] if command.args[0] in {b"EVALSHA", b"EVAL"} else command.args[1:2]
            keys = tuple(key.encode() if isinstance(key, str) else key for key in keys)
            log.error("redis.refused", kind=fault.kind, reason=fault.reason, keys=keys)

    def lost(self, batch: list[Command], error: BaseException) -> None:
        """A round trip failed as a whole."""
        self._fault(error, batch)
        self._lanes.doubt()

    def late(self, commands: list[Command], *, away: bool) -> None:
        """These were not answered in time."""
        kind = "away" if away else "timeout"
        self._refuse(commands, StoreUnavailableError(kind, "Redis does not answer in time"))

    def _fault(self, error: BaseException, commands: list[Command]) -> StoreError:
        fault = store_error(error)
        # An engine that lacks a replica does answer.
        if isinstance(fault, StoreUnavailableError) and fault.kind != "durability":
            self.last_fault = time.monotonic()
            self._fault_lasts = True
        self._refuse(commands, fault)
        return fault

    def _refuse(self, commands: list[Command], fault: StoreError) -> None:
        wanted = [command for command in commands if command.is_wanted()]
        self._metrics.redis_errors.labels(fault.kind).inc(len(wanted))
        for command in wanted:
            command.refuse(fault)

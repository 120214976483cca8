"""What a scenario is: named figures with units and targets, and what it gets to run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from crowd import Crowd
from engines import Engine
from machine import wait_for
from pods import SECRET, Pod
from stored import insert, with_categories

__all__ = ["Bench", "Figure", "Outcome", "Scenario"]

QUICK_CONFIRM_S = 0.2


@dataclass(frozen=True)
class Figure:
    """One figure of a scenario: what is measured, in which unit, and the bound that is aimed at."""

    name: str
    text: str
    unit: str
    target: float | None = None
    more_is_better: bool = False


@dataclass
class Outcome:
    """What one run of a scenario gave: its figures by name, and series of points for plots."""

    figures: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """One run: a fresh Redis, a folder, and how large it is to be."""

    engine: Engine
    folder: str
    quick: bool
    minutes: float

    def size(self, full: int, quick: int) -> int:
        """How many: `full`, or `quick` with --quick."""
        return quick if self.quick else full

    def pod(self, *more: str) -> Pod:
        """A pod on this Redis; `more` are flags."""
        # A quick run does not wait for what is late on purpose.
        early = (f"--set=delivery.log_confirm_s={QUICK_CONFIRM_S}",) if self.quick else ()
        return Pod(self.engine.url, self.folder, *early, *more)

    def users(self, count: int, prefix: str = "user-") -> None:
        """Give users their categories, all of them `{"vip":["3"]}` among others."""
        insert(self.engine, with_categories(prefix, count))

    def connect(self, crowd: Crowd, pods: Sequence[Pod], count: int, **more: Any) -> dict[str, Any]:
        """Connect users to the pods in turn, and wait until all are live."""
        return crowd.connect([pod.port for pod in pods], count, secret=SECRET, **more)

    def warm(self, pod: Pod) -> None:
        """What the first connects load and allocate is no connection's: some come and go."""
        if self.quick:
            return
        with Crowd() as crowd:
            self.connect(crowd, [pod], 200, prefix="warm-")
        wait_for(lambda: pod.stats()["connections"] == 0, "that all are gone")


@dataclass(frozen=True)
class Scenario:
    """A scenario: its figures, and the function that takes them. By default it is among those that run."""

    name: str
    figures: Sequence[Figure]
    run: Callable[[Bench], Outcome]
    by_default: bool = True

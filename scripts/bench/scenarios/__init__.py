"""Every scenario, in the order of a run: those that run by default, and then the others."""

from __future__ import annotations

from collections.abc import Mapping

from scenario import Scenario

from scenarios import (
    catchup,
    churn,
    coalescing,
    commands,
    connect,
    consume,
    deflate,
    fanout,
    growth,
    memory,
    publish,
    reconcile,
    sinks,
    storm,
)

__all__ = ["SCENARIOS"]

DEFAULT = (fanout, connect, memory, publish, catchup, storm, growth, coalescing)
OTHERS = (churn, deflate, commands, sinks, consume, reconcile)
SCENARIOS: Mapping[str, Scenario] = {
    name: Scenario(name, module.FIGURES, module.run, module in DEFAULT)
    for module in (*DEFAULT, *OTHERS)
    for name in [module.__name__.rpartition(".")[2]]
}

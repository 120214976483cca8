"""Every scenario, in the order of a run."""

from __future__ import annotations

from collections.abc import Mapping

from scenario import Scenario

from scenarios import catchup, churn, coalescing, connect, fanout, growth, memory, publish, storm

__all__ = ["SCENARIOS"]

SCENARIOS: Mapping[str, Scenario] = {
    module.__name__.rpartition(".")[2]: Scenario(
        module.__name__.rpartition(".")[2], module.FIGURES, module.run, module is not churn
    )
    for module in (fanout, connect, memory, publish, catchup, storm, growth, coalescing, churn)
}

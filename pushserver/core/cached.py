"""Results of pure functions that are kept: of each the latest used, so many; a metric tells how many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import _lru_cache_wrapper, lru_cache
from typing import TypeVar

__all__ = ["KEPT", "cached"]

_Result = TypeVar("_Result")

_kept: dict[str, Callable[[], int]] = {}
KEPT: Mapping[str, Callable[[], int]] = _kept
"""How many are kept now, of the functions that are loaded, by the name that the metric has for them."""


def cached(name: str, most: int) -> Callable[[Callable[..., _Result]], _lru_cache_wrapper[_Result]]:
    """Keep the results of a function for its latest `most` arguments, as `functools.lru_cache`."""

    def keep(function: Callable[..., _Result]) -> _lru_cache_wrapper[_Result]:
        keeping = lru_cache(most)(function)
        _kept[name] = lambda: keeping.cache_info().currsize
        return keeping

    return keep

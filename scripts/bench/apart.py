"""Code that is measured without being a pod: in a process of its own, on the pods' processor."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from machine import SERVER, pin

__all__ = ["run_apart"]

T = TypeVar("T")


def run_apart(work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    """What the coroutine function `work` of a module answers; its arguments can be pickled."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin) as pool:
        return pool.submit(_run, work, *arguments).result()


def _begin() -> None:
    pin(os.getpid(), SERVER)


def _run(work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    return asyncio.run(work(*arguments))

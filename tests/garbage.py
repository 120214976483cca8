"""What only the garbage collector would free, of what was made meanwhile."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CoroutineType, FrameType

__all__ = ["circles"]


@contextmanager
def circles() -> Iterator[Counter[str]]:
    """Filled at the end with the objects of the pod that are in circles, or hang from one, by their kind."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(kind for one in gc.garbage if (kind := _kind(one)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _kind(one: object) -> str:
    """The name of a class or of a function of the pod; "" for what is another's."""
    if isinstance(one, FrameType):
        is_ours = one.f_globals.get("__name__", "").startswith("pushserver.")
        return one.f_code.co_qualname if is_ours else ""
    if isinstance(one, CoroutineType):
        return one.__qualname__ if "/pushserver/" in one.cr_code.co_filename else ""
    return type(one).__qualname__ if type(one).__module__.startswith("pushserver.") else ""

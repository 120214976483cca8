"""The machine as benches see it: processors, clocks and memory of processes, ports, waiting."""

from __future__ import annotations

import os
import platform
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "LOAD",
    "SERVER",
    "BenchError",
    "cpu",
    "describe_machine",
    "descriptors",
    "free_ports",
    "pin",
    "raise_file_limit",
    "rss",
    "unpin",
    "wait_for",
]

SERVER = 0
"""The processor of what is measured: the first."""
LOAD = -1
"""The processor of everything else, load and Redis: the last."""
PROCESSORS = sorted(os.sched_getaffinity(0))
"""What this process was given, before it was pinned itself."""
PAGE = os.sysconf("SC_PAGE_SIZE")
POLL_S = 0.05


class BenchError(Exception):
    """A figure that cannot be taken: what went wrong, in a sentence."""


def pin(pid: int, processor: int) -> None:
    """Keep a process, and what it starts from now on, on one processor, if there are several."""
    if len(PROCESSORS) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {PROCESSORS[processor]})


def unpin() -> None:
    """Let this process use all processors again."""
    os.sched_setaffinity(0, PROCESSORS)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far, all threads, to the nanosecond.

    It is the clock that `clock_getcpuclockid` gives (Linux): ticks of /proc/PID/stat are 10 ms, more than
    some scenarios take altogether.
    """
    return time.clock_gettime((~pid << 3) | 2)


def rss(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def descriptors(pid: int) -> int:
    """Open descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def raise_file_limit() -> int:
    """Allow this process, and what it starts, as many descriptors as the machine lets it; how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 60, every_s: float = POLL_S) -> None:
    """Poll until true. Raises `BenchError`, naming what was waited for."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {within_s:.0f} s")
        time.sleep(every_s)


def describe_machine() -> dict[str, str | int]:
    """What figures depend on, for the JSON."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * PAGE / 2**30),
        "kernel": platform.release().split("-")[0],
    }

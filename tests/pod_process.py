"""A pod as a real process, which can be killed, signalled and frozen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from pushserver.web.tokens import make_token
from tests.client import Client, connect
from tests.pod import SECRET, eventually

__all__ = ["LEASE_MS", "NO_MORE", "Environ", "PodProcess", "PodProcesses", "flags", "pod_processes"]

START_S = 40.0
STOP_S = 20.0
EXIT_OK = 0
KILLED = -signal.SIGKILL
LEASE_MS = 2400
"""Short, for tests wait until it has run out; a pod that is held up for a second keeps it."""
TIMEOUT_MS = 750
"""Of Redis, just below a third of the lease."""
_PR_SET_PDEATHSIG = 1

Environ = Mapping[str, str]
"""Variables besides those of the test run."""
NO_MORE: Environ = {}


def flags(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings as arguments of `serve`; one that is None is left to the environment and files."""
    return [
        f"--set={section}.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for section, values in sections.items()
        for name, value in values.items()
        if value is not None
    ]


def _without_settings(environ: Environ) -> Environ:
    """What the developer set for a pod of their own is not for the tests'."""
    return {name: value for name, value in environ.items() if not name.startswith("PUSHSERVER_")}


# Becomes the program that it is given. A `preexec_fn` would do as much, but with one Python forks, and what
# gRPC has for a fork crashes the child when another thread is in a call.
_DIE_WITH_THE_TESTS = f"""
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _command(arguments: Sequence[str]) -> list[str]:
    """Serve with these arguments. A test run that is killed itself leaves no pod behind."""
    program = [sys.executable, "-m", "pushserver", "serve", *arguments]
    # Without site: the coverage is begun by the program, not by what becomes it.
    return [sys.executable, "-S", "-c", _DIE_WITH_THE_TESTS, *program]


class PodProcess:
    """`pushserver serve` with `arguments`, in a process group of its own.

    Its log is kept in a file, one JSON object a line. `expected_errors` are the events of level error, and
    `exit_code` the end, that the test takes for right.
    """

    def __init__(
        self, arguments: Sequence[str], *, folder: Path | None = None, environ: Environ = NO_MORE
    ) -> None:
        # Files need no reader, so a pod that says much is never held up. `put_away` closes them.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            _command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            start_new_session=True,
            cwd=folder,
            env={**_without_settings(os.environ), **environ},
        )
        self.name = ""
        self.port = 0
        self.admin_port = 0
        self.expected_errors: set[str] = set()
        self.expected_exit = EXIT_OK

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return not self._ended()

    async def started(self) -> None:
        """Return when it takes traffic, with `port` and `admin_port` known. Fails if it ends before."""
        line = await eventually(lambda: self.events("pod.started") or self._ended(), START_S)
        assert line is not True, f"the pod ended with {self._process.returncode}\n{self.stderr}"
        self.name, self.port, self.admin_port = line[0]["pod"], line[0]["port"], line[0]["admin_port"]

    def _ended(self) -> bool:
        return self._process.poll() is not None

    # -- what it says

    @property
    def stderr(self) -> str:
        """Everything it wrote there so far."""
        return os.pread(self._stderr.fileno(), 1 << 26, 0).decode(errors="replace")

    @property
    def stdout(self) -> str:
        """Everything it wrote there so far."""
        return os.pread(self._stdout.fileno(), 1 << 26, 0).decode(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """Every finished line of its log. Fails on one that is not JSON: a traceback, a print, a warning."""
        text = self.stderr
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.log() if line["event"] == name]

    def figures(self, name: str) -> int:
        """A number of /proc/PID/status in KiB: VmRSS is the memory now, VmHWM the most it ever was."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    @property
    def open_files(self) -> int:
        """Its descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """`GET path` on the admin listener: status and JSON. Raises `OSError` when nobody listens."""
        status, body = await self._get(path)
        return status, json.loads(body)

    async def stats(self) -> dict[str, Any]:
        """Its figures of this moment."""
        return (await self.get("/v1/stats"))[1]

    async def metric(self, series: str) -> float:
        """One number of `/metrics`, by its name and labels as they stand there; 0 if it is not there."""
        _, body = await self._get("/metrics")
        values = (line.rpartition(" ") for line in body.decode().splitlines())
        return next((float(value) for name, _, value in values if name == series), 0.0)

    async def _get(self, path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        try:
            host = f"127.0.0.1:{self.admin_port}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    # -- clients

    def token(self, user: str, ttl_s: float = 600) -> str:
        """A token that it believes, made a second ago: its clock is Redis', and some milliseconds behind."""
        return make_token(SECRET.encode(), user, ttl_s + 1, time.time() - 1)

    async def connect(self, user: str, *, ttl_s: float = 600, **options: Any) -> Client:
        """Connect as `user`; `options` as of `tests.client.connect`. Raises `Refused` or `OSError`."""
        return await connect(self.port, self.token(user, ttl_s), **options)

    # -- signals

    def kill(self) -> None:
        """End it at once (kill -9) and all that it started in its group."""
        self.expected_exit = KILLED
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to leave (SIGTERM); a second time, to hurry."""
        self.signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it hang."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def exit_code(self, within_s: float = STOP_S) -> int:
        """Wait until it has ended; how. Fails after `within_s`."""
        await eventually(self._ended, within_s)
        code: int = self._process.returncode
        return code

    # -- the end

    async def finish(self) -> None:
        """Stop it if it runs, and judge how it lived: exit code, log, and that its group is empty."""
        if not self._ended():
            self.terminate()
        code = await self.exit_code()
        assert code == self.expected_exit, f"exit code {code}"
        self.judge_log()
        await eventually(lambda: not self._group_lives())

    def judge_log(self) -> None:
        """Fail on a line that is not JSON, a traceback, or an error that was not expected."""
        lines = self.log()
        traced = [line for line in lines if "exception" in line or "Traceback" in json.dumps(line)]
        assert not traced, traced[0]
        errors = [line for line in lines if line["level"] in {"error", "critical"}]
        unexpected = [line for line in errors if line["event"] not in self.expected_errors]
        assert not unexpected, unexpected[0]

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def put_away(self) -> None:
        """Kill what is left, whatever happened. Twice is once."""
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._stderr.close()
        self._stdout.close()


class PodProcesses:
    """Starts pods that share one Redis and what else the test sets for all of them."""

    def __init__(self, redis_url: str, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self._redis_url = redis_url
        self._sections = sections
        self.all: list[PodProcess] = []

    async def start(
        self, name: str, *, redis_url: str = "", environ: Environ = NO_MORE, **sections: Mapping[str, Any]
    ) -> PodProcess:
        """Start a pod and wait until it takes traffic. `sections` overrides any setting."""
        given: dict[str, dict[str, Any]] = {
            "server": {"port": 0},
            "admin": {"port": 0},
            "pod": {"name": name, "lease_ms": LEASE_MS},
            "redis": {"url": redis_url or self._redis_url, "timeout_ms": TIMEOUT_MS},
            "auth": {"secret": SECRET},
            "inbox": {"rescan_s": 0.2},
            "drain": {"spread_s": 0.1, "timeout_s": 5},
            "logging": {"format": "json"},
        }
        for overriding in (self._sections, sections):
            for section, values in overriding.items():
                given.setdefault(section, {}).update(values)
        pod = PodProcess(flags(given), environ=environ)
        self.all.append(pod)
        await pod.started()
        return pod


@asynccontextmanager
async def pod_processes(redis_url: str, **sections: Mapping[str, Any]) -> AsyncIterator[PodProcesses]:
    """Pods on `redis_url`, all with `sections`; at the end each one is stopped and judged.

    When the test fails, nothing is judged, and what the pods wrote is shown.
    """
    pods = PodProcesses(redis_url, sections)
    try:
        yield pods
        async with asyncio.TaskGroup() as finishing:
            for pod in pods.all:
                finishing.create_task(pod.finish())
    except BaseException:
        for pod in pods.all:
            print(f"--- {pod.name or 'never started'}, process {pod.pid}\n{pod.stderr}{pod.stdout}")
        raise
    finally:
        for pod in pods.all:
            pod.put_away()

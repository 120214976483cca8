"""`pushserver consume` as users run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.pod import SECRET, eventually
from tests.pod_process import flags

__all__ = ["ConsumerProcess", "consumers"]

START_S = 30.0
STOP_S = 20.0


class ConsumerProcess:
    """One consumer; `expected_errors` are the events of level error that the test takes for right."""

    def __init__(
        self, sections: Mapping[str, Mapping[str, Any]], *, environ: Mapping[str, str], folder: Path | None
    ) -> None:
        given: dict[str, dict[str, Any]] = {
            "consume": {"port": 0},
            "auth": {"secret": SECRET},
            "logging": {"format": "json"},
        }
        for section, values in sections.items():
            given.setdefault(section, {}).update(values)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PUSHSERVER_")}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `put_away`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pushserver", "consume", *flags(given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
            cwd=folder,
            env={**kept, **environ},
        )
        self.expected_errors: set[str] = set()
        self.port = 0
        self.killed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return os.pread(self._stderr.fileno(), 1 << 26, 0).decode(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """Every finished line. Fails on one that is not JSON."""
        text = self.stderr
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    async def started(self) -> None:
        """Return when its listener answers."""
        line = await eventually(lambda: self.events("consume.started") or self._ended(), START_S)
        assert line is not True, f"it ended with {self._process.returncode}\n{self.stderr}"
        self.port = line[0]["port"]

    def _ended(self) -> bool:
        return self._process.poll() is not None

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of its listener's answer."""

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(ask)

    async def metric(self, series: str) -> float:
        """One number of `/metrics`; 0 if it is not there."""
        _, text = await self.get("/metrics")
        values = (line.rpartition(" ") for line in text.splitlines())
        return next((float(value) for name, _, value in values if name == series), 0.0)

    def figure(self, name: str) -> int:
        """A number of /proc/PID/status in KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    def kill(self) -> None:
        """End it at once (kill -9)."""
        self.killed = True
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def exit_code(self, within_s: float = STOP_S) -> int:
        await eventually(self._ended, within_s)
        code: int = self._process.returncode
        return code

    async def stop(self) -> None:
        """SIGTERM: it leaves with 0, and nothing stands in its log that should not."""
        self.signal(signal.SIGTERM)
        code = await self.exit_code()
        assert code == 0, self.stderr
        errors = {line["event"] for line in self.log() if line["level"] in {"error", "critical"}}
        assert errors <= self.expected_errors, self.stderr
        assert "Traceback" not in self.stderr, self.stderr

    def put_away(self) -> None:
        """Kill it if it lives. Twice is once."""
        if not self._ended():
            self.kill()
        self._stderr.close()


class Consumers:
    """Starts consumers that share their settings."""

    def __init__(
        self, sections: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str], folder: Path | None
    ) -> None:
        self._sections = sections
        self._environ = environ
        self._folder = folder
        self.all: list[ConsumerProcess] = []

    async def start(self) -> ConsumerProcess:
        consumer = ConsumerProcess(self._sections, environ=self._environ, folder=self._folder)
        self.all.append(consumer)
        await consumer.started()
        return consumer


@contextmanager
def consumers(
    sections: Mapping[str, Mapping[str, Any]],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Consumers]:
    """Consumers that are put away in the end; when the test fails, what they wrote is shown."""
    made = Consumers(sections, environ or {}, folder)
    try:
        yield made
    except BaseException:
        for consumer in made.all:
            print(f"--- consumer {consumer.pid}\n{consumer.stderr}")
        raise
    finally:
        for consumer in made.all:
            consumer.put_away()

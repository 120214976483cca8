"""A folder as a fresh clone with its environment made, and a pod that `scripts/run` serves there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from tests.docs.blocks import ROOT
from tests.engines.ports import free_port

__all__ = ["Folder", "Running", "until"]

WITHIN_S = 120.0
# What `scripts/run` and `scripts/venv` look at.
CLONED = ("scripts", "setup.cfg", "setup.py", "pushserver/__init__.py")


def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Wait until `condition` is true; its value. Fails the test after `within_s`."""
    give_up = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < give_up, f"not true within {within_s} s: {condition}"
        time.sleep(0.02)
    return value


class Running:
    """A command that runs until Ctrl-C."""

    def __init__(self, line: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.line = line
        self._process = process
        self._output = output

    @property
    def text(self) -> str:
        """All that it printed so far."""
        return self._output.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed what matches. Fails if it ends before."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.text, re.MULTILINE)
            assert match or self._process.poll() is None, f"{self.line} ended:\n{self.text}"
            return match

        match: re.Match[str] = until(found)
        return match

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(WITHIN_S)

    def put_away(self) -> None:
        """Kill what is left of it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Folder:
    """Runs the lines of the pages with bash, with free ports in place of theirs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port, self.admin_port = free_port(), free_port()
        for name in CLONED:
            target = path / name
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
        self._make_environment(path / ".venv")

    def _make_environment(self, venv: Path) -> None:
        """What `scripts/venv` would make: the programs of the environment that tests, and its stamp."""
        (venv / "bin").mkdir(parents=True)
        for name in ("python", "pushserver"):
            (venv / "bin" / name).symlink_to(Path(sys.executable).with_name(name))
        made_of = "cat setup.cfg setup.py pushserver/__init__.py | cksum > .venv/.installed-run"
        subprocess.run(["bash", "-c", made_of], cwd=self.path, check=True)

    @property
    def _environ(self) -> Mapping[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PUSHSERVER_")}
        return others | {
            "PATH": f"{self.path / '.venv/bin'}:{os.environ['PATH']}",
            "PUSHSERVER_SERVER__PORT": str(self.port),
            "PUSHSERVER_ADMIN__PORT": str(self.admin_port),
            "PUSHSERVER_CONSUME__PORT": "0",
            "PUSHSERVER_DRAIN__SPREAD_S": "0",
        }

    def _here(self, line: str) -> list[str]:
        line = line.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        line = line.replace("127.0.0.1:8001", f"127.0.0.1:{self.admin_port}")
        # The one thing that knows its port by default and takes it from no setting.
        line = re.sub(r"\bpushserver connect \w+", rf"\g<0> --url ws://127.0.0.1:{self.port}/ws", line)
        return ["bash", "-c", line]

    def run(self, line: str) -> str:
        """Run a command to its end; what it prints. Fails unless it exits 0."""
        done = subprocess.run(
            self._here(line),
            check=False,
            cwd=self.path,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
        assert done.returncode == 0, f"{line}\nexited with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run_all(self, *lines: str) -> list[str]:
        """Run commands at the same time; what each prints."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.run, lines))

    @contextmanager
    def running(self, line: str) -> Iterator[Running]:
        """Start a command that runs until Ctrl-C."""
        output = self.path / f"output-{time.monotonic_ns()}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self._here(line),
                cwd=self.path,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(line, process, output)
        try:
            yield running
        finally:
            running.put_away()

    def ask(self, path: str) -> Any:
        """`GET path` on the admin listener."""
        return json.loads(self.run(f"curl -s http://127.0.0.1:8001{path}"))

    def put(self, path: str, body: Any) -> None:
        """`PUT path` on the admin listener."""
        self.run(
            f"curl -sf -X PUT http://127.0.0.1:8001{path}"
            f" -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
        )

    def redis(self) -> Redis:
        """The embedded Valkey."""
        sockets = [path for path in (self.path / ".pushserver").rglob("*") if path.is_socket()]
        return Redis(unix_socket_path=str(sockets[0]), decode_responses=True)

    def forget(self) -> None:
        """Remove what messages have left, and the database of exposures: as if none had been published."""
        with self.redis() as redis:
            for kind in ("msg", "publish", "inbox", "seen", "seq"):
                for key in redis.scan_iter(f"ps:{kind}:*"):
                    redis.delete(key)
            redis.delete("ps:exposures")
        for file in (self.path / ".pushserver").glob("exposures.db*"):
            file.unlink()

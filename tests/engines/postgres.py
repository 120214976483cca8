"""PostgreSQL as a process of the test run, on a port and a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.engines.ports import free_port

__all__ = ["Postgres", "postgres_programs"]

START_WITHIN_S = 30
_STOP_WITHIN_S = 10
_UNPRIVILEGED = "nobody"


def postgres_programs() -> Path:
    """The folder of `initdb` and `postgres`; without them the test is skipped, or fails where CI=true."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path and shutil.which("postgres"):
        return Path(on_path).parent
    reason = "needs PostgreSQL (apt install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Postgres:
    """A PostgreSQL on 127.0.0.1; port and data outlive a restart. Run as root, it runs as `nobody`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `remove`
        self.port = free_port()
        self._user = _UNPRIVILEGED if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._make_cluster()

    def _make_cluster(self) -> None:
        subprocess.run(
            [self._programs / "initdb", "-D", self._data, "-U", "tests", "-A", "trust", "-E", "UTF8", "-N"],
            check=True,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=self._user,
        )

    def url(self, database: str = "postgres") -> str:
        """Where clients connect to."""
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a database that is empty and nobody else's."""
        name = f"exposures_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start it and wait until it answers. Twice is once."""
        if self._process is not None:
            return
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data]
        command += ["-p", str(self.port), "-k", self._folder]
        # Nothing here outlives a power cut; killed, it loses nothing all the same.
        options = ["listen_addresses=127.0.0.1", "shared_buffers=64MB", "max_connections=30", "fsync=off"]
        self._process = subprocess.Popen(
            [*command, *(part for option in options for part in ("-c", option))],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            user=self._user,
        )
        give_up = time.monotonic() + START_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, f"postgres ended\n{self._said()}"
            assert time.monotonic() < give_up, f"postgres does not answer\n{self._said()}"
            time.sleep(0.02)

    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.url().replace("://", "+psycopg://", 1), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def stop(self) -> None:
        """End it at once; what was committed stays. Twice is once."""
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, signal.SIGCONT)
        # Its own word for "disconnect everybody"; its children go with it.
        process.send_signal(signal.SIGQUIT)
        process.wait(_STOP_WITHIN_S)

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered, nobody new is."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on with whatever it was sent meanwhile."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        # Each of its children has a process group of its own.
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                # One that serves a connection may just have ended.
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        self._output.close()
        shutil.rmtree(self._folder)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

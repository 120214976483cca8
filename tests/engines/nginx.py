"""The real nginx with the shipped conf/nginx.conf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.engines.web_proxy import CONF, WebProxy, proxy_program

__all__ = ["Nginx"]

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""What it keeps in folders of its own, for which the package has places that only root may use."""


class Nginx(WebProxy):
    """nginx in the foreground, never the system's service."""

    def configuration(self, pods: Sequence[tuple[int, int]]) -> str:
        """The shipped file with other addresses, and everything it writes in the test's folder."""
        paths = "".join(f"    {one}_temp_path {self.folder}/{one};\n" for one in TEMPORARY)
        return self.swapped(
            (CONF / "nginx.conf").read_text(),
            [
                ("/run/nginx.pid", f"{self.folder}/nginx.pid"),
                ("/var/log/nginx", str(self.folder)),
                ("/etc/nginx/tls/fullchain.pem", str(self.certificate)),
                ("/etc/nginx/tls/privkey.pem", str(self.key)),
                ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
                # Where there is no IPv6 it is another address of IPv4.
                ("listen [::]:443 ssl", f"listen 127.0.0.2:{self.port} ssl"),
                ("10.0.0.11:8000", f"127.0.0.1:{pods[0][0]}"),
                ("10.0.0.12:8000", f"127.0.0.1:{pods[1][0]}"),
                ("http {\n", f"http {{\n{paths}"),
            ],
        )

    def leaving(self) -> set[int]:
        """The workers that a reload has replaced: they accept no more and keep what they have."""
        return {one for one in self.workers() if "shutting down" in _title(one)}

    def command(self) -> list[str]:
        """nginx, not as a daemon."""
        program, error_log = proxy_program("nginx"), f"{self.folder}/error.log"
        folder, config = str(self.folder), str(self.config)
        return [str(program), "-p", folder, "-e", error_log, "-c", config, "-g", "daemon off;"]


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""

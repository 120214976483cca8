"""A redis-server that speaks TLS only, with a certificate for `localhost`, and wants a password."""

from __future__ import annotations

import tempfile
from pathlib import Path

from redis import Redis

from tests.engines.certificates import Authority
from tests.engines.redis_server import RedisServer

__all__ = ["PASSWORD", "RedisTls"]

PASSWORD = "hunter2-of-tls"


class RedisTls(RedisServer):
    """Its authority's certificate is the file `authority`; the file `stranger` is one that signed nothing."""

    def __init__(self, program: Path) -> None:
        super().__init__(program, "--requirepass", PASSWORD)
        self._certificates = tempfile.TemporaryDirectory(prefix="tls-")
        folder = Path(self._certificates.name)
        authority = Authority(folder, "authority")
        self._certificate, self._key = authority.sign("localhost")
        self.authority = authority.certificate
        self.stranger = Authority(folder, "stranger").certificate

    @property
    def url(self) -> str:
        """Where clients connect to, who have to be told whom to trust (`ssl_ca_certs`)."""
        return f"rediss://:{PASSWORD}@localhost:{self.port}"

    def client(self) -> Redis:
        """A plain synchronous client."""
        return Redis(
            "localhost",
            self.port,
            password=PASSWORD,
            ssl=True,
            ssl_ca_certs=str(self.authority),
            decode_responses=True,
            socket_timeout=5,
        )

    def _listen(self) -> tuple[str, ...]:
        return (
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self._certificate), "--tls-key-file", str(self._key)),
            *("--tls-ca-cert-file", str(self.authority)),
        )

    def remove(self) -> None:
        """Stop it and delete its data and certificates."""
        super().remove()
        self._certificates.cleanup()

"""Asking other servers by HTTP: bounded in time, in size and in number, and never elsewhere than told."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from pushserver.core.errors import ConfigError, FetchError

__all__ = ["Fetched", "Fetcher", "tls_context"]

MAX_WAITING = 1000
"""Callers that wait for a connection to be free; further ones are refused at once."""
KEEP_S = 15
"""How long a connection is kept without use; less than most servers do."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whatever its status; a redirect is one, and not followed."""

    status: int
    body: bytes


class Fetcher:
    """GETs on at most `max_connections` connections, which are kept; the others wait their turn.

    Each takes `timeout_s` at most, its wait included, and brings at most `max_bytes`. No cookie is kept, no
    proxy of the environment used, and nothing decompressed. `headers` go with each; they may hold a secret.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        timeout_s: float,
        max_bytes: int,
        max_connections: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._tls = tls
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_connections = max_connections
        self._headers = headers or {}
        self._session: aiohttp.ClientSession | None = None
        self.in_hand = 0
        """Callers that wait, for their turn or for an answer."""

    async def get(self, url: str) -> Fetched:
        """The answer of `url`, which is taken as it is encoded.

        Raises `FetchError`, whose text tells nothing of the URL's path and query, of the headers, and of the
        answer.
        """
        if self.in_hand >= self._max_connections + MAX_WAITING:
            raise FetchError("busy", "too many wait already")
        self.in_hand += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(url)
        except TimeoutError:
            raise FetchError("timeout", f"no answer within {self._timeout_s:g} s") from None
        finally:
            self.in_hand -= 1

    async def _ask(self, url: str) -> Fetched:
        try:
            async with self._opened().get(URL(url, encoded=True), allow_redirects=False) as response:
                return Fetched(response.status, await self._read(response))
        except aiohttp.ClientSSLError as error:
            raise FetchError("tls", _why(error)) from None
        except aiohttp.ClientConnectorError as error:
            raise FetchError("connect", _why(error)) from None
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.InvalidURL) as error:
            raise FetchError("garbage", _why(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError("lost", _why(error)) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError("encoding", "the answer is compressed")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._max_bytes:
                # Not kept: the rest of it is still on its way.
                response.close()
                raise FetchError("too_large", f"more than {self._max_bytes} bytes")
        return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        # Not before there is a loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Who finds no free connection waits for one in the connector.
                connector=aiohttp.TCPConnector(
                    limit=self._max_connections, ssl=self._tls, keepalive_timeout=KEEP_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # The time-out is ours; this one would count anew for each.
                timeout=aiohttp.ClientTimeout(),
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "pushserver",
                    **self._headers,
                },
            )
        return self._session

    async def close(self) -> None:
        """Let go of the connections. Twice is once."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _why(error: Exception) -> str:
    """What kind of error it was, without what aiohttp quotes of addresses and answers."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        told = getattr(error.certificate_error, "verify_message", "")
    elif isinstance(error, aiohttp.ClientConnectorError):
        told = _system_text(error.os_error)
    else:
        told = _system_text(error) if isinstance(error, OSError) else ""
    return told or type(error).__name__


def _system_text(error: OSError) -> str:
    # Asyncio puts the address into `strerror`; the numbers of the resolver are no `errno`.
    if isinstance(error, socket.gaierror | ssl.SSLError) or not error.errno:
        return error.strerror or ""
    return os.strerror(error.errno)


def tls_context(setting: str, ca_file: str) -> ssl.SSLContext:
    """Whom to believe about servers: the authorities in `ca_file` (PEM), or those of the system if empty.

    Raises `ConfigError`, which names the `setting` of the file.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigError(setting, f"cannot be read as PEM ({error.strerror or error})") from None

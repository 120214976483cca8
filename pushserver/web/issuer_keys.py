"""The issuer's keys: fetched from `auth.jwks_url`, kept, and fetched again.

    run     -> fetch every `auth.jwks_refresh_s`; after a failure sooner, with a back-off
    find    -> the key that a token names; nobody waits
    unknown -> look_again: one fetch for all who wait, at most one in 30 s

The URL comes from the settings alone. While fetching fails, the keys of the last success go on for
`auth.jwks_max_stale_s`; but then a key that is not among them may be a newer one, and nobody is told that the
token is wrong.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.counting import some_of
from pushserver.core.errors import FetchError, NotAuthenticatedError, UnknownKeyError
from pushserver.core.metrics import Metrics
from pushserver.web.key_set import KeySet, parse_key_set
from pushserver.web.token_keys import TokenKey

if TYPE_CHECKING:
    from pushserver.web.fetch import Fetcher

__all__ = ["MAX_BYTES", "TIMEOUT_S", "IssuerKeys"]

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0
"""What a fetch may take."""
MAX_BYTES = 256 * 1024
"""What a key set may have."""
ASKED_EVERY_S = 30.0
"""Between the last fetch and one for a token whose key is not known."""
MAX_WAITING = 1000
"""Handshakes that wait for such a fetch at a time."""
MAX_RETRY_S = 30.0


class IssuerKeys:
    """A `tokens.KeySource`. `run` keeps it up to date, and is the only one to fetch but for the first time.

    `clock` tells monotonic seconds.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        algorithms: Sequence[str],
        metrics: Metrics,
        *,
        refresh_s: float,
        max_stale_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._url = url
        self.algorithms = tuple(algorithms)
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._max_stale_s = max_stale_s
        self._clock = clock
        self._alarm = Alarm(clock=clock)
        self._keys = KeySet({}, ())
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failures = 0
        """Fetches that failed since the last one that did not."""
        self._asked = asyncio.Event()
        self._fetch_over = asyncio.Event()
        """Of the fetch under way, or the next one."""
        self._waiting = 0

    # -- what tokens ask

    def find(self, key_id: str | None, algorithm: str) -> TokenKey:
        """The one key that a token means, see `tokens.KeySource`."""
        if trouble := self.trouble:
            raise FetchError("keys", trouble)
        key = self._keys.find(key_id, algorithm)
        if key is not None:
            return key
        if key_id is None:
            raise NotAuthenticatedError("token does not say which key it is signed with")
        self._metrics.jwks_unknown_keys.inc()
        if self._failures:
            raise FetchError("keys", "the key may be newer than those that could be fetched")
        raise UnknownKeyError("token key is not known")

    async def look_again(self) -> bool:
        """Wait for one fetch, for all who ask; False if the last one was less than 30 s ago."""
        if not self._asked.is_set():
            if self._clock() - self._tried_at < ASKED_EVERY_S:
                return False
            self._asked.set()
        if self._waiting >= MAX_WAITING:
            raise FetchError("busy", "too many wait for the keys of tokens")
        self._waiting += 1
        try:
            await self._fetch_over.wait()
        finally:
            self._waiting -= 1
        return True

    @property
    def trouble(self) -> str:
        """Why no token can be judged; empty if they can."""
        if self._fetched_at == float("-inf"):
            return "the keys of tokens were not fetched yet (auth.jwks_url)"
        return "the keys of tokens are too old (auth.jwks_url)" if self.age_s > self._max_stale_s else ""

    @property
    def age_s(self) -> float:
        """Seconds since the keys were fetched; infinite if they never were."""
        return self._clock() - self._fetched_at

    # -- fetching

    async def run(self) -> None:
        """Keep the keys up to date until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._asked.wait()
            await self.fetch()

    def _pause_s(self) -> float:
        # Spread, for the pods of a cluster started together.
        spread = random.uniform(0.8, 1.0)  # noqa: S311 - no secret hangs on it
        if not self._failures:
            return self._refresh_s * spread
        return min(self._refresh_s, MAX_RETRY_S, 2.0 ** min(self._failures - 1, 10)) * spread

    async def fetch(self) -> None:
        """Fetch once, within the fetcher's time-out. A failure is counted and logged, and raises nothing."""
        self._tried_at = self._clock()
        # Who asks from now on waits for this fetch.
        self._asked.set()
        try:
            keys = await self._fetch()
        except FetchError as error:
            self._fail(error)
        else:
            self._take(keys)
        finally:
            self._asked.clear()
            self._fetch_over.set()
            self._fetch_over = asyncio.Event()

    async def _fetch(self) -> KeySet:
        answer = await self._fetcher.get(self._url)
        if answer.status != 200:
            raise FetchError("status", f"answered {answer.status}")
        try:
            return parse_key_set(answer.body, self.algorithms)
        except ValueError as error:
            raise FetchError("invalid", f"the answer {error}") from None

    def _take(self, keys: KeySet) -> None:
        self._metrics.jwks_fetches.labels("ok").inc()
        if self._failures:
            log.info("jwks.back", failures=self._failures)
        if (keys.keys, keys.left_out) != (self._keys.keys, self._keys.left_out):
            told = some_of(keys.left_out, len(keys.left_out))
            log.info("jwks.changed", keys=len(keys.keys), left_out=told)
        self._keys, self._fetched_at, self._failures = keys, self._clock(), 0

    def _fail(self, error: FetchError) -> None:
        self._metrics.jwks_fetches.labels(error.kind).inc()
        self._failures += 1
        if self._alarm.due():
            log.error("jwks.fetch_failed", kind=error.kind, reason=error.reason, age_s=self.age_s)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._fetcher.close()

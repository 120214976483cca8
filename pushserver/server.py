"""A process's life: start, serve, drain, exit.

engine -> lease -> sink -> keys of tokens -> listeners -> (signal, or the name was taken over) -> drain
       -> exit

SIGTERM and SIGINT end it, SIGHUP has it read its settings again (`reload`).
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from pushserver import __version__
from pushserver.api_parts import build_admin, build_demo
from pushserver.app import App, build
from pushserver.banner import development_banner
from pushserver.config import Settings
from pushserver.core.context import Handler
from pushserver.core.errors import SinkError, StoreError, TakenOverError
from pushserver.delivery.retry import when_redis_answers
from pushserver.development import DATA_DIRECTORY
from pushserver.loop_watch import WatchedSelector, watch_loop
from pushserver.reload import Reload
from pushserver.stores.checks import check_engine
from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from pushserver.threads import DaemonThreads
from pushserver.web.admin import admin_server
from pushserver.web.listener import bind
from pushserver.web.server import public_server
from pushserver.web.tls import load_certificate

__all__ = ["Server", "run", "tell_stray"]

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_TAKEN_OVER = 3
COLLECT_AFTER = (10_000, 5, 5)
"""When the collector looks for circles (`gc.set_threshold`). Nothing here leaves any, so it looks seldom: by
default it walks what a few connections or messages hold, over and over."""
START_S = 30.0
"""How long a start waits for Redis before it gives up."""
RELEASE_S = 2.0
"""What is kept of the drain's time for presence, lease, sink and disconnecting; half of it if it is short."""


def run(
    settings: Settings, links: Sequence[Handler] = (), *, read_again: Callable[[], Settings] | None = None
) -> int:
    """Serve until a signal; the exit code. `links` are handlers of your own for the chain.

    On SIGHUP `read_again` is asked for the settings, in a thread; without it only the files that they name
    are read again. Raises `ConfigError` or `StoreError` when the start fails.
    """
    _ignore_hangups()

    selector = WatchedSelector()

    async def serve(redis_url: str) -> int:
        app = build(settings, redis_url=redis_url, links=links)
        selector.show(app.metrics)
        return await Server(app, read_again).serve()

    if not settings.development:
        return _run(serve(settings.redis.url.get_secret_value()), selector)
    folder = DATA_DIRECTORY / "valkey"
    engine = EmbeddedValkey(folder)
    engine.start()
    try:
        return _run(serve(embedded_url(folder)), selector)
    finally:
        engine.stop()


def _run(serve: Coroutine[Any, Any, int], selector: WatchedSelector) -> int:
    try:
        with asyncio.Runner(loop_factory=lambda: _loop(selector)) as runner:
            try:
                return runner.run(serve)
            finally:
                # The loop, while it closes, would be told of one by a pipe that is closed, and complain;
                # then it gives its signals back to the system, which would kill.
                _ignore_hangups()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    finally:
        _ignore_hangups()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _loop(selector: WatchedSelector) -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop(selector)
    loop.set_default_executor(DaemonThreads())
    return loop


def _ignore_hangups() -> None:
    """Before the loop takes SIGHUP, and when it has ended: it must not end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Server:
    """Runs one `App` on the running loop. `read_again` is as of `run`."""

    def __init__(self, app: App, read_again: Callable[[], Settings] | None = None) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._exit_code = EXIT_OK
        self._admin_sockets: list[socket.socket] = []
        self._public_sockets: list[socket.socket] = []
        self._heartbeat: asyncio.Task[None] | None = None
        server = app.settings.server
        admin = build_admin(app)
        tls = load_certificate(server.certfile, server.keyfile)
        self._public = public_server(app.door, tls, build_demo(app, admin))
        self._admin = admin_server(admin)
        self._reload = Reload(app, self._public, admin, read_again or (lambda: app.settings))
        self.port = 0
        """The port of the listener for clients, once started."""
        self.admin_port = 0

    async def serve(self) -> int:
        """From start to exit; the exit code."""
        asyncio.get_running_loop().set_exception_handler(tell_stray)
        try:
            await self._prepare()
            # What was built lives as long as the process: the collector need not walk it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECT_AFTER)
            # Before anybody can come in: whoever did is drained.
            self._handle_signals()
            self._open()
            await self._stop.wait()
            await self.drain()
        finally:
            await self.close()
        return self._exit_code

    # -- start

    async def start(self) -> None:
        """Return when the pod takes traffic. Raises `PushServerError`. Signals are the caller's."""
        await self._prepare()
        self._open()

    async def _prepare(self) -> None:
        app = self._app
        # Bound first: a port that is taken is told before anything is registered.
        self._bind_all()
        give_up = time.monotonic() + START_S
        # Each waits: in a cluster the one may be away that holds the lease, or the log, and not the others.
        for step in (self._check_engine, app.lease.start, app.log_follower.load):
            await when_redis_answers(step, give_up)
        try:
            await app.outlet.start()
        except SinkError as error:
            log.error("exposure.sink_away", kind=error.kind, reason=error.reason)
        app.sessions.wheel.start()
        app.sessions.reminders.start()
        self._heartbeat = app.tasks.spawn(self._keep_lease(), "lease")
        for work, name in (
            (app.reaper.run(), "reaper"),
            (app.rescan.run(), "rescan"),
            (app.feed.run(), "feed"),
            (app.log_follower.run(), "log"),
            (app.cursors.run(), "cursors"),
            (watch_loop(app.metrics, lambda: len(app.manager)), "lag"),
        ):
            app.tasks.spawn(self._vital(work, name), name)
        if (keys := app.issuer_keys) is not None:
            # Without them the pod is up and not ready: it gets them as soon as they are to be had.
            await keys.fetch()
            app.tasks.spawn(self._vital(keys.run(), "jwks"), "jwks")

    def _bind_all(self) -> None:
        server, admin = self._app.settings.server, self._app.settings.admin
        self._admin_sockets = bind("admin", admin.host, admin.port, reuse_port=False)
        self._public_sockets = bind("server", server.host, server.port, reuse_port=server.reuse_port)

    def _open(self) -> None:
        """Take traffic."""
        app, settings = self._app, self._app.settings
        self._admin.add_sockets(self._admin_sockets)
        self._public.add_sockets(self._public_sockets)
        # A port of 0 is the kernel's choice.
        self.admin_port = self._admin_sockets[0].getsockname()[1]
        self.port = self._public_sockets[0].getsockname()[1]
        app.started = True
        log.info(
            "pod.started",
            pod=app.pod,
            boot=app.lease.boot,
            port=self.port,
            admin_port=self.admin_port,
            version=__version__,
            development=settings.development,
        )
        if settings.development:
            print(development_banner(settings, self.port, self.admin_port), flush=True)

    async def _check_engine(self) -> None:
        app = self._app
        await check_engine(app.stores.commands, app.metrics, app.settings.redis.durability)

    async def _keep_lease(self) -> None:
        try:
            await self._vital(self._app.lease.run(), "lease")
        except TakenOverError as error:
            log.error("pod.taken_over", pod=error.pod, by_host=error.host)
            self.stop(EXIT_TAKEN_OVER)

    async def _vital(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run what the pod cannot be without: when it breaks, the pod leaves in order and is restarted."""
        try:
            await work
        except TakenOverError:
            raise
        except Exception:
            log.error("pod.broken", task=name)
            self.stop(EXIT_FAILED)
            raise

    # -- stop

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.ask)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log.info("pod.hurried", signal=number.name)
            self._app.drain.hurry()
        else:
            log.info("pod.stopping", signal=number.name)
            self.stop(EXIT_OK)

    def stop(self, exit_code: int) -> None:
        """Begin to leave. The first call's code counts."""
        if not self._stop.is_set():
            self._exit_code = exit_code
            self._stop.set()

    async def drain(self) -> None:
        """The orderly leaving, within `drain.timeout_s`: readiness first, the lease last."""
        app = self._app
        timeout_s = app.settings.drain.timeout_s
        deadline = asyncio.get_running_loop().time() + timeout_s
        kept_s = min(RELEASE_S, timeout_s / 2)
        app.door.admission.draining = True
        cut = await self._say_goodbye(deadline - kept_s)
        settled = await _within(deadline - kept_s, app.settler.drained())
        settled &= await _within(deadline - kept_s, app.cursors.drained())
        await app.outlet.drain(deadline - kept_s / 2)
        # The rest of the time is for `close`.
        released = await _within(deadline - kept_s / 4, self._release())
        log.info("pod.drained", cut=cut, settled=settled, released=released)

    async def _say_goodbye(self, deadline: float) -> int:
        if await _within(deadline, self._app.drain.run()):
            return 0
        return self._app.drain.cut()

    async def _release(self) -> None:
        """Presence and lease, after Redis has no more of ours; a Redis that is away lets them run out."""
        app = self._app
        app.presence.leaving = True
        while app.presence.unflushed:  # noqa: ASYNC110 - bounded by the caller's deadline
            await asyncio.sleep(0.01)
        if self._heartbeat is not None:
            # A heartbeat after the release would take the lease anew.
            self._heartbeat.cancel()
            await asyncio.wait([self._heartbeat])
        await app.lease.release()

    async def close(self) -> None:
        """Stop listening and let go of everything. Twice is once."""
        app = self._app
        self._public.stop()
        self._admin.stop()
        for sock in (*self._admin_sockets, *self._public_sockets):
            sock.close()
        app.drain.cut()
        app.sessions.wheel.stop()
        app.sessions.reminders.stop()
        await app.tasks.close()
        await app.contents.close()
        await app.outlet.drain(asyncio.get_running_loop().time())
        await self._public.close_all_connections()
        await self._admin.close_all_connections()
        await app.disconnect()


def tell_stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited failed: one line if it is a connection's end, else asyncio's own report.

    redis-py does not wait for the close of a connection that broke while it wrote, so asyncio finds the
    error unseen when it collects the stream: an outage of Redis, told already, is no fault of the program.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and "future" in context and not isinstance(context["future"], asyncio.Task):
        log.info("connection.stray_error", reason=type(error).__name__)
    else:
        loop.default_exception_handler(context)


async def _within(deadline: float, work: Awaitable[object]) -> bool:
    """Await `work` until `deadline` (loop time); False if it was not done by then, or Redis refused."""
    try:
        async with asyncio.timeout_at(deadline):
            await work
    except (TimeoutError, StoreError):
        return False
    return True

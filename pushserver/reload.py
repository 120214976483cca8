"""A reload: what SIGHUP applies while the pod runs, without a client noticing.

settings read again -> what may change is taken, what may not is named -> checked together
-> keys, certificate -> all of it applied in one turn of the loop; or nothing, if anything is wrong
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from pushserver import logs
from pushserver.app import App
from pushserver.config import Settings
from pushserver.config_checks import contradictions
from pushserver.core.errors import ConfigError
from pushserver.door_parts import load_token_keys
from pushserver.threads import DaemonThreads
from pushserver.web.admin import Admin
from pushserver.web.front import Front
from pushserver.web.tls import load_certificate
from pushserver.web.token_keys import TokenKey

__all__ = ["Reload"]

log = structlog.get_logger(__name__)

READ_S = 10.0
"""What reading the files may take; beyond it the reload is refused."""

RELOADABLE = frozenset(
    {
        ("server", "certfile"),
        ("server", "keyfile"),
        ("admin", "api_keys"),
        ("auth", "secret"),
        ("auth", "previous_secret"),
        ("auth", "public_key_file"),
        ("logging", "level"),
    }
)
"""What a reload applies. Everything else needs a restart."""
_TLS = frozenset({("server", "certfile"), ("server", "keyfile")})
_KEYS = frozenset({("auth", "secret"), ("auth", "previous_secret"), ("auth", "public_key_file")})

Name = tuple[str, str]
"""(section, name) of a setting."""


@dataclass(frozen=True, slots=True)
class _Renewed:
    """What was read and found right."""

    settings: Settings
    """What is in force from now on: as it was, but for what is `applied`."""
    applied: Sequence[Name]
    needs_restart: Sequence[Name]
    """What was changed and is not applied."""
    keys: Sequence[TokenKey]
    tls: ssl.SSLContext | None


class Reload:
    """Reads the settings again and applies them to a running pod. `read` may block, and raises as `load`.

    One reload at a time; asked for meanwhile, however often, one more follows.
    """

    def __init__(self, app: App, front: Front, admin: Admin, read: Callable[[], Settings]) -> None:
        self._app = app
        self._front = front
        self._admin = admin
        self._read = read
        self._running = False
        self._again = False

    def ask(self) -> None:
        """Begin one, or have one follow the one that runs."""
        if self._running:
            self._again = True
            return
        self._running = True
        self._app.tasks.spawn(self._run(), "reload")

    async def _run(self) -> None:
        self._again = False
        try:
            await self._reload()
        finally:
            self._running = False
            if self._again:
                # Also behind a fault: what it was asked for by then is not forgotten.
                self.ask()

    async def _reload(self) -> None:
        running = self._app.settings
        try:
            async with asyncio.timeout(READ_S):
                renewed = await asyncio.get_running_loop().run_in_executor(
                    DaemonThreads(), lambda: _renew(running, self._read())
                )
        except TimeoutError:
            self._refused([f"the files could not be read within {READ_S:g} s"])
        except ConfigError as error:
            self._refused([str(error)])
        except ExceptionGroup as problems:
            self._refused([str(error) for error in problems.exceptions])
        else:
            self._apply(renewed)

    def _refused(self, problems: Sequence[str]) -> None:
        self._app.metrics.reloads.labels("refused").inc()
        log.error("reload.refused", problems=problems)

    def _apply(self, renewed: _Renewed) -> None:
        """All at once: nothing here waits, so no request meets half of it."""
        app, settings = self._app, renewed.settings
        app.settings = settings
        app.verifier.use_keys(renewed.keys)
        self._admin.use_keys([key.get_secret_value() for key in settings.admin.api_keys])
        self._front.tls = renewed.tls
        if ("logging", "level") in renewed.applied:
            logs.configure(settings.logging.level, settings.logging.format)
        app.metrics.reloads.labels("applied").inc()
        # Files that settings name are read again in any case.
        log.info("reload.applied", settings=_named(renewed.applied), files="read again")
        if renewed.needs_restart:
            log.warning("reload.needs_restart", settings=_named(renewed.needs_restart))


def _renew(running: Settings, read: Settings) -> _Renewed:
    """Sort what was read, and load what it names. Raises `ConfigError`, or a group of them."""
    changed = [name for name in _names(running) if _value(running, name) != _value(read, name)]
    applied = [name for name in changed if name in RELOADABLE - _held(running, read)]
    settings = _with(running, read, applied)
    # What was read is right by itself; with what stays as it was it may not be.
    problems = list(contradictions(settings))
    if problems:
        raise ExceptionGroup("wrong settings", problems)
    return _Renewed(
        settings=settings,
        applied=applied,
        needs_restart=[name for name in changed if name not in applied],
        keys=load_token_keys(settings),
        # Also where no name has changed: what is in the files has.
        tls=load_certificate(settings.server.certfile, settings.server.keyfile),
    )


def _held(running: Settings, read: Settings) -> frozenset[Name]:
    """What goes together with something that needs a restart, and so waits for it."""
    held: frozenset[Name] = frozenset()
    if bool(running.server.certfile) != bool(read.server.certfile):
        # A port speaks TLS or not: clients could not know of a change.
        held |= _TLS
    was, now = running.auth, read.auth
    if (was.algorithms, bool(was.jwks_url)) != (now.algorithms, bool(now.jwks_url)):
        # Keys of another kind.
        held |= _KEYS
    return held


def _names(settings: Settings) -> list[Name]:
    return [(section, name) for section, values in settings for name in type(values).model_fields]


def _value(settings: Settings, name: Name) -> object:
    return getattr(getattr(settings, name[0]), name[1])


def _with(running: Settings, read: Settings, applied: Sequence[Name]) -> Settings:
    """`running` with the `applied` of `read`."""
    sections = {
        section: values.model_copy(
            update={name: _value(read, (section, name)) for where, name in applied if where == section}
        )
        for section, values in running
    }
    return running.model_copy(update=sections)


def _named(names: Sequence[Name]) -> list[str]:
    return [".".join(name) for name in names]

"""Development mode: what `serve` and `token` share when no secret was set."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from pushserver.config import Settings
from pushserver.config_checks import MIN_SECRET_BYTES
from pushserver.core.errors import ConfigError

__all__ = ["DATA_DIRECTORY", "development_secret", "token_secret"]

DATA_DIRECTORY = Path(".pushserver")
"""Where development mode keeps its data, below the working directory."""

_NAME = "secret"


def token_secret(settings: Settings, directory: Path = DATA_DIRECTORY) -> str:
    """The HS256 secret that tokens are signed with: `auth.secret`, else development's own.

    Raises `ConfigError` if `auth.algorithms` has no HS256, and as `development_secret` does.
    """
    if "HS256" not in settings.auth.algorithms:
        named = ", ".join(settings.auth.algorithms)
        raise ConfigError("auth.algorithms", f"tokens of {named} are made by whoever holds the private key")
    return settings.auth.secret.get_secret_value() or development_secret(directory)


def development_secret(directory: Path) -> str:
    """The random secret kept in `directory`, made at the first call; every process gets the same.

    The file is readable by its owner only. Raises `ConfigError` if it cannot be kept, or holds less
    than an HS256 secret needs.
    """
    path = directory / _NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = _read_or_write(path)
    except (OSError, ValueError) as error:
        raise ConfigError("auth.secret", f"none is set, and {path} cannot be used: {error}") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError("auth.secret", f"none is set, and {path} is too short: remove it")
    return secret


def _read_or_write(path: Path) -> str:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        # Under a lock rather than by O_EXCL: who opens the file right after its maker waits until the
        # secret is in it, and a maker killed in between leaves an empty file that the next one fills.
        fcntl.flock(file, fcntl.LOCK_EX)
        secret = file.read()
        if not secret:
            secret = secrets.token_hex(MIN_SECRET_BYTES)
            file.write(secret)
            file.flush()
            os.fsync(descriptor)
    return secret

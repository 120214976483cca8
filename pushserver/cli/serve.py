"""`pushserver serve` and `pushserver check-config`."""

from __future__ import annotations

import argparse
import os

from pushserver.cli.command import Command, no_arguments
from pushserver.config import Settings
from pushserver.config_load import load
from pushserver.config_text import as_toml

__all__ = ["CHECK_CONFIG", "SERVE"]


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    # Commands that need the server and Redis bring them along themselves.
    from pushserver.server import run  # noqa: PLC0415

    return run(settings, read_again=lambda: load(arguments.config, arguments.set, os.environ))


def _check_config(arguments: argparse.Namespace, settings: Settings) -> int:
    _check_parts(settings)
    print(as_toml(settings))
    return 0


def _check_parts(settings: Settings) -> None:
    """Build what looks closer at its settings than their types do. Raises `ConfigError`."""
    # Only this command needs them before the server starts, and they bring cryptography along.
    from pushserver.web.fetch import tls_context  # noqa: PLC0415
    from pushserver.web.origins import OriginPolicy  # noqa: PLC0415
    from pushserver.web.tls import load_certificate  # noqa: PLC0415
    from pushserver.web.token_keys import load_keys  # noqa: PLC0415

    auth = settings.auth
    secret = auth.secret.get_secret_value().encode()
    if settings.development and "HS256" in auth.algorithms:
        # The server makes one; a check writes no file.
        secret = secret or bytes(32)
    load_keys(
        auth.algorithms,
        secret=secret,
        previous_secret=auth.previous_secret.get_secret_value().encode(),
        public_key_file=auth.public_key_file,
        jwks_url=auth.jwks_url,
    )
    tls_context("auth.jwks_ca_file", auth.jwks_ca_file)
    tls_context("categories.ca_file", settings.categories.ca_file)
    OriginPolicy(settings.origin.allow)
    load_certificate(settings.server.certfile, settings.server.keyfile)
    OriginPolicy(settings.admin.origins, setting="admin.origins")


SERVE = Command("run a pod", no_arguments, _serve)
CHECK_CONFIG = Command("check every setting and print what is in effect", no_arguments, _check_config)

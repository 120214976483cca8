"""Whether what a file puts into the environment of a container is a sound set of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pushserver.config import Settings
from pushserver.config_load import load
from tests.deploy.dockerfile import stages

__all__ = ["CONF", "EXAMPLES", "REPOSITORY", "image_environ", "loaded", "secret_settings"]

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
EXAMPLES = {
    "PUSHSERVER_REDIS__URL": "redis://redis.example.com",
    "PUSHSERVER_AUTH__SECRET": "a secret of the tests, long enough for HS256",
    "PUSHSERVER_ADMIN__API_KEYS": '["an-api-key-of-the-tests"]',
    "PUSHSERVER_CONSUME__DATABASE_URL": "postgresql://user:password@db.example.com/exposures",
}
"""What an operator has to bring along, in a form that is accepted."""


def image_environ() -> dict[str, str]:
    """What the image sets."""
    return stages((REPOSITORY / "Dockerfile").read_text())[-1].pairs("ENV")


def loaded(environ: Mapping[str, str]) -> Settings:
    """The settings of a container of the image with `environ`, checked as at a start."""
    return load("", (), {**image_environ(), **environ})


def secret_settings() -> set[str]:
    """The variables of settings that hold a secret."""
    return {
        f"PUSHSERVER_{section}__{name}".upper()
        for section, settings in Settings()
        for name, field in type(settings).model_fields.items()
        if "SecretStr" in str(field.annotation)
    }

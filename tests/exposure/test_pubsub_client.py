from __future__ import annotations

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials

from pushserver.exposure.pubsub_client import connect_publisher


@pytest.mark.gen_test
async def test_without_an_emulator_it_is_google_with_the_default_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent: only what the client is set up for is looked at."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    asked: list[tuple[str, ...]] = []

    def default(scopes: tuple[str, ...]) -> tuple[AnonymousCredentials, str]:
        asked.append(scopes)
        return AnonymousCredentials(), "project"

    monkeypatch.setattr(google.auth, "default", default)
    client = await connect_publisher("")
    assert client.transport.host == "pubsub.googleapis.com:443"
    assert "https://www.googleapis.com/auth/pubsub" in asked[0]
    await client.transport.close()


@pytest.mark.gen_test
async def test_an_emulator_needs_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    def default(scopes: object) -> None:
        pytest.fail("asked for credentials")

    monkeypatch.setattr(google.auth, "default", default)
    client = await connect_publisher("127.0.0.1:1")
    await client.transport.close()

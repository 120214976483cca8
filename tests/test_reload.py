"""A reload in the pod: nothing is waited for on the loop, and what stays as it was is looked at as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from pushserver import reload as module
from pushserver.api_parts import build_admin
from pushserver.config import Settings
from pushserver.core.errors import ConfigError
from pushserver.reload import Reload
from pushserver.web.admin import Admin
from tests.pod import SECRET, eventually, settings
from tests.web.doorway import NOWHERE, Doorway, doorway


def prepared(door: Doorway, read: Callable[[], Settings]) -> tuple[Reload, Admin]:
    """A reload of the pod behind the door, and its API."""
    admin = build_admin(door.app)
    return Reload(door.app, door.server, admin, read), admin


def counted(door: Doorway, result: str) -> float:
    registry = door.app.metrics.registry
    return registry.get_sample_value("pushserver_reloads_total", {"result": result}) or 0.0


def changed(**sections: Any) -> Settings:
    """As the settings of the door, but for `sections`."""
    defaults = {"categories": {"source": "claims"}, "exposure": {"sink": "none"}}
    return settings(NOWHERE, **{**defaults, **sections})


@pytest.mark.gen_test
async def test_files_that_hang_hold_up_nobody_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_S", 0.3)
    go_on = threading.Event()

    def hang() -> Settings:
        go_on.wait(20)
        return changed(admin={"api_keys": ["a-key-of-the-tests"]})

    async with doorway() as door:
        reload, admin = prepared(door, hang)
        with capture_logs() as lines:
            reload.ask()
            client = await door.connect()
            await client.send({"type": "ping"})
            assert await client.frame() == {"type": "pong"}
            await eventually(lambda: counted(door, "refused") == 1)
            go_on.set()
            await eventually(lambda: "reload" not in [thread.name for thread in threading.enumerate()])
        assert not admin.api_keys
        (line,) = [line for line in lines if line["event"] == "reload.refused"]
        assert line["problems"] == ["the files could not be read within 0.3 s"]


@pytest.mark.gen_test
async def test_asked_for_while_one_runs_one_more_follows() -> None:
    """However often: what was written before the last time is read."""
    go_on = threading.Event()
    read: list[float] = []

    def wait() -> Settings:
        read.append(time.monotonic())
        go_on.wait(20)
        return changed()

    async with doorway() as door:
        reload, _ = prepared(door, wait)
        for _ in range(5):
            reload.ask()
        await eventually(lambda: read)
        for _ in range(5):
            reload.ask()
        go_on.set()
        await eventually(lambda: counted(door, "applied") == 2)
        await eventually(lambda: len(door.app.tasks) == 0)
        assert len(read) == 2
        reload.ask()
        await eventually(lambda: counted(door, "applied") == 3)


@pytest.mark.gen_test
async def test_what_is_right_by_itself_is_refused_where_it_does_not_fit_what_stays() -> None:
    """The listener is open to all until a restart, so it cannot do without keys until then."""
    before: dict[str, Any] = {"admin": {"host": "0.0.0.0", "api_keys": ["a-key-of-the-tests"]}}

    async with doorway(**before) as door:
        reload, admin = prepared(door, changed)
        with capture_logs() as lines:
            reload.ask()
            await eventually(lambda: counted(door, "refused") == 1)
        (line,) = [line for line in lines if line["event"] == "reload.refused"]
        assert line["problems"] == [
            "admin.api_keys: must not be empty unless admin.host is a loopback address"
        ]
        assert admin.knows("a-key-of-the-tests")


@pytest.mark.gen_test
async def test_what_was_not_applied_is_named_again_and_what_was_is_not() -> None:
    read = changed(delivery={"window": 9}, auth={"secret": SECRET[::-1]})

    async with doorway() as door:
        reload, _ = prepared(door, lambda: read)
        with capture_logs() as lines:
            for times in (1, 2):
                reload.ask()
                await eventually(lambda times=times: counted(door, "applied") == times)  # type: ignore[misc]  # mypy infers no lambda with a default
                await eventually(lambda: len(door.app.tasks) == 0)
        told = [(line["event"], line["settings"]) for line in lines if line["event"].startswith("reload")]
        assert told == [
            ("reload.applied", ["auth.secret"]),
            ("reload.needs_restart", ["delivery.window"]),
            ("reload.applied", []),
            ("reload.needs_restart", ["delivery.window"]),
        ]
        assert door.app.settings.delivery.window == 256


@pytest.mark.gen_test
async def test_a_public_key_in_the_same_file_is_another_from_then_on(tmp_path: Path) -> None:
    public = tmp_path / "key.pem"
    auth = {"secret": "", "algorithms": ["ES256"], "public_key_file": str(public)}
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def write(key: ec.EllipticCurvePrivateKey) -> None:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))

    def signed(key: ec.EllipticCurvePrivateKey) -> str:
        return jwt.encode({"sub": "alice", "exp": time.time() + 600}, key, "ES256")

    write(old)
    async with doorway(auth=auth) as door:
        reload, _ = prepared(door, lambda: changed(auth=auth))
        await door.connect(token=signed(old))
        write(new)
        assert (await door.refusal(signed(new))).status == 401
        reload.ask()
        await eventually(lambda: counted(door, "applied") == 1)
        await door.connect(token=signed(new))
        assert (await door.refusal(signed(old))).status == 401


@pytest.mark.gen_test
async def test_keys_of_another_kind_wait_for_the_restart_with_what_asks_for_them(tmp_path: Path) -> None:
    """Whatever of it is right now would be wrong with the algorithms of before."""
    read = changed(
        auth={"secret": "", "algorithms": ["ES256"], "public_key_file": str(tmp_path / "none")},
        admin={"api_keys": ["a-key-of-the-tests"]},
    )
    async with doorway() as door:
        reload, admin = prepared(door, lambda: read)
        with capture_logs() as lines:
            reload.ask()
            await eventually(lambda: len(lines) == 2)
        assert [(line["event"], line["settings"]) for line in lines] == [
            ("reload.applied", ["admin.api_keys"]),
            ("reload.needs_restart", ["auth.algorithms", "auth.secret", "auth.public_key_file"]),
        ]
        assert admin.knows("a-key-of-the-tests")
        await door.connect()


@pytest.mark.gen_test
async def test_a_fault_of_the_reading_is_seen_and_the_next_reload_works() -> None:
    faults: list[Exception] = [ValueError("a fault of the program")]
    go_on = threading.Event()
    go_on.set()

    def read() -> Settings:
        if faults:
            fault = faults.pop()
            go_on.wait(20)
            raise fault
        return changed()

    async with doorway() as door:
        reload, _ = prepared(door, read)
        with capture_logs() as lines:
            reload.ask()
            await eventually(lambda: [line for line in lines if line["event"] == "task.failed"])
            reload.ask()
            await eventually(lambda: counted(door, "applied") == 1)
            # One that was asked for meanwhile is not forgotten.
            faults.append(ValueError("a fault of the program"))
            go_on.clear()
            reload.ask()
            await eventually(lambda: not faults)
            reload.ask()
            go_on.set()
            await eventually(lambda: counted(door, "applied") == 2)
            faults.append(ConfigError("server.keyfile", "is wrong"))
            reload.ask()
            await eventually(lambda: counted(door, "refused") == 1)

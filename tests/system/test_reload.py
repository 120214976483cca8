"""SIGHUP: certificate, keys and secrets change while the pod runs, all or nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from pushserver.core.close_codes import CloseCode
from pushserver.web.tokens import make_token
from tests.client import Client, Refused, connect
from tests.engines.certificates import Authority
from tests.engines.engine import Engine
from tests.pod import SECRET, eventually
from tests.pod_process import PodProcess
from tests.raw_http import ask
from tests.system.stage import Stage, stage

pytestmark = pytest.mark.system

OLD, NEW = ("an old secret of the tests, long enough", "a new secret of the tests, long enough")


class Operator:
    """Who writes a pod's files and has it read them again."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "push.toml"
        self.environment = folder / "secrets.env"
        self._folder = folder
        authority = Authority(folder, "authority")
        self.sign = authority.sign
        self.certificate, self.key = authority.sign("127.0.0.1")
        self.tls = ssl.create_default_context(cafile=authority.certificate)

    def write(self, **sections: Mapping[str, Any]) -> None:
        """Write the settings file, in one step."""
        lines = [
            line
            for section, values in sections.items()
            for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()))
        ]
        replaced = self._folder / "new"
        replaced.write_text("\n".join(lines))
        replaced.rename(self.config)

    def write_secrets(self, **auth: str) -> None:
        """Write the environment file."""
        lines = [f'PUSHSERVER_AUTH__{name.upper()}="{value}"\n' for name, value in auth.items()]
        self.environment.write_text("# of the tests\n" + "".join(lines))

    @property
    def files(self) -> dict[str, str]:
        """What tells a pod of them."""
        return {"PUSHSERVER_CONFIG": str(self.config), "PUSHSERVER_ENV_FILE": str(self.environment)}


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@asynccontextmanager
async def a_pod(engine: Engine, operator: Operator) -> AsyncIterator[tuple[Stage, PodProcess]]:
    """A pod whose secrets and settings stand in the operator's files."""
    async with stage(engine) as on:
        pod = await on.pods.start("pod-1", environ=operator.files, auth={"secret": None})
        yield on, pod


async def reload(pod: PodProcess, result: str = "applied") -> dict[str, Any]:
    """Have it read its files again and wait for the end of that; what it says of it."""
    known = len(pod.events(f"reload.{result}"))
    pod.signal(signal.SIGHUP)
    lines: list[dict[str, Any]] = await eventually(lambda: pod.events(f"reload.{result}")[known:])
    return lines[0]


async def serial(pod: PodProcess, tls: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new client is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", pod.port, ssl=tls)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown).serial_number


def on_disk(operator: Operator) -> int:
    return x509.load_pem_x509_certificate(operator.certificate.read_bytes()).serial_number


async def comes_in(pod: PodProcess, secret: str, ttl_s: float = 600) -> Client:
    """Connect by a token of that secret and read the welcome. Raises `Refused`."""
    client = await connect(pod.port, make_token(secret.encode(), "alice", ttl_s + 1, time.time() - 1))
    await client.until("welcome")
    return client


async def status_with(pod: PodProcess, key: str) -> int:
    """What an API key is worth."""
    headers = [("Host", "127.0.0.1"), ("Authorization", f"Bearer {key}"), ("Connection", "close")]
    return (await ask(pod.admin_port, headers, path="/v1/stats")).status


@pytest.mark.gen_test(timeout=60)
async def test_new_connections_get_the_new_certificate_and_old_ones_stay(
    any_engine: Engine, operator: Operator
) -> None:
    """What waits comes over TLS, too, more than the kernel takes at a time."""
    operator.write(server={"certfile": str(operator.certificate), "keyfile": str(operator.key)})
    operator.write_secrets(secret=SECRET)
    async with a_pod(any_engine, operator) as (on, pod):
        ids = await on.backend.send_many("alice", 300, "x" * 8192)
        alice = await on.listen(pod, "alice", tls=operator.tls)
        await eventually(lambda: alice.ids == ids)
        first = on_disk(operator)
        assert await serial(pod, operator.tls) == first
        operator.sign("127.0.0.1")
        assert await serial(pod, operator.tls) == first != on_disk(operator)
        await reload(pod)
        assert await serial(pod, operator.tls) == on_disk(operator)
        await eventually(lambda: not on.inbox("alice"))
        ids.append(await on.backend.send("alice"))
        await eventually(lambda: alice.ids == ids)
        later = await on.live(pod, "bob", tls=operator.tls)
        ids = [await on.backend.send("bob")]
        await eventually(lambda: later.ids == ids)
        await on.settled("alice", "bob")
        await alice.leave(quiet=True)


@pytest.mark.gen_test(timeout=60)
async def test_secrets_and_api_keys_are_changed_without_a_restart(
    any_engine: Engine, operator: Operator
) -> None:
    """First both are believed, then the new one alone. Who is connected stays until the token expires."""
    prompt = {"leeway_s": 0}
    operator.write(admin={"api_keys": ["an-old-key-of-tests"]}, auth=prompt)
    operator.write_secrets(secret=OLD)
    async with a_pod(any_engine, operator) as (_, pod):
        stays = await comes_in(pod, OLD)
        expires = await comes_in(pod, OLD, ttl_s=4)
        assert await status_with(pod, "an-old-key-of-tests") == 200
        operator.write(admin={"api_keys": ["an-old-key-of-tests", "a-new-key-of-tests"]}, auth=prompt)
        operator.write_secrets(secret=NEW, previous_secret=OLD)
        told = await reload(pod)
        assert set(told["settings"]) == {"admin.api_keys", "auth.secret", "auth.previous_secret"}
        for secret in (OLD, NEW):
            await (await comes_in(pod, secret)).close()
        assert {await status_with(pod, f"{age}-key-of-tests") for age in ("an-old", "a-new")} == {200}
        operator.write(admin={"api_keys": ["a-new-key-of-tests"]}, auth=prompt)
        operator.write_secrets(secret=NEW)
        await reload(pod)
        with pytest.raises(Refused) as refused:
            await comes_in(pod, OLD)
        assert refused.value.status == 401
        await (await comes_in(pod, NEW)).close()
        assert await status_with(pod, "an-old-key-of-tests") == 401
        assert await status_with(pod, "a-new-key-of-tests") == 200
        await stays.until("live")
        await stays.send({"type": "ping"})
        assert await stays.frame() == {"type": "pong"}
        assert (await expires.closed()).code == CloseCode.NOT_AUTHENTICATED
        await stays.send({"type": "refresh", "token": make_token(OLD.encode(), "alice", 600, time.time())})
        assert (await stays.closed()).code == CloseCode.NOT_AUTHENTICATED
        assert await pod.metric('pushserver_reloads_total{result="applied"}') == 2
        assert not [line for line in pod.log() if OLD in str(line) or NEW in str(line)]
        assert "key-of-tests" not in pod.stderr


@pytest.mark.gen_test(timeout=60)
async def test_a_bad_configuration_is_refused_as_a_whole_by_the_name_of_the_setting(
    any_engine: Engine, operator: Operator
) -> None:
    tls = {"certfile": str(operator.certificate), "keyfile": str(operator.key)}
    good: dict[str, dict[str, Any]] = {"server": tls, "admin": {"api_keys": ["an-old-key-of-tests"]}}
    operator.write(**good)
    operator.write_secrets(secret=SECRET)
    async with a_pod(any_engine, operator) as (_, pod):
        pod.expected_errors = {"reload.refused"}
        before = await serial(pod, operator.tls)
        operator.sign("127.0.0.1")
        _, other = operator.sign("localhost")
        changed: dict[str, dict[str, Any]] = {
            **good,
            "admin": {"api_keys": ["a-new-key-of-tests"]},
            "logging": {"level": "error"},
        }
        short = {"api_keys": ["short"]}
        for name, sections in {
            "admin.api_keys": {**changed, "admin": short},
            "server.keyfile": {**changed, "server": {**tls, "keyfile": str(other)}},
            "server.certfile": {**changed, "server": {**tls, "certfile": "/nowhere"}},
            "delivery.windows": {**changed, "delivery": {"windows": 1}},
        }.items():
            operator.write(**sections)
            (problem,) = (await reload(pod, "refused"))["problems"]
            assert problem.startswith(f"{name}: ")
        operator.write(**changed)
        operator.environment.write_text("no variable, but a s3cr3t\n")
        (problem,) = (await reload(pod, "refused"))["problems"]
        assert problem == f"{operator.environment}: line 1 is not NAME=VALUE"
        operator.write_secrets()
        (problem,) = (await reload(pod, "refused"))["problems"]
        assert problem.startswith("auth.secret: must be set")
        assert await status_with(pod, "an-old-key-of-tests") == 200
        assert await status_with(pod, "a-new-key-of-tests") == 401
        assert await serial(pod, operator.tls) == before
        assert await pod.metric('pushserver_reloads_total{result="refused"}') == 6
        operator.write_secrets(secret=SECRET)
        pod.signal(signal.SIGHUP)
        # Of level info: it is not said any more.
        await eventually(lambda: status_is(pod, "a-new-key-of-tests", 200))
        assert await serial(pod, operator.tls) == on_disk(operator) != before


async def status_is(pod: PodProcess, key: str, status: int) -> bool:
    return await status_with(pod, key) == status


@pytest.mark.gen_test(timeout=60)
async def test_what_needs_a_restart_is_named_and_not_applied(any_engine: Engine, operator: Operator) -> None:
    operator.write()
    operator.write_secrets(secret=SECRET)
    async with a_pod(any_engine, operator) as (_, pod):
        tls = {"certfile": str(operator.certificate), "keyfile": str(operator.key)}
        operator.write(server=tls, auth={"issuer": "somebody"}, logging={"level": "warning"})
        pod.signal(signal.SIGHUP)
        (line,) = await eventually(lambda: pod.events("reload.needs_restart"))
        assert line["settings"] == ["server.certfile", "server.keyfile", "auth.issuer"]
        await (await comes_in(pod, SECRET)).close()
        known = len(pod.log())
        with pytest.raises(Refused):
            await comes_in(pod, OLD)
        assert len(pod.log()) == known, "the level of the log was not applied"

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from pushserver.core.errors import StoreUnavailableError
from pushserver.stores import embedded
from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from tests.stores.engines import commands_of

STARTER = """
import sys, time
from pathlib import Path
from pushserver.stores.embedded import EmbeddedValkey
engine = EmbeddedValkey(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
engine.start()
print("started", flush=True)
sys.stdin.readline()
engine.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Shorter than pytest's own: the path of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as name:
        yield Path(name) / "data"


@pytest.fixture
def engine(folder: Path) -> Iterator[EmbeddedValkey]:
    engine = EmbeddedValkey(folder)
    yield engine
    engine.stop()


@pytest.fixture
def starters(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts other processes that start the engine at one line, and stop it at the next."""
    running: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STARTER, str(folder)]
        starter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(starter)
        hears(starter, "ready")
        return starter

    yield start
    for starter in running:
        with starter:
            starter.communicate("\n")


def hears(starter: subprocess.Popen[str], word: str) -> None:
    assert starter.stdout is not None
    assert starter.stdout.readline() == f"{word}\n"


def tell(starter: subprocess.Popen[str]) -> None:
    assert starter.stdin is not None
    starter.stdin.write("\n")
    starter.stdin.flush()


def redis(folder: Path) -> Redis:
    path = str(folder.resolve() / "valkey.sock")
    return Redis(unix_socket_path=path, decode_responses=True, retry=Retry(NoBackoff(), 0))


def process_id(folder: Path) -> int:
    with redis(folder) as client:
        return int(client.info("server")["process_id"])


def answers(folder: Path) -> bool:
    try:
        with redis(folder) as client:
            return bool(client.ping())
    except RedisError:
        return False


def soon(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_starts_and_stops_and_twice_is_once(engine: EmbeddedValkey, folder: Path) -> None:
    engine.start()
    pid = process_id(folder)
    engine.start()
    assert process_id(folder) == pid
    engine.stop()
    engine.stop()
    assert is_gone(pid)
    assert not answers(folder)


def test_it_keeps_every_message_and_listens_on_no_network(engine: EmbeddedValkey, folder: Path) -> None:
    engine.start()
    with redis(folder) as client:
        assert client.config_get(
            "maxmemory-policy", "appendonly", "appendfsync", "port", "unixsocketperm"
        ) == {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "port": "0",
            "unixsocketperm": "700",
        }


def test_data_survives_a_restart(engine: EmbeddedValkey, folder: Path) -> None:
    engine.start()
    with redis(folder) as client:
        client.rpush("ps:inbox:{alice}", "1", "2")
    engine.stop()
    engine.start()
    with redis(folder) as client:
        assert client.lrange("ps:inbox:{alice}", 0, -1) == ["1", "2"]


def test_who_finds_one_running_joins_it_and_does_not_stop_it(engine: EmbeddedValkey, folder: Path) -> None:
    engine.start()
    joined = EmbeddedValkey(folder)
    joined.start()
    joined.stop()
    assert answers(folder)


def test_processes_that_start_at_once_share_one_engine(
    folder: Path, starters: Callable[[], subprocess.Popen[str]]
) -> None:
    """A second one would take the socket away and append to the same file."""
    started = [starters() for _ in range(4)]
    for starter in started:
        tell(starter)
    for starter in started:
        hears(starter, "started")
    log = (folder / "valkey.log").read_text()
    assert log.count("is starting oO0") == 1
    assert answers(folder)


def test_it_dies_with_its_parent_also_by_kill_9(
    folder: Path, starters: Callable[[], subprocess.Popen[str]]
) -> None:
    starter = starters()
    tell(starter)
    hears(starter, "started")
    pid = process_id(folder)
    starter.send_signal(signal.SIGKILL)
    soon(lambda: is_gone(pid))
    engine = EmbeddedValkey(folder)
    engine.start()
    assert process_id(folder) != pid
    engine.stop()


def test_ctrl_c_in_a_terminal_is_for_the_pod_alone(engine: EmbeddedValkey, folder: Path) -> None:
    """The pod needs the engine to drain; a session of its own gets no signal of the terminal's."""
    engine.start()
    assert os.getsid(process_id(folder)) != os.getsid(0)


def test_one_that_hangs_is_neither_joined_nor_pushed_aside(
    engine: EmbeddedValkey, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start()
    # Only now: starting takes its time on a busy machine.
    monkeypatch.setattr(embedded, "START_S", 0.2)
    monkeypatch.setattr(embedded, "ANSWER_S", 0.05)
    pid = process_id(folder)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError, match="Valkey does not answer"):
            EmbeddedValkey(folder).start()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert process_id(folder) == pid
    assert (folder / "valkey.log").read_text().count("is starting oO0") == 1


def test_one_that_does_not_stop_is_killed(
    engine: EmbeddedValkey, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_S", 0.1)
    engine.start()
    pid = process_id(folder)
    os.kill(pid, signal.SIGSTOP)
    engine.stop()
    assert is_gone(pid)


def test_one_that_cannot_start_is_an_error_that_says_where_to_look(
    engine: EmbeddedValkey, folder: Path
) -> None:
    engine.start()
    engine.stop()
    for part in (folder / "appendonlydir").glob("*.manifest"):
        part.write_text("no manifest")
    with pytest.raises(StoreUnavailableError, match=r"Valkey ended \(see valkey.log in /"):
        engine.start()


def test_a_path_that_is_too_long_is_said_so(folder: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="too long for a socket"):
        EmbeddedValkey(folder / ("x" * 100)).start()


@pytest.mark.gen_test
async def test_the_url_leads_to_it_whatever_the_folder_is_called(folder: Path) -> None:
    hostile = folder / "a b%20#?愛{}"
    engine = EmbeddedValkey(hostile)
    engine.start()
    try:
        async with commands_of(embedded_url(hostile)) as commands:
            assert await commands.call("PING") == b"PONG"
    finally:
        engine.stop()
    assert unquote(embedded_url(hostile)).endswith("/a b%20#?愛{}/valkey.sock")

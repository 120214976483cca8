"""Google's Pub/Sub emulator as a process of the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from tests.engines.ports import free_port

__all__ = ["PubSubEmulator", "emulator_program"]

_IN_SDK = Path("platform/pubsub-emulator/bin/cloud-pubsub-emulator")
_START_WITHIN_S = 60
_STOP_WITHIN_S = 5


def emulator_program() -> Path:
    """The emulator's program; without one the test is skipped, or fails where CI=true."""
    named = os.environ.get("PUBSUB_EMULATOR_BIN") or shutil.which("cloud-pubsub-emulator")
    found = [Path(named)] if named else [root / _IN_SDK for root in _sdk_roots()]
    for program in found:
        if program.is_file() and (shutil.which("java") or os.environ.get("JAVA_HOME")):
            return program
    reason = "needs Google's Pub/Sub emulator and Java (PUBSUB_EMULATOR_BIN, or the google-cloud-sdk)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _sdk_roots() -> list[Path]:
    usual = [Path("/usr/lib/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]
    gcloud = shutil.which("gcloud")
    return [*usual, Path(gcloud).resolve().parent.parent] if gcloud else usual


class PubSubEmulator:
    """The emulator on a port of 127.0.0.1, which it keeps over `stop` and `start`.

    It holds everything in memory: topics, subscriptions and messages are gone when it stops.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def host(self) -> str:
        """What PUBSUB_EMULATOR_HOST would say."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers; its output is shown if it does not. Twice is once."""
        if self._process is not None:
            return
        command = [str(self._program), "--host=127.0.0.1", f"--port={self.port}"]
        with tempfile.TemporaryFile() as output:
            # A process group of its own, so that the shell script and its Java go together.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            try:
                self._wait_until_ready()
            except AssertionError:
                self.stop()
                output.seek(0)
                print(output.read().decode(errors="replace"))
                raise

    def stop(self) -> None:
        """Stop it and whatever it started, frozen or not. Twice is once."""
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)
        while not self._is_stopped():
            time.sleep(0.001)  # its threads stop one by one

    def thaw(self) -> None:
        """Let it go on with whatever it was sent meanwhile; nothing if it does not hang."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def _is_stopped(self) -> bool:
        assert self._process is not None, "it does not run"
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        try:
            # The state follows the name, which stands in brackets.
            return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)
        except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            return False

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + _START_WITHIN_S
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, "the emulator ended"
            assert time.monotonic() < give_up, "the emulator does not answer"

    def _answers(self) -> bool:
        channel = grpc.insecure_channel(self.host, options=[("grpc.enable_http_proxy", 0)])
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        try:
            # Waits for the connection, so this is no busy loop.
            grpc.channel_ready_future(channel).result(timeout=1)
            publisher.list_topics(project="projects/ready", retry=None, timeout=5)
        except (grpc.FutureTimeoutError, GoogleAPICallError):
            return False
        else:
            return True
        finally:
            publisher.transport.close()

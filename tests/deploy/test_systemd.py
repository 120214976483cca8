"""`conf/systemd/`, held against systemd's own check and against what the program does."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from pushserver.cli import COMMANDS
from pushserver.config import Settings
from pushserver.config_load import load
from pushserver.server import EXIT_TAKEN_OVER
from tests.deploy.settings_in_use import CONF, EXAMPLES, secret_settings

POD, CONSUMER = "pushserver@.service", "pushserver-consumer.service"
UNITS = [POD, CONSUMER]
PROGRAM = "/opt/pushserver/bin/pushserver"
OLDEST_SYSTEMD = 250
"""Since then it judges a unit that is not installed."""


def unit(name: str, instance: str = "1") -> dict[str, list[str]]:
    """Every option with its values in order; %i is the instance."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (CONF / "systemd" / name).read_text().replace("%i", instance).splitlines():
        if line and line[0] not in "#[":
            option, _, value = line.partition("=")
            found[option].append(value)
    return found


def settings(name: str, instance: str = "1") -> Settings:
    """What it starts with, the shipped file and the operator's secrets included."""
    pairs = [word.split("=", 1) for line in unit(name, instance)["Environment"] for word in shlex.split(line)]
    environ = {name: value for name, value in pairs if name.startswith("PUSHSERVER_")}
    assert not environ.keys() & (secret_settings() - {"PUSHSERVER_CONSUME__DATABASE_URL"})
    assert environ.pop("PUSHSERVER_CONFIG") == "/etc/pushserver/pushserver.toml"
    return load(str(CONF / "pushserver.toml"), (), {**environ, **EXAMPLES})


def systemd_analyze() -> str:
    """The program. Where there is none, also with CI=true, only what it says of the units is left out."""
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("needs systemd-analyze (apt install systemd)")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30)
    if int(version.stdout.split()[1]) < OLDEST_SYSTEMD:
        pytest.skip(f"needs systemd-analyze {OLDEST_SYSTEMD} or newer")
    return found


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    """With the program at hand in the place of the one that is to be installed."""
    analyze = systemd_analyze()
    program = Path(sys.executable).with_name("pushserver")
    text = (CONF / "systemd" / name).read_text()
    assert f"ExecStart={PROGRAM} " in text
    copy = tmp_path / name.replace("@", "@1")
    copy.write_text(text.replace(PROGRAM, str(program)))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    # Of this unit only: what else the machine has is not ours to judge.
    ours = [line for line in verified.stderr.splitlines() if name.partition("@")[0] in line]
    assert verified.returncode == 0, verified.stderr
    assert not ours


@pytest.mark.parametrize("name", UNITS)
def test_hardly_anything_is_left_to_a_process_that_is_taken_over(name: str) -> None:
    security = subprocess.run(
        [systemd_analyze(), "security", "--offline=true", "--threshold=25", CONF / "systemd" / name],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert security.returncode == 0, security.stdout + security.stderr


@pytest.mark.parametrize("name", UNITS)
def test_it_runs_a_command_of_the_program(name: str) -> None:
    (start,) = unit(name)["ExecStart"]
    program, command = start.split()
    assert program == PROGRAM
    assert command in COMMANDS


def test_pods_of_one_host_share_no_port() -> None:
    one, two = settings(POD, "1"), settings(POD, "2")
    assert not one.development
    ports = [one.server.port, one.admin.port, two.server.port, two.admin.port]
    assert ports == [8001, 8101, 8002, 8102]
    assert settings(CONSUMER).consume.port not in [*ports, 8000]
    # Empty: host name and port, another for each.
    assert not one.pod.name


@pytest.mark.parametrize("name", UNITS)
def test_systemd_is_more_patient_than_the_drain_takes(name: str) -> None:
    assert float(unit(name)["TimeoutStopSec"][0]) > settings(name).drain.timeout_s


def test_a_pod_whose_name_was_taken_over_does_not_come_back() -> None:
    assert str(EXIT_TAKEN_OVER) in unit(POD)["RestartPreventExitStatus"][0].split()
    assert unit(POD)["Restart"] == ["on-failure"]


def test_there_are_descriptors_for_all_connections() -> None:
    assert int(unit(POD)["LimitNOFILE"][0]) > settings(POD).server.max_connections


def test_the_consumer_may_write_where_its_database_is() -> None:
    url = next(word for word in unit(CONSUMER)["Environment"] if "DATABASE_URL" in word).partition("=")[2]
    assert f"/var/lib/{unit(CONSUMER)['StateDirectory'][0]}/" in url
    assert unit(CONSUMER)["WorkingDirectory"] == ["/var/lib/" + unit(CONSUMER)["StateDirectory"][0]]


@pytest.mark.parametrize("name", UNITS)
def test_secrets_come_from_a_file_of_their_own(name: str) -> None:
    assert unit(name)["EnvironmentFile"] == ["/etc/pushserver/secrets.env"]

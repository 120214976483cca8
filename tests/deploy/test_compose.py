"""`conf/compose.yaml`, read without Docker."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.settings_in_use import CONF, EXAMPLES, loaded, secret_settings

_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])(.*?))?\}")


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONF / "compose.yaml").read_text())
    return found


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services of the image."""
    return {name: it for name, it in compose["services"].items() if it["image"] == "pushserver"}


def filled_in(environment: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """The environment as compose makes it of `given`."""

    def value(match: re.Match[str]) -> str:
        name, how, default = match.groups()
        assert given.get(name) or how == "-", f"{name} is required"
        return given.get(name) or default

    return {name: _VARIABLE.sub(value, text) for name, text in environment.items()}


PUBSUB = {
    "PUSHSERVER_EXPOSURE__SINK": "pubsub",
    "PUSHSERVER_EXPOSURE__TOPIC": "projects/demo/topics/exposures",
    "PUSHSERVER_CONSUME__SUBSCRIPTION": "projects/demo/subscriptions/exposures",
    "PUBSUB_EMULATOR_HOST": "pubsub:8085",
}


@pytest.mark.parametrize("more", [{}, PUBSUB], ids=["stream", "pubsub"])
def test_the_settings_of_every_service_stop_no_start(compose: dict[str, Any], more: dict[str, str]) -> None:
    assert set(ours(compose)) == {"pod-1", "pod-2", "consumer"}
    for service in ours(compose).values():
        settings = loaded(filled_in(service["environment"], {**EXAMPLES, **more}))
        assert not settings.development
        assert settings.redis.url.get_secret_value() == "redis://valkey:6379"
        assert settings.exposure.sink == more.get("PUSHSERVER_EXPOSURE__SINK", "stream")
        # Docker's patience is longer than the drain takes.
        assert float(service["stop_grace_period"].removesuffix("s")) > settings.drain.timeout_s


@pytest.mark.parametrize("missing", ["PUSHSERVER_AUTH__SECRET", "PUSHSERVER_ADMIN__API_KEYS"])
def test_nothing_starts_without_the_secrets(compose: dict[str, Any], missing: str) -> None:
    given = {name: value for name, value in EXAMPLES.items() if name != missing}
    for service in ours(compose).values():
        with pytest.raises(AssertionError, match=missing):
            filled_in(service["environment"], given)


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    environments = [service.get("environment", {}) for service in compose["services"].values()]
    for environment in environments:
        for name in environment.keys() & secret_settings():
            assert "${" in environment[name] or environment[name] == "redis://valkey:6379", name


def test_pods_run_as_the_image_is_meant_to(compose: dict[str, Any]) -> None:
    for service in ours(compose).values():
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in service
    assert compose["services"]["consumer"]["volumes"] == ["exposures:/data"]


def test_valkey_keeps_what_it_was_given(compose: dict[str, Any]) -> None:
    command = compose["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert compose["services"]["valkey"]["volumes"] == ["valkey:/data"]
    assert "ports" not in compose["services"]["valkey"]


def test_nginx_finds_the_pods_where_they_are_and_is_believed(compose: dict[str, Any]) -> None:
    services = compose["services"]
    at = {name: services[name]["networks"]["inner"]["ipv4_address"] for name in ("pod-1", "pod-2", "nginx")}
    named = re.findall(r"^ +server (\d\S+)", (CONF / "nginx.conf").read_text(), re.MULTILINE)
    assert named == [f"{at['pod-1']}:8000", f"{at['pod-2']}:8000"]
    for pod in ("pod-1", "pod-2"):
        settings = loaded(filled_in(services[pod]["environment"], EXAMPLES))
        assert settings.proxy.trusted == (at["nginx"],)


def test_every_image_from_elsewhere_has_a_tag(compose: dict[str, Any]) -> None:
    others = {it["image"] for it in compose["services"].values()} - {"pushserver"}
    assert all(re.search(r":[\w.]+$", image) and not image.endswith(":latest") for image in others)


def test_everything_that_is_named_is_defined(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", ())) <= set(services)
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {name for name in volumes if not name.startswith(".")} <= set(compose["volumes"])

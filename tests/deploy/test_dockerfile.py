"""The image: built and run as near to a container engine as a machine without one comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pushserver
from tests.deploy.container import Container, Image, build
from tests.deploy.dockerfile import Stage, copy_context, stages
from tests.deploy.namespaces import Namespaces, namespaces
from tests.engines.redis_server import redis_program

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "PUSHSERVER_REDIS__URL": "redis://127.0.0.1:6379",
    "PUSHSERVER_AUTH__SECRET": "a secret of the tests, long enough for HS256",
    "PUSHSERVER_ADMIN__API_KEYS": '["an-api-key-of-the-tests"]',
    "PUSHSERVER_DRAIN__SPREAD_S": "0.1",
    "PUSHSERVER_DRAIN__TIMEOUT_S": "5",
}


@pytest.fixture(scope="module")
def parsed() -> list[Stage]:
    return stages((REPOSITORY / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def where() -> Iterator[Namespaces]:
    with namespaces() as made:
        yield made


@pytest.fixture(scope="module")
def image(where: Namespaces, parsed: list[Stage], tmp_path_factory: pytest.TempPathFactory) -> Image:
    context = tmp_path_factory.mktemp("image") / "context"
    copy_context(REPOSITORY, files_of_the_project(), (REPOSITORY / ".dockerignore").read_text(), context)
    return build(where, parsed, context)


@pytest.fixture(scope="module")
def redis(where: Namespaces) -> Iterator[None]:
    """A redis-server where the containers are."""
    server = where.start(redis_program(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    yield
    server.kill()
    server.communicate()


@pytest.fixture
def start(image: Image) -> Iterator[Callable[..., Container]]:
    """Starts containers, which end with the test."""
    started: list[Container] = []

    def run(*command: str, **options: str) -> Container:
        started.append(image.run(*command, **options))
        return started[-1]

    yield run
    for container in started:
        container.put_away()


def files_of_the_project() -> list[str]:
    """What lies in a checkout with a virtual environment: more than the builder may be sent."""
    kept = ("setup.py", "setup.cfg", "README.md", "LICENSE", "conf/pushserver.toml", ".gitignore")
    package = [str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "pushserver").rglob("*.*")]
    return [*kept, *package, "tests/conftest.py"]


def test_a_builder_is_sent_the_package_and_nothing_else(tmp_path: Path) -> None:
    files = [*files_of_the_project(), ".env", "pushserver/.secret", "pushserver/__pycache__/server.pyc"]
    rules = (REPOSITORY / ".dockerignore").read_text()
    wanted = [
        name for name in files if not ({".env", "pushserver/.secret"} & {name}) and "pycache" not in name
    ]
    (tmp_path / "all").mkdir()
    for name in files:
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).touch()
    copy_context(tmp_path / "all", files, rules, tmp_path / "sent")
    sent = {
        str(path.relative_to(tmp_path / "sent")) for path in (tmp_path / "sent").rglob("*") if path.is_file()
    }
    others = {"conf/pushserver.toml", ".gitignore", "tests/conftest.py"}
    assert sent == set(wanted) - others


def test_the_image_says_what_it_is_and_runs_as_nobody_in_particular(parsed: list[Stage]) -> None:
    builder, image = parsed
    assert builder.base == image.base
    assert image.base.startswith("python:3.")
    assert image.base.endswith("-slim")
    assert image.pairs("LABEL")["org.opencontainers.image.version"] == pushserver.__version__
    assert {"title", "description", "licenses"} < {name.rpartition(".")[2] for name in image.pairs("LABEL")}
    user, _, group = image.last("USER").partition(":")
    # Numbers, so that an orchestrator can see that it is not root.
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert image.last("EXPOSE").split() == ["8000", "8001", "8002"]
    assert not any("SECRET" in name or "URL" in name or "KEY" in name for name in image.pairs("ENV"))


def test_nothing_is_downloaded_or_compiled_in_the_image_itself(parsed: list[Stage]) -> None:
    steps = [rest for name, rest in parsed[-1].steps if name == "RUN"]
    assert not any(tool in step for step in steps for tool in ("pip", "apt", "curl", "gcc"))


def test_a_start_without_settings_is_refused_and_names_all_that_is_missing(
    start: Callable[..., Container],
) -> None:
    code, output = start().ended()
    assert code == 2, output
    assert output.splitlines() == [
        "pushserver: redis.url: must be set with pod.production",
        "pushserver: admin.api_keys: must not be empty unless admin.host is a loopback address",
        "pushserver: auth.secret: must be set, 32 bytes or more, with redis.url",
    ]


@pytest.mark.parametrize("missing", ["PUSHSERVER_REDIS__URL", "PUSHSERVER_AUTH__SECRET"])
def test_a_start_with_half_of_it_names_the_other_half(start: Callable[..., Container], missing: str) -> None:
    given = {name: value for name, value in SETTINGS.items() if name != missing}
    code, output = start(**given).ended()
    assert code == 2, output
    (line,) = output.splitlines()
    assert missing.removeprefix("PUSHSERVER_").lower().replace("__", ".") in line


@pytest.mark.usefixtures("redis")
def test_it_serves_from_a_read_only_root_as_its_user_and_drains_on_sigterm(
    image: Image, start: Callable[..., Container]
) -> None:
    pod = start(**SETTINGS)
    pod.says('"pod.started"')
    assert pod.is_healthy()
    looked = start("publish", "--to-user", "alice", "--text", "hello", **SETTINGS).ended()
    assert looked[0] == 0, looked[1]
    pod.terminate()
    code, output = pod.ended()
    assert code == 0, output
    assert '"pod.drained"' in output
    assert not pod.is_healthy()
    assert "Traceback" not in output


def test_a_start_that_waits_for_redis_ends_on_sigterm(start: Callable[..., Container]) -> None:
    """It is process 1, which the kernel sends nothing that it has no handler for."""
    pod = start(**{**SETTINGS, "PUSHSERVER_REDIS__URL": "redis://127.0.0.1:6380"})
    pod.says('"redis.awaited"')
    pod.terminate()
    code, output = pod.ended(within_s=10)
    assert code == 143, output


def test_it_can_write_nowhere_but_in_tmp_and_volumes(image: Image) -> None:
    script = "touch /tmp/x && ! touch /x && ! touch /data/x && ! touch /opt/pushserver/x && id -u && id -g"
    user, _, group = image.stage.last("USER").partition(":")
    code, output = Container(image, ["sh", "-c", script], {}).ended()
    assert code == 0, output
    assert output.split()[:2] == [user, group]


@pytest.mark.usefixtures("redis")
def test_a_consumer_with_sqlite_needs_a_volume_and_no_more(
    image: Image, start: Callable[..., Container]
) -> None:
    consumer = start("consume", volume=image.stage.last("WORKDIR"), **SETTINGS)
    consumer.says('"consume.started"')
    assert consumer.is_healthy(port="8002")
    consumer.terminate()
    code, output = consumer.ended()
    assert code == 0, output
    assert "Traceback" not in output

"""A Dockerfile, built and run without a container engine.

The base image of every stage is the machine that runs the tests, with the Python of the tests. What pip would
load from an index comes from the environment of the tests: just what the package requires, and that requires.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.deploy.dockerfile import Stage
from tests.deploy.namespaces import Namespaces

__all__ = ["Container", "Image", "build"]

STOP_S = 60


@dataclass
class Image:
    """What was built, read-only but for /tmp and what is mounted."""

    where: Namespaces
    root: Path
    stage: Stage
    environ: dict[str, str]

    def run(self, *command: str, volume: str = "", **environ: str) -> Container:
        """`docker run`: the entry point with `command`, or the image's own; `volume` is a folder."""
        words = command or self.stage.command("CMD")
        return Container(self, [*self.stage.command("ENTRYPOINT"), *words], environ, volume)


class Container:
    """A command in an image: process 1 of its own, the image's user, no capability, no way to get any."""

    def __init__(
        self, image: Image, command: Sequence[str], environ: Mapping[str, str], volume: str = ""
    ) -> None:
        self._image = image
        self.environ = {**image.environ, **environ}
        user, _, group = image.stage.last("USER").partition(":")
        workdir = image.stage.last("WORKDIR")
        # The shell only changes the folder, and `exec` leaves none.
        inside = ["sh", "-c", f'cd {workdir} && exec "$@"', "sh", *command]
        rights = [
            "--no-new-privs",
            "--bounding-set=-all",
            f"--reuid={user}",
            f"--regid={group}",
            "--clear-groups",
        ]
        variables = [f"{name}={value}" for name, value in self.environ.items()]
        # A new volume belongs to whom the folder in the image belongs to.
        path = f"{image.root}{volume}"
        mount = f'mount -t tmpfs -o "$(stat --format=uid=%u,gid=%g {path})" none {path}'
        self._process = image.where.start(
            *("unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-ec"),
            *(f'{mount if volume else ":"} && exec "$@"', "sh", "chroot", str(image.root)),
            *("setpriv", *rights, "env", "-i", *variables, *inside),
        )

    def terminate(self) -> None:
        """SIGTERM to its process 1."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._process.pid
        for first in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(first), number)

    def ended(self, within_s: float = STOP_S) -> tuple[int, str]:
        """Wait for its end: exit code and all it wrote that nobody has read yet."""
        try:
            output, errors = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.put_away()}") from None
        return self._process.returncode, output + errors

    def says(self, text: str) -> None:
        """Wait for a line on stderr that has it. Fails the test if it ends without."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text in line:
                return
        raise AssertionError(f"it ended without {text}: {self.ended()}")

    def is_healthy(self, port: str = "8001") -> bool:
        """Run the image's health check beside it."""
        check = [word.replace("8001", port) for word in self._image.stage.health_command]
        return Container(self._image, check, {}).ended()[0] == 0

    def put_away(self) -> str:
        """End it, whatever happened; what it wrote. Twice is once."""
        if self._process.poll() is None:
            # With its process 1 all of it ends, and then who waits for it.
            self._signal(signal.SIGKILL)
        return "".join(self._process.communicate())


def build(where: Namespaces, stages: Sequence[Stage], context: Path) -> Image:
    """Run the steps of every stage; the image is the last."""
    builder = _Builder(where, context)
    for stage in stages:
        builder.build(stage)
    root, stage = builder.roots[stages[-1].name], stages[-1]
    where.run("mount", "-o", "remount,ro", root)
    where.run("mount", "-t", "tmpfs", "-o", "mode=1777", "none", root / "tmp")
    return Image(where, root, stage, builder.environ)


class _Builder:
    def __init__(self, where: Namespaces, context: Path) -> None:
        self._where = where
        self._context = context
        self.roots: dict[str, Path] = {}

    def build(self, stage: Stage) -> None:
        self.roots[stage.name] = self._root = self._where.file_system(f"stage{len(self.roots)}")
        self._workdir = "/"
        self.environ = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        work = {"RUN": self._run, "COPY": self._copy, "ENV": self._env, "WORKDIR": self._enter}
        for instruction, rest in stage.steps:
            if instruction in work:
                work[instruction](rest)

    def _enter(self, folder: str) -> None:
        self._workdir = folder
        self._where.run("mkdir", "-p", f"{self._root}{folder}")

    def _run(self, line: str) -> None:
        environ = {
            **os.environ,
            # What pip would load is brought afterwards; to build a wheel the tests' setuptools will do.
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._where.run(
            *("chroot", self._root, "/bin/sh", "-ec", f"cd {self._workdir} && {line}"), environ=environ
        )
        if "pip" in line and " install " in line:
            self._bring_requirements()

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = self._context
        if sources[0].startswith("--from="):
            origin = self.roots[sources.pop(0).removeprefix("--from=")]
        into = Path(f"{self._root}{self._workdir}", target) if target[0] != "/" else f"{self._root}{target}"
        for source in sources:
            self._where.run("cp", "-r", "--preserve=links,mode", origin / source.lstrip("/"), into)

    def _env(self, rest: str) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            self.environ[name] = value.replace("$PATH", self.environ["PATH"])

    def _bring_requirements(self) -> None:
        (target,) = self._where.run("sh", "-c", f"echo {self._root}/opt/*/lib/python*/site-packages").split()
        metadata = self._where.run("sh", "-c", f"cat {target}/pushserver-*.dist-info/METADATA")
        site = Path(str(distribution("pytest").locate_file("")))
        names = sorted(_required(re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE), {"postgres"}))
        files = [str(file) for name in names for file in distribution(name).files or ()]
        listed = self._context.parent / "requirements.txt"
        listed.write_text("\n".join(file for file in files if ".." not in file and (site / file).exists()))
        copy = 'tar -C "$1" -T "$2" -cf - | tar -C "$3" -xf -'
        self._where.run("sh", "-ec", copy, "sh", site, listed, target)


def _required(requires: Iterable[str], extras: AbstractSet[str]) -> set[str]:
    """The distributions that one with these requirements and extras needs."""
    found = set[str]()
    waiting = [(requires, extras)]
    seen = set[tuple[str, frozenset[str]]]()
    while waiting:
        requires, extras = waiting.pop()
        for needed in map(Requirement, requires):
            wanted = frozenset(needed.extras)
            marker = needed.marker
            applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if applies and (needed.name, wanted) not in seen:
                seen.add((needed.name, wanted))
                found.add(needed.name)
                waiting.append((distribution(needed.name).requires or (), wanted))
    return found

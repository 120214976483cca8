"""A Dockerfile and a .dockerignore, as far as ours go; anything else in them is an error."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

__all__ = ["Stage", "copy_context", "stages"]

_KNOWN = {
    *("WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"),
    "CMD",
}


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and arguments, in order."""

    def last(self, instruction: str) -> str:
        """The arguments of the last such instruction, which is the one that counts; "" without any."""
        return next((rest for name, rest in reversed(self.steps) if name == instruction), "")

    def command(self, instruction: str) -> list[str]:
        """A command in the exec form; one in the shell form is an error."""
        words: list[str] = json.loads(self.last(instruction))
        return words

    @property
    def health_command(self) -> list[str]:
        """What the health check runs."""
        words: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD")[2])
        return words

    def pairs(self, instruction: str) -> dict[str, str]:
        """Of all LABEL or ENV instructions, later ones over earlier ones."""
        found = (rest for name, rest in self.steps if name == instruction)
        return {
            key: quoted or plain
            for rest in found
            for key, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S*))', rest)
        }


def stages(text: str) -> list[Stage]:
    """The stages in order."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for instruction, rest in _instructions(text):
        if instruction == "ARG" and not found:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base), name))
        else:
            assert instruction in _KNOWN, instruction
            found[-1].steps.append((instruction, rest))
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        yield instruction, rest.strip()


def copy_context(source: Path, files: list[str], ignore: str, target: Path) -> None:
    """What a builder is sent of `files` (relative to `source`), by the rules of `ignore`."""
    patterns = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    for name in files:
        if not _ignored(name, patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def _ignored(name: str, patterns: list[str]) -> bool:
    parts = name.split("/")
    paths = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    ignored = False
    for pattern in patterns:
        if any(_matches(path, pattern.removeprefix("!")) for path in paths):
            ignored = not pattern.startswith("!")
    return ignored


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        path, pattern = path.rpartition("/")[2], pattern[3:]
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)

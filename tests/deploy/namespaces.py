"""Mounts and a network of one's own, for what a container engine would do; gone with their holder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Namespaces", "namespaces"]

_LO_UP = """
import fcntl, socket, struct
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
"""
_TOOLS = ("unshare", "nsenter", "setpriv", "chroot", "mount")
_HOLD = "mount -t tmpfs none /mnt && echo ready && exec sleep 600"


class Namespaces:
    """Root there may mount and listen as he likes, below /mnt; nobody outside sees it."""

    def __init__(self, holder: int) -> None:
        self._enter = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", f"--net=/proc/{holder}/ns/net"]
        self.run(sys.executable, "-c", _LO_UP)

    def run(self, *command: str | Path, environ: Mapping[str, str] | None = None) -> str:
        """Run it as root to its end; its output. Fails the test if it fails."""
        done = subprocess.run(
            [*self._enter, *command], env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start it; its output is text in pipes."""
        return subprocess.Popen(
            [*self._enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def file_system(self, name: str) -> Path:
        """A root to write to, which begins as this machine's, whose Python anybody may run."""
        layers = [Path(f"/mnt/{name}-{part}") for part in ("upper", "work", "root")]
        self.run("mkdir", *layers)
        upper, work, root = layers
        self.run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "none", root)
        for system in ("proc", "dev"):
            self.run("mount", "--rbind", f"/{system}", root / system)
        base = Path(sys.base_prefix)
        # In an image it belongs to all; here it may lie in somebody's home.
        self.run("chmod", "a+rx", *(root / folder.relative_to("/") for folder in (base, *base.parents[:-1])))
        return root


@contextmanager
def namespaces() -> Iterator[Namespaces]:
    """Skips the test where this user or machine cannot make them."""
    if os.getuid() != 0 or not all(map(shutil.which, _TOOLS)):
        pytest.skip("needs root, and util-linux")
    holder = subprocess.Popen(
        ["unshare", "--mount", "--net", "sh", "-c", _HOLD],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip("this machine lets root make no mounts of its own")
        yield Namespaces(holder.pid)
    finally:
        holder.kill()
        holder.communicate()

"""Pods: the cluster, and this pod's figures."""

from __future__ import annotations

from typing import ClassVar

from pushserver.web.admin.handler import ApiHandler

__all__ = ["Pods", "Stats"]


class Pods(ApiHandler):
    """`/v1/pods`."""

    calls: ClassVar = {"GET": "pods"}

    async def get(self) -> None:
        """Every pod that has a lease, or had one a short while ago."""
        self.answer({"pods": await self.admin.users.pods()})


class Stats(ApiHandler):
    """`/v1/stats`."""

    calls: ClassVar = {"GET": "stats"}

    def get(self) -> None:
        """This pod's counts of this moment."""
        self.answer(self.admin.describe_pod())

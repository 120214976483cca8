"""Pods: the cluster, this pod's figures, and what waits to be kept of exposures."""

from __future__ import annotations

from typing import ClassVar

from pushserver.web.admin.handler import ApiHandler

__all__ = ["CategoryCounts", "Exposures", "Pods", "Stats"]


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


class CategoryCounts(ApiHandler):
    """`/v1/categories`."""

    calls: ClassVar = {"GET": "categories"}

    async def get(self) -> None:
        """This pod's connections by category, the largest of each kind."""
        self.answer({"categories": await self.admin.census.categories()})


class Exposures(ApiHandler):
    """`/v1/exposures`."""

    calls: ClassVar = {"GET": "exposures"}

    async def get(self) -> None:
        """How many events wait in the stream, of all pods."""
        self.answer(await self.admin.describe_exposures())

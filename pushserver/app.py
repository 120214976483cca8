"""The one place that wires everything; `parts` and `door_parts` build what settings shape.

    settings -> clients -> stores -> delivery and exposure -> web

Nothing here runs yet: `server` starts and stops it. There is one of each in a process, the Manager and
the clients of Redis and Pub/Sub included, because they are built here and passed in.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver import __version__
from pushserver.config import Settings
from pushserver.core.context import Handler
from pushserver.core.metrics import Metrics
from pushserver.core.names import pod_name_from_host
from pushserver.delivery.catch_up import CatchUp
from pushserver.delivery.census import Census
from pushserver.delivery.content import Contents
from pushserver.delivery.cursors import Cursors
from pushserver.delivery.drain import Drain
from pushserver.delivery.explain import Explainer
from pushserver.delivery.feed import Feed
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.lease import Lease
from pushserver.delivery.log_catch_up import LogCatchUp
from pushserver.delivery.log_follower import LogFollower
from pushserver.delivery.log_tail import LogTail
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.publish import Publisher
from pushserver.delivery.pushing import Pushing
from pushserver.delivery.questions import Answers
from pushserver.delivery.reaper import Reaper
from pushserver.delivery.recategorizing import Recategorizing
from pushserver.delivery.rescan import Rescan
from pushserver.delivery.session import Sessions
from pushserver.delivery.settle import Settler
from pushserver.delivery.tasks import Tasks
from pushserver.delivery.users import Users
from pushserver.door_parts import (
    Gate,
    build_asked_categories,
    build_door,
    build_issuer_keys,
    build_verifier,
    category_source,
)
from pushserver.exposure.outlet import Outlet
from pushserver.parts import (
    Stores,
    build_explainer,
    build_lease,
    build_outlet,
    build_publisher,
    build_reaper,
    build_stores,
    build_users,
    connection_limits,
)
from pushserver.web.asked_categories import AskedCategories
from pushserver.web.door import Door
from pushserver.web.issuer_keys import IssuerKeys
from pushserver.web.refresh import Refresh
from pushserver.web.tokens import TokenVerifier

__all__ = ["App", "build"]


@dataclass(slots=True)
class App:
    """Everything one process is made of."""

    settings: Settings
    pod: str
    metrics: Metrics
    stores: Stores
    tasks: Tasks
    manager: Manager
    presence: Presence
    lease: Lease
    reaper: Reaper
    rescan: Rescan
    contents: Contents
    tail: LogTail
    settler: Settler
    outlet: Outlet
    sessions: Sessions
    feeds: Feeds
    feed: Feed
    log_follower: LogFollower
    cursors: Cursors
    publisher: Publisher
    users: Users
    explainer: Explainer
    census: Census
    drain: Drain
    verifier: TokenVerifier
    door: Door
    issuer_keys: IssuerKeys | None
    """Those behind `auth.jwks_url`, if it is set."""
    asked_categories: AskedCategories | None
    """With the source http."""
    started: bool = False
    """Set by `server` when the pod may take traffic."""

    def not_ready(self) -> str:
        """Why this pod may not take traffic; empty if it may."""
        if self.door.admission.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self.stores.commands.away:
            return "redis is away"
        return "" if self.issuer_keys is None else self.issuer_keys.trouble

    async def disconnect(self) -> None:
        """Let go of the connections to Redis, and to whoever else was asked."""
        for asking in (self.issuer_keys, self.asked_categories):
            if asking is not None:
                await asking.close()
        await self.stores.close()

    def describe_pod(self) -> dict[str, object]:
        """This pod's figures of the moment."""
        return {
            "pod": self.pod,
            "boot": self.lease.boot,
            "version": __version__,
            "ready": not self.not_ready(),
            "connections": len(self.manager),
            "users": self.manager.user_count,
            "categories": self.manager.category_count,
            "unflushed_presence": self.presence.unflushed,
            "settle_waiting": self.settler.waiting,
            "hints_waiting": self.feeds.waiting,
            "cursors_waiting": self.cursors.waiting,
            "log_length": len(self.tail),
            "redis_waiting": self.stores.commands.waiting,
            "content_cache_bytes": self.contents.bytes,
            "tasks": len(self.tasks),
        }

    async def describe_exposures(self) -> dict[str, object]:
        """What waits in the exposure stream, of all pods. Raises `StoreError`."""
        exposure = self.settings.exposure
        waiting = await self.stores.exposures.length()
        return {"sink": exposure.sink, "waiting": waiting, "max": exposure.spool_max}


def build(settings: Settings, *, redis_url: str, pod: str = "", links: Sequence[Handler] = ()) -> App:
    """A whole pod. `links` are handlers of your own, run at the end of the chain, before the upgrade.

    Raises `ConfigError`.
    """
    pod = pod or settings.pod.name or pod_name_from_host(socket.gethostname(), settings.server.port)
    metrics = Metrics()
    stores = build_stores(settings, redis_url, pod, metrics)
    clock, tasks, manager = stores.clock, Tasks(metrics), Manager()
    page = settings.inbox.page
    presence = Presence(stores.presence, manager, clock, metrics, tasks, page=page)
    contents = Contents(
        stores.contents,
        clock,
        metrics,
        cache_bytes=settings.content.cache_bytes,
        max_bytes=settings.content.max_bytes,
        deflate_from=settings.server.deflate_threshold_bytes if settings.server.deflate else None,
    )
    outlet = build_outlet(settings, stores, pod, metrics)
    tail = LogTail(max_length=settings.log.max_length, retention_ms=settings.log.retention_s * 1000)
    cursors = Cursors(stores.cursors, tail, clock)
    settler = Settler(outlet, stores.inbox, clock, metrics, tasks, pod=pod, on_log_settled=cursors.settled)
    pushing = Pushing(contents, clock, metrics)
    recategorizing = Recategorizing(stores.categories.read, manager, tasks)
    issuer_keys = build_issuer_keys(settings, metrics)
    asked_categories = build_asked_categories(settings, metrics)
    verifier = build_verifier(settings, clock, issuer_keys)
    source = category_source(settings, stores, asked_categories)
    sessions = Sessions(
        pod=pod,
        manager=manager,
        presence=presence,
        inbox=stores.inbox,
        catch_up=CatchUp(stores.inbox, contents, pushing, metrics, page=page),
        log_catch_up=LogCatchUp(tail, pushing, metrics, recategorizing.moved),
        tail=tail,
        cursors=cursors,
        settler=settler,
        clock=clock,
        metrics=metrics,
        tasks=tasks,
        limits=connection_limits(settings),
        refresh=Refresh(verifier, source),
    )
    lease = build_lease(settings, stores, presence, metrics, pod)
    sessions.on_stale_categories = recategorizing.changed
    rescan = Rescan(
        stores.presence,
        manager,
        presence,
        sessions.look_again,
        every_s=settings.inbox.rescan_s,
        on_stale_categories=recategorizing.changed,
    )
    feeds = Feeds(stores.feeds, stores.presence, metrics, tasks)
    feed = Feed(
        stores.feeds,
        manager,
        contents,
        clock=clock,
        metrics=metrics,
        look_again=sessions.look_again,
        pushed=sessions.pushed,
        absent=presence.mark,
        kick=sessions.kick,
        recategorize=recategorizing.changed,
        recategorized=recategorizing.all_moved,
        on_gap=rescan.now,
        asked=Answers(manager, stores.replies, tasks, pod).answer,
    )
    lease.open_feed, lease.check_feed = feed.open, feed.check

    def registered_anew() -> None:
        rescan.now()
        cursors.write_anew(manager)

    lease.on_new_boot = registered_anew
    presence.on_taken_over = lease.check_soon
    gate = Gate(verifier, source, links, cursors.start)
    door = build_door(settings, sessions, presence, metrics, tasks=tasks, gate=gate)
    app = App(
        settings=settings,
        pod=pod,
        metrics=metrics,
        stores=stores,
        tasks=tasks,
        manager=manager,
        presence=presence,
        lease=lease,
        reaper=build_reaper(settings, stores, metrics),
        rescan=rescan,
        contents=contents,
        settler=settler,
        outlet=outlet,
        sessions=sessions,
        feeds=feeds,
        feed=feed,
        log_follower=LogFollower(
            stores.log,
            tail,
            manager,
            contents,
            clock=clock,
            metrics=metrics,
            look_again=sessions.look_again,
            pushed=sessions.pushed,
            feed_caught_up=feed.caught_up,
            moving=lambda: recategorizing.moving,
        ),
        cursors=cursors,
        tail=tail,
        publisher=build_publisher(settings, stores, feeds, metrics),
        users=build_users(settings, stores, feeds, manager),
        explainer=build_explainer(settings, stores, feeds),
        census=Census(manager),
        drain=Drain(manager, sessions.leaving, spread_s=settings.drain.spread_s),
        verifier=verifier,
        door=door,
        issuer_keys=issuer_keys,
        asked_categories=asked_categories,
    )
    _gauges(app)
    return app


def _gauges(app: App) -> None:
    read = app.metrics.read_at_scrape
    read("connections", "Open connections", lambda: len(app.manager))
    read("users", "Users with a connection here", lambda: app.manager.user_count)
    read("presence_unflushed", "Users whose presence is to be written", lambda: app.presence.unflushed)
    read("settle_waiting", "Confirmed messages that wait to be settled", lambda: app.settler.waiting)
    read("hints_waiting", "Hints that wait to be sent", lambda: app.feeds.waiting)
    read("reminders_waiting", "Reminders of planned pings", lambda: len(app.sessions.reminders))
    read("cursors_waiting", "Cursors of users that wait to be written", lambda: app.cursors.waiting)
    read("log_length", "Messages of the log in memory", lambda: len(app.tail))
    read("redis_waiting", "Commands that wait for Redis", lambda: app.stores.commands.waiting)
    read("redis_away", "1 while Redis does not answer", lambda: app.stores.commands.away)
    read("content_cache_bytes", "Bytes of contents in memory", lambda: app.contents.bytes)
    read("tasks", "Background tasks", lambda: len(app.tasks))
    if (keys := app.issuer_keys) is not None:
        read("jwks_age_seconds", "Since the keys of tokens were fetched", lambda: keys.age_s)
    if (asked := app.asked_categories) is not None:
        read("category_requests_waiting", "Who waits for categories by HTTP", lambda: asked.in_hand)

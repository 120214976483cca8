"""What tells a repeat of a publish from another message under the same id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pushserver.core.publication import Publication

TO_USERS = Publication("m-1", '"hi"', 60, users=("alice", "bob"))
TO_VIPS = Publication("m-1", '"hi"', 60, categories={"vip": ("3", "4"), "hall": ("h",)})


@pytest.mark.parametrize("publication", [TO_USERS, TO_VIPS])
def test_the_same_message_has_the_same_digest_whatever_its_id(publication: Publication) -> None:
    assert replace(publication, id="m-2").digest == publication.digest
    assert len(publication.digest) == 32


def test_the_order_in_which_users_or_categories_are_named_is_no_difference() -> None:
    assert replace(TO_USERS, users=("bob", "alice")).digest == TO_USERS.digest
    turned = {"hall": ("h",), "vip": ("4", "3")}
    assert replace(TO_VIPS, categories=turned).digest == TO_VIPS.digest


def test_whatever_a_message_says_and_for_whom_makes_another_digest() -> None:
    others = [
        replace(TO_USERS, content='"ho"'),
        replace(TO_USERS, ttl_s=61),
        replace(TO_USERS, offline=False),
        replace(TO_USERS, users=("alice",)),
        replace(TO_USERS, users=("alice", "bob", "carol")),
        replace(TO_USERS, users=("alice,bob",)),
        replace(TO_USERS, users=()),
        replace(TO_USERS, users=(), categories={}),
        replace(TO_USERS, users=(), categories={"vip": ("alice", "bob")}),
        TO_VIPS,
        replace(TO_VIPS, categories={"vip": ("3", "4")}),
        replace(TO_VIPS, categories={"vip": ("3",), "hall": ("h",)}),
        replace(TO_VIPS, categories={"vip": ("3", "4"), "agent": ("h",)}),
    ]
    digests = [one.digest for one in (TO_USERS, *others)]
    assert len(set(digests)) == len(digests)

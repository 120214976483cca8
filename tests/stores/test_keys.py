from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.names import check_username
from pushserver.stores.cluster import slot_of
from pushserver.stores.keys import Keys, pod_name, pod_of, presence_field
from tests.engines.redis_cluster import RedisCluster

KEYS = Keys("ps:")
OF_USER: list[Callable[[str], str]] = [
    KEYS.presence,
    KEYS.inbox,
    KEYS.seq,
    KEYS.seen,
    KEYS.missed,
    KEYS.parked,
    KEYS.blame,
    KEYS.categories,
    KEYS.cursor,
]
OF_POD: list[Callable[[str], str]] = [KEYS.pod, KEYS.pod_users, KEYS.feed]
HOSTILE = [
    "{alice}",
    "{}",
    "}{",
    "a%7Bb",
    "a{b",
    "{",
    "}",
    "%",
    "a:b:",
    "愛:麗絲",
    "inbox:{alice}",
    "{}alice",
]


def is_username(name: str) -> bool:
    try:
        check_username(name)
    except ValueError:
        return False
    return True


usernames = st.text(min_size=1, max_size=30).filter(is_username) | st.text("%{}:7BbDd25", min_size=1)


def test_the_keys_are_what_other_programs_know() -> None:
    assert [key("alice") for key in OF_USER] == [
        "ps:presence:{alice}",
        "ps:inbox:{alice}",
        "ps:seq:{alice}",
        "ps:seen:{alice}",
        "ps:missed:{alice}",
        "ps:parked:{alice}",
        "ps:blame:{alice}",
        "ps:categories:{alice}",
        "ps:cursor:{alice}",
    ]
    assert [key("pod-1") for key in OF_POD] == ["ps:pod:{pod-1}", "ps:pod-users:{pod-1}", "ps:feed:{pod-1}"]
    assert KEYS.content("m-1") == "ps:msg:m-1"
    assert KEYS.publish("m-1") == "ps:publish:{ps:msg:m-1}"
    assert (KEYS.pods, KEYS.boots, KEYS.exposures) == ("ps:pods", "ps:boots", "ps:exposures")
    assert (KEYS.log, KEYS.log_seen) == ("ps:log", "ps:log-seen:{ps:log}")


def test_every_key_begins_with_the_prefix() -> None:
    keys = Keys("other.1:")
    of_user = [key.__func__(keys, "alice") for key in OF_USER]  # type: ignore[attr-defined]
    of_pod = [key.__func__(keys, "pod-1") for key in OF_POD]  # type: ignore[attr-defined]
    of_message = [keys.content("1"), keys.publish("1")]
    whole = [keys.pods, keys.boots, keys.exposures, keys.log, keys.log_seen]
    for name in (*of_user, *of_pod, *of_message, *whole):
        assert name.startswith("other.1:")
        assert "ps:" not in name


def test_percent_and_braces_of_a_username_are_encoded() -> None:
    assert KEYS.inbox("a{b}c%d") == "ps:inbox:{a%7Bb%7Dc%25d}"


@pytest.mark.parametrize("user", ["alice", *HOSTILE])
def test_all_keys_of_a_user_are_in_one_slot_as_redis_computes_it(
    redis_cluster: RedisCluster, user: str
) -> None:
    with redis_cluster.nodes[0].client() as redis:
        slots = {redis.execute_command("CLUSTER KEYSLOT", key(user)) for key in OF_USER}
    assert slots == {slot_of((b"GET", KEYS.inbox(user).encode()))}


def test_all_keys_of_a_pod_are_in_one_slot_as_redis_computes_it(redis_cluster: RedisCluster) -> None:
    with redis_cluster.nodes[0].client() as redis:
        slots = {redis.execute_command("CLUSTER KEYSLOT", key("pod-1.example")) for key in OF_POD}
        whole = redis.execute_command("CLUSTER KEYSLOT", KEYS.pods)
    assert slots == {slot_of((b"GET", KEYS.pod("pod-1.example").encode()))}
    assert whole == slot_of((b"GET", KEYS.pods.encode()))


@pytest.mark.parametrize("message_id", ["m-1", ".", ":", "A:b.c_d-e", "x" * 64])
def test_a_content_and_the_record_of_its_publish_are_in_one_slot_as_redis_computes_it(
    redis_cluster: RedisCluster, message_id: str
) -> None:
    names = [KEYS.content(message_id), KEYS.publish(message_id)]
    with redis_cluster.nodes[0].client() as redis:
        slots = {redis.execute_command("CLUSTER KEYSLOT", name) for name in names}
    assert slots == {slot_of((b"GET", names[0].encode()))}


def test_the_log_and_what_it_has_seen_are_in_one_slot_as_redis_computes_it(
    redis_cluster: RedisCluster,
) -> None:
    with redis_cluster.nodes[0].client() as redis:
        slots = {redis.execute_command("CLUSTER KEYSLOT", name) for name in (KEYS.log, KEYS.log_seen)}
    assert slots == {slot_of((b"GET", KEYS.log.encode()))}


@given(usernames)
def test_all_keys_of_any_user_are_in_one_slot(user: str) -> None:
    assert len({slot_of((b"GET", key(user).encode())) for key in OF_USER}) == 1


@given(usernames, usernames)
def test_no_two_users_share_a_key(one: str, other: str) -> None:
    names = [key(user) for user in {one, other} for key in OF_USER]
    assert len(set(names)) == len(names)


def test_users_spread_over_the_slots() -> None:
    """A hash tag that is cut short (`{}`) would put many users in one slot."""
    slots = {
        slot_of((b"GET", KEYS.inbox(f"{user}-{number}").encode())) for user in HOSTILE for number in range(50)
    }
    assert len(slots) > 500


@given(usernames)
def test_a_presence_field_splits_at_its_last_colon(user: str) -> None:
    assert pod_of(presence_field(user, "pod-1.example").encode()) == "pod-1.example"


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"alice",
        b"alice:",
        b"alice:Pod",
        b"alice:{x}",
        b"alice:\xff",
        b"alice:pod 1",
        "alice:愛".encode(),
    ],
)
def test_what_is_no_presence_field_names_no_pod(field: bytes) -> None:
    assert pod_of(field) is None


@pytest.mark.parametrize("name", [b"alice:pod-1", b"", b"\xff", b"Pod", b"-pod", b"x" * 64])
def test_what_is_no_pod_name_is_none(name: bytes) -> None:
    assert pod_name(name) is None

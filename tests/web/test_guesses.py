"""How many wrong API keys one address may bring."""

from __future__ import annotations

from pushserver.web.guesses import MAX_ADDRESSES, MAX_GUESSES, Guesses


def test_an_address_may_be_wrong_so_often_in_a_minute_and_no_oftener() -> None:
    now = 119.0
    guesses = Guesses(lambda: now)
    for _ in range(MAX_GUESSES):
        assert not guesses.exhausted("192.0.2.1")
        guesses.wrong("192.0.2.1")
    assert guesses.exhausted("192.0.2.1")
    assert not guesses.exhausted("192.0.2.2")
    now = 120.0
    assert not guesses.exhausted("192.0.2.1")


def test_the_count_of_a_minute_that_is_over_is_forgotten_by_a_wrong_key_too() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    for _ in range(MAX_GUESSES - 1):
        guesses.wrong("192.0.2.1")
    now = 60.0
    guesses.wrong("192.0.2.1")
    assert not guesses.exhausted("192.0.2.1")


def test_an_address_that_was_right_before_is_never_exhausted() -> None:
    guesses = Guesses(lambda: 0.0)
    guesses.right("192.0.2.1")
    for _ in range(MAX_GUESSES):
        guesses.wrong("192.0.2.1")
        guesses.wrong("192.0.2.2")
    assert not guesses.exhausted("192.0.2.1")
    assert guesses.exhausted("192.0.2.2")


def test_so_many_addresses_are_remembered_and_no_more() -> None:
    guesses = Guesses(lambda: 0.0)
    for number in range(MAX_ADDRESSES * 3):
        guesses.wrong(str(number))
        guesses.right(str(number))
        guesses.exhausted(f"another {number}")
        assert len(guesses._wrong) <= MAX_ADDRESSES
        assert len(guesses._right) <= MAX_ADDRESSES

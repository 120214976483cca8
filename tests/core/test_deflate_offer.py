"""Which offer of permessage-deflate is accepted, and how (RFC 7692 section 7.1)."""

from __future__ import annotations

import pytest

from pushserver.core.deflate import MAX_DEFLATED_BYTES
from pushserver.core.deflate_offer import agree
from tests.cpu_time import at_most, measured_again

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

ACCEPTED = {
    "permessage-deflate": ANSWER,
    " permessage-deflate ": ANSWER,
    "permessage-deflate; client_max_window_bits": ANSWER,
    "permessage-deflate;client_max_window_bits=15": ANSWER,
    "permessage-deflate; client_max_window_bits=8": ANSWER,
    'permessage-deflate; client_max_window_bits="10"': ANSWER,
    r'permessage-deflate; client_max_window_bits="1\0"': ANSWER,
    "permessage-deflate; server_no_context_takeover": ANSWER,
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover": ANSWER,
    "permessage-deflate\t;\tclient_max_window_bits\t=\t9": ANSWER,
    "permessage-deflate; server_max_window_bits=15": f"{ANSWER}; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=10; client_max_window_bits": (
        f"{ANSWER}; server_max_window_bits=10"
    ),
    'permessage-deflate; server_max_window_bits="8"': f"{ANSWER}; server_max_window_bits=8",
}  # fmt: skip


@pytest.mark.parametrize("offer", ACCEPTED)
def test_an_offer_that_is_as_the_rfc_has_it_is_accepted(offer: str) -> None:
    agreement = agree([offer])
    assert agreement is not None
    assert agreement.answer == ACCEPTED[offer]


DECLINED = [
    "",
    ",",
    ";",
    "x-webkit-deflate-frame",
    "permessage-deflat",
    "Permessage-Deflate",
    "permessage-deflate=1",
    "permessage-deflate client_max_window_bits",
    "permessage-deflate;",
    "permessage-deflate;;client_max_window_bits",
    "permessage-deflate; unknown",
    "permessage-deflate; unknown=1",
    "permessage-deflate; client_max_window_bits; unknown",
    "permessage-deflate; =15",
    # twice
    "permessage-deflate; client_max_window_bits; client_max_window_bits",
    "permessage-deflate; client_max_window_bits=15; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    # values
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; server_no_context_takeover=",
    "permessage-deflate; client_no_context_takeover=true",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=08",
    "permessage-deflate; server_max_window_bits=+9",
    "permessage-deflate; server_max_window_bits=-9",
    "permessage-deflate; server_max_window_bits=1_0",
    "permessage-deflate; server_max_window_bits=1e1",
    "permessage-deflate; server_max_window_bits=10.0",
    "permessage-deflate; server_max_window_bits=\u0661\u0660",
    "permessage-deflate; server_max_window_bits=10 10",
    "permessage-deflate; client_max_window_bits=",
    "permessage-deflate; client_max_window_bits=0",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; client_max_window_bits=015",
    # quotes
    'permessage-deflate; client_max_window_bits="',
    'permessage-deflate; client_max_window_bits="10',
    'permessage-deflate; client_max_window_bits=10"',
    'permessage-deflate; client_max_window_bits=""',
    'permessage-deflate; client_max_window_bits=" 10"',
    'permessage-deflate; client_max_window_bits="1,0"',
    '"permessage-deflate"',
    'other; x=", permessage-deflate; y="',
    "permessage-deflate; client_max_window_bits='10'",
    "permessage-deflate\x00",
    "permessage-deflate\u00e9",
]


@pytest.mark.parametrize("offer", DECLINED)
def test_an_offer_that_is_not_is_declined_and_the_next_one_considered(offer: str) -> None:
    assert agree([offer]) is None
    following = "permessage-deflate; server_max_window_bits=9"
    for lines in ([f"{offer}, {following}"], [offer, following], [offer, "", f"other, {following}"]):
        if offer.count('"') % 2:
            continue
        agreement = agree(lines)
        assert agreement is not None
        assert agreement.answer.endswith("server_max_window_bits=9")


def test_without_an_offer_there_is_no_agreement() -> None:
    assert agree([]) is None
    assert agree(["", " , "]) is None


def test_the_first_offer_that_is_good_is_taken() -> None:
    lines = [
        "other, permessage-deflate; x",
        "permessage-deflate; server_max_window_bits=12, permessage-deflate",
    ]
    agreement = agree(lines)
    assert agreement is not None
    assert agreement.answer.endswith("server_max_window_bits=12")


@pytest.mark.parametrize("bits", range(8, 16))
def test_what_does_not_fit_the_clients_window_is_not_to_be_compressed(bits: int) -> None:
    agreement = agree([f"permessage-deflate; server_max_window_bits={bits}"])
    assert agreement is not None
    assert agreement.most == (MAX_DEFLATED_BYTES if bits == 15 else 2**bits)


@measured_again
@pytest.mark.parametrize(
    "line",
    [
        "permessage-deflate; x, " * 2000,
        "permessage-deflate" + "; client_max_window_bits" * 2000,
        'permessage-deflate; x="' * 2000,
        "permessage-deflate; client_max_window_bits=" + '"\\' * 16_000,
        "," * 32_000,
        ";" * 32_000,
    ],
    ids=["offers", "parameters", "quotes", "escapes", "commas", "semicolons"],
)
def test_offers_that_fill_a_head_take_no_time(line: str) -> None:
    at_most(0.05, lambda: agree([line]))

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pushserver.core.errors import ConfigError
from pushserver.web.token_keys import load_keys
from pushserver.web.tokens import TokenVerifier
from tests.web.issuer import ALGORITHMS, NOW, private_key, private_pem, public_pem, written

SECRET = b"0123456789abcdef0123456789abcdef"
OLD_SECRET = b"fedcba9876543210fedcba9876543210"


def refused_setting(*algorithms: str, **given: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_keys(algorithms, **given)
    return caught.value


def test_the_secret_comes_before_the_previous_one() -> None:
    keys = load_keys(["HS256"], secret=SECRET, previous_secret=OLD_SECRET)
    assert [key.key for key in keys] == [SECRET, OLD_SECRET]


def test_a_key_does_not_show_itself() -> None:
    assert SECRET.decode() not in repr(load_keys(["HS256"], secret=SECRET))


@pytest.mark.parametrize(
    "algorithms", [[], ["none"], ["HS512"], ["hs256"], ["HS256", "PS256"], [""]], ids=str
)
def test_only_known_algorithms_can_be_listed(algorithms: list[str]) -> None:
    assert refused_setting(*algorithms, secret=SECRET).setting == "auth.algorithms"


def test_hs256_needs_a_secret() -> None:
    assert refused_setting("HS256").setting == "auth.secret"
    assert refused_setting("HS256", previous_secret=OLD_SECRET).setting == "auth.secret"


def test_a_secret_has_at_least_32_bytes() -> None:
    assert refused_setting("HS256", secret=SECRET[:31]).setting == "auth.secret"
    short = refused_setting("HS256", secret=SECRET, previous_secret=OLD_SECRET[:31])
    assert short.setting == "auth.previous_secret"
    assert OLD_SECRET[:31].decode() not in str(short)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_public_key_cannot_be_the_secret(encoding: Encoding) -> None:
    secret = public_pem(private_key("RS256"), encoding)
    assert refused_setting("HS256", secret=secret).setting == "auth.secret"


def test_a_secret_that_nothing_uses_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, public_pem(private_key("RS256")))
    for setting in ("secret", "previous_secret"):
        unused = refused_setting("RS256", public_key_file=file, **{setting: SECRET})
        assert unused.setting == f"auth.{setting}"


def test_a_public_key_that_nothing_uses_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, public_pem(private_key("RS256")))
    unused = refused_setting("HS256", secret=SECRET, public_key_file=file)
    assert unused.setting == "auth.public_key_file"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_algorithm_needs_its_file(algorithm: str, tmp_path: Path) -> None:
    assert refused_setting(algorithm).setting == "auth.public_key_file"
    missing = refused_setting(algorithm, public_key_file=str(tmp_path / "none.pem"))
    assert missing.setting == "auth.public_key_file"
    assert "No such file" in missing.reason


@pytest.mark.parametrize(
    "algorithm, owner",
    [(algorithm, owner) for algorithm in ALGORITHMS for owner in ALGORITHMS if algorithm != owner]
    + [("RS256", "short RSA"), ("ES256", "P-384")],
)
def test_a_public_key_of_another_type_is_refused(algorithm: str, owner: str, tmp_path: Path) -> None:
    file = written(tmp_path, public_pem(private_key(owner)))
    wrong = refused_setting(algorithm, public_key_file=file)
    assert wrong.setting == "auth.public_key_file"
    assert wrong.reason.startswith(f"{algorithm} needs ")


def test_one_file_cannot_serve_two_types(tmp_path: Path) -> None:
    file = written(tmp_path, public_pem(private_key("RS256")))
    assert refused_setting("RS256", "ES256", public_key_file=file).reason.startswith("ES256 needs ")


def test_keys_behind_a_url_need_no_file_and_bear_none_beside_them(tmp_path: Path) -> None:
    url = "https://issuer.example/keys"
    assert load_keys(["ES256", "RS256"], jwks_url=url) == ()
    assert [key.algorithm for key in load_keys(["HS256", "ES256"], secret=SECRET, jwks_url=url)] == ["HS256"]
    file = written(tmp_path, public_pem(private_key("ES256")))
    assert refused_setting("ES256", public_key_file=file, jwks_url=url).setting == "auth.jwks_url"
    assert refused_setting("HS256", secret=SECRET, jwks_url=url).setting == "auth.jwks_url"


def test_ed448_is_an_eddsa_key(tmp_path: Path) -> None:
    key = private_key("Ed448")
    keys = load_keys(["EdDSA"], public_key_file=written(tmp_path, public_pem(key)))
    token = jwt.encode({"sub": "alice", "exp": NOW + 60}, key, "EdDSA")
    assert TokenVerifier(keys, now=lambda: NOW).verify(token).username == "alice"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_private_key_is_refused_even_beside_the_public_one(algorithm: str, tmp_path: Path) -> None:
    private, public = private_pem(private_key(algorithm)), public_pem(private_key(algorithm))
    for content in (private, public + private):
        wrong = refused_setting(algorithm, public_key_file=written(tmp_path, content))
        assert wrong.setting == "auth.public_key_file"
        assert "private key" in wrong.reason


@pytest.mark.parametrize(
    "content",
    [b"", b"ssh-ed25519 AAAA", b"\xff\x00", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"],
)
def test_a_file_without_a_public_key_is_refused(content: bytes, tmp_path: Path) -> None:
    wrong = refused_setting("EdDSA", public_key_file=written(tmp_path, content))
    assert wrong.setting == "auth.public_key_file"
    assert wrong.reason == "holds no public key in PEM"

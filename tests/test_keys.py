from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import os
import secrets
import stat
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.keys import Key, KeyFileRefused, KeyRing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def base64url(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def jwk(key_id: str, key: bytes | None = None, **members: object) -> dict[str, object]:
    k = base64url(secrets.token_bytes(32) if key is None else key)
    return {"kty": "oct", "kid": key_id, "alg": "HS256", "k": k} | members


def write(path: Path, *keys: dict[str, object], mode: int = 0o600) -> None:
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(mode)


def refusal(path: Path) -> str:
    with pytest.raises(KeyFileRefused) as refused:
        KeyRing.open(path)
    sentence = str(refused.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    return sentence


# -- making the file -------------------------------------------------------------------------


def test_the_first_start_makes_one_strong_key_for_the_owner_alone(path: Path) -> None:
    made = KeyRing.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = json.loads(path.read_text())["keys"]
    assert (key["kty"], key["alg"], key["kid"]) == ("oct", "HS256", made.signing_id)
    assert made.signing == base64.urlsafe_b64decode(key["k"] + "=")
    assert len(made.signing) == 32


def test_the_next_start_finds_the_same_key(path: Path) -> None:
    assert KeyRing.open(path).signing == KeyRing.open(path).signing


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    one, other = (KeyRing.open(tmp_path / name) for name in ("a.json", "b.json"))
    assert one.signing != other.signing
    assert one.signing_id != other.signing_id


def test_the_rights_never_were_wider_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing.open(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    KeyRing.open(path)
    assert list(path.parent.iterdir()) == [path]


def open_when_all_are_ready(path: Path, barrier: Barrier, queue: Queue[bytes]) -> None:
    barrier.wait()
    queue.put(KeyRing.open(path).signing)


def test_servers_that_start_at_once_get_one_key(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    count = 4
    barrier, queue = context.Barrier(count), context.Queue()
    starters = [
        context.Process(target=open_when_all_are_ready, args=(path, barrier, queue))
        for _ in range(count)
    ]
    for starter in starters:
        starter.start()
    keys = {queue.get(timeout=60) for _ in starters}
    for starter in starters:
        starter.join()
    assert keys == {KeyRing.open(path).signing}
    assert list(path.parent.iterdir()) == [path]


def test_who_comes_second_while_the_file_is_made_takes_the_first_ones_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = KeyRing.open(path)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert KeyRing.open(path).signing == first.signing
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(tmp_path / "missing" / "keys.json")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)


# -- reading it ------------------------------------------------------------------------------


def test_the_first_key_signs_and_every_key_is_found(path: Path) -> None:
    write(path, jwk("new"), jwk("old"))
    ring = KeyRing.open(path)
    assert ring.signing_id == "new"
    assert ring.find("new") == ring.signing
    assert ring.find("old") not in (None, ring.signing)
    assert [ring.find(kid) for kid in ("other", "", None, 1, ["new"])] == [None] * 5


def test_other_members_of_a_key_are_ignored_and_alg_may_be_missing(path: Path) -> None:
    key = jwk("one", use="sig", key_ops=["sign", "verify"])
    del key["alg"]
    write(path, key)
    assert KeyRing.open(path).signing_id == "one"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    write(path, jwk("one"), mode=mode)
    assert "chmod 600" in refusal(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_read(path: Path, mode: int) -> None:
    write(path, jwk("one"), mode=mode)
    assert KeyRing.open(path).signing_id == "one"


@pytest.mark.parametrize(
    ("key", "flaw"),
    [
        (b"", "base64url"),
        (bytes(range(31)), "fewer than 32 bytes"),
        (bytes(32), "pattern"),
        (b"\xff" * 32, "pattern"),
        (b"\x01\x80\x30\xff" * 16, "pattern"),
        (bytes(range(200, 216)) * 2, "pattern"),
        (bytes(range(200, 217)) * 3, "pattern"),
        (bytes(range(128, 192)), "pattern"),
        (bytes(range(255, 127, -3)), "pattern"),
        (bytes(128 + byte % 8 for byte in hashlib.sha256(b"").digest()), "pattern"),
        (b"secret" * 6, "pattern"),
        (b"Tr0ub4dor&3 and other secret words", "is a text"),
        (b"this is a very long secret passphrase", "is a text"),
        (b"a-string-secret-at-least-256-bits-long", "is a text"),
        (b"0123456789abcdef0123456789abcdef", "pattern"),
    ],
)
def test_a_weak_key_is_refused(path: Path, key: bytes, flaw: str) -> None:
    write(path, jwk("one"), jwk("weak", key))
    sentence = refusal(path)
    assert flaw in sentence
    assert "'weak'" in sentence


def test_the_key_in_the_rfc_is_refused(path: Path) -> None:
    published = (
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
    )
    write(path, jwk("one", k=published))
    assert "published" in refusal(path)


@pytest.mark.parametrize("k", ["a" * 42 + "=", "+/" * 30, "a" * 41, "é" * 43, "a b" * 20])
def test_a_key_that_is_not_base64url_is_refused(path: Path, k: str) -> None:
    write(path, jwk("one", k=k))
    assert "base64url" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"keys"',
        "{}",
        '{"keys": {}}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "oct"}]}',
        '{"keys": [{"kty": "RSA", "kid": "a", "k": "AA"}]}',
        '{"keys": [{"kty": "oct", "kid": "a", "k": "AA", "alg": "none"}]}',
        '{"keys": [{"kty": "oct", "kid": "", "k": "AA"}]}',
        '{"keys": [{"kty": "oct", "kid": 1, "k": "AA"}]}',
    ],
)
def test_what_is_no_key_set_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    assert "is not a JWK Set of HS256 keys" in refusal(path)


def test_an_empty_set_is_refused(path: Path) -> None:
    write(path)
    assert "holds no key" in refusal(path)


def test_one_kid_for_two_keys_is_refused(path: Path) -> None:
    write(path, jwk("one"), jwk("one"))
    assert "one kid for two keys" in refusal(path)


def test_no_error_and_no_text_form_shows_a_key(path: Path) -> None:
    weak = jwk("weak", b"secret-secret-secret-secret-secret")
    write(path, weak)
    assert str(weak["k"]) not in refusal(path)
    assert repr(Key(kty="oct", key_id="one", k="hush")) == "Key('one')"


@given(st.randoms(use_true_random=True))
def test_a_random_key_is_never_taken_for_a_weak_one(
    tmp_path_factory: pytest.TempPathFactory, random: Random
) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write(path, jwk("one", random.randbytes(32)))
    assert KeyRing.open(path).signing_id == "one"


def test_fingerprints_tell_keys_apart_and_not_what_they_are(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "one.json")
    other = KeyRing.open(tmp_path / "other.json")
    (fingerprint,) = ring.fingerprints()
    assert fingerprint.startswith(ring.signing_id)
    assert fingerprint not in other.fingerprints()
    assert KeyRing.open(tmp_path / "one.json").fingerprints() == [fingerprint]
    assert ring.signing.hex() not in fingerprint

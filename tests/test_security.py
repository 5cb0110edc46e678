from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import jwt
import pytest
from passlib.context import CryptContext
from passlib.hash import argon2
from tornado.ioloop import IOLoop

from chatd import security
from chatd.errors import Unauthenticated, Unavailable
from chatd.keys import KeyRing
from chatd.models import User, now_ms
from chatd.security import Claims, Passwords, Tokens, Verified, check_password

PASSWORD = "correct horse battery staple"
RIGHT, WRONG = Verified(ok=True, rehash=False), Verified(ok=False, rehash=False)


# -- passwords -------------------------------------------------------------------------------


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(queue_limit=5)
    yield passwords
    passwords.close()


async def test_only_the_password_itself_is_right(io_loop: IOLoop, passwords: Passwords) -> None:
    hashed = await passwords.hash(PASSWORD)
    assert await passwords.verify(PASSWORD, hashed) == RIGHT
    for wrong in (PASSWORD + " ", PASSWORD.upper(), PASSWORD[:-1], hashed):
        assert await passwords.verify(wrong, hashed) == WRONG


async def test_a_hash_is_salted_argon2id_of_the_documented_cost(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    one, other = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert one != other
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_password_counts_to_its_last_character(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    """bcrypt would cut it at 72 bytes."""
    long = "ü" * 127
    hashed = await passwords.hash(long + "a")
    assert await passwords.verify(long + "b", hashed) == WRONG
    assert await passwords.verify(long + "a", hashed) == RIGHT


async def test_the_unicode_forms_of_a_password_are_one(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    hashed = await passwords.hash("caf\u00e9 \ufb01n A")
    assert await passwords.verify("cafe\u0301 fin \uff21", hashed) == RIGHT


async def test_an_outdated_hash_is_told_when_the_password_is_right(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    outdated = argon2.using(type="ID", memory_cost=8192, time_cost=1, parallelism=1).hash(PASSWORD)
    assert await passwords.verify(PASSWORD, outdated) == Verified(ok=True, rehash=True)
    assert await passwords.verify("another password", outdated) == WRONG


async def test_an_account_that_does_not_exist_is_as_much_work_and_never_right(
    io_loop: IOLoop, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = await passwords.hash(PASSWORD)
    costs: list[str] = []
    original = CryptContext.verify

    def verify(context: CryptContext, secret: str, password_hash: str | None) -> bool:
        if password_hash is not None:
            costs.append(password_hash.rsplit("$", 2)[0])
        return bool(original(context, secret, password_hash))

    monkeypatch.setattr(CryptContext, "verify", verify)
    assert await passwords.verify(PASSWORD, None) == WRONG
    assert await passwords.verify("another password", hashed) == WRONG
    assert costs == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


@pytest.mark.parametrize("text", ["", "short", "a" * 129, "NUL\0in it", "\ud800" * 8, "a" * 60_000])
async def test_what_can_not_be_a_password_is_never_right_and_never_hashed(
    io_loop: IOLoop, passwords: Passwords, text: str
) -> None:
    hashed = await passwords.hash(PASSWORD)
    assert await passwords.verify(text, hashed) == WRONG
    with pytest.raises(ValueError, match=r"^A password "):
        await passwords.hash(text)


@pytest.mark.parametrize(
    "text", ["12345678", "a" * 128, "пароль€𝄞𝄞", "\t\n\r\x7f    ", "e\u0301" * 8]
)
def test_8_to_128_characters_of_any_script_are_a_password(text: str) -> None:
    check_password(text)


@pytest.mark.parametrize("text", ["1234567", "a" * 129, "e\u0301" * 7])
def test_a_password_has_8_to_128_characters(text: str) -> None:
    with pytest.raises(ValueError, match=r"^A password has 8 to 128 characters\.$"):
        check_password(text)


@pytest.mark.parametrize("text", ["1234567\0", "1234567\udfff"])
def test_a_password_holds_neither_nul_nor_lone_surrogates(text: str) -> None:
    with pytest.raises(ValueError, match="neither NUL nor half a surrogate pair"):
        check_password(text)


@pytest.mark.parametrize(
    "password",
    [
        "12345678",
        "qwertyuiop",
        "QwertyUIOP",
        "ｑｗｅｒｔｙｕｉｏｐ",
        "iloveyou",
        "straße@example.org",
        "STRASSE@example.org",
        "Ｓtraße@example.org",
    ],
)
async def test_a_common_password_and_ones_own_address_are_guessable(
    io_loop: IOLoop, passwords: Passwords, password: str
) -> None:
    assert await passwords.is_guessable(password, "straße@example.org")


async def test_the_name_in_ones_address_is_guessable(io_loop: IOLoop, passwords: Passwords) -> None:
    assert await passwords.is_guessable("Maximilian", "maximilian@example.org")
    assert not await passwords.is_guessable("maximilian@example.org", "ann@example.org")


@pytest.mark.parametrize(
    "password", [PASSWORD, "ann@example.org", "qwertyuiop 7", "пароль→𝄞𝄞", "lovely", "        x"]
)
async def test_other_passwords_are_not_guessable(
    io_loop: IOLoop, passwords: Passwords, password: str
) -> None:
    assert not await passwords.is_guessable(password, "bob@example.org")


def test_3000_passwords_are_common_and_each_could_be_one() -> None:
    common = security._common_passwords()
    assert len(common) == 3000
    for one in common:
        check_password(one)
        assert one == unicodedata.normalize("NFKC", one).casefold()


async def test_a_full_queue_tells_nobody_that_a_password_is_good(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    hashing = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.is_guessable("qwertyuiop", "ann@example.org")
    await asyncio.gather(*hashing)


async def test_one_thread_hashes_while_the_loop_goes_on(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    before = threading.active_count()
    hashing = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(6)]
    turns = 0
    while not all(task.done() for task in hashing):
        turns += 1
        assert threading.active_count() <= before + 1
        await asyncio.sleep(0.001)
    assert turns > 6


async def test_a_full_queue_refuses_and_says_when_to_come_back(
    io_loop: IOLoop, passwords: Passwords
) -> None:
    hashed = await passwords.hash(PASSWORD)
    verifying = [asyncio.create_task(passwords.verify(PASSWORD, hashed)) for _ in range(6)]
    await asyncio.sleep(0)
    for refused in (passwords.verify(PASSWORD, hashed), passwords.hash(PASSWORD)):
        with pytest.raises(Unavailable) as unavailable:
            await refused
        assert unavailable.value.retry_after >= 1
    assert await asyncio.gather(*verifying) == [RIGHT] * 6
    assert await passwords.verify(PASSWORD, hashed) == RIGHT


async def test_who_gives_up_waiting_makes_room(io_loop: IOLoop, passwords: Passwords) -> None:
    verifying = [asyncio.create_task(passwords.verify(PASSWORD, None)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in verifying:
        task.cancel()
    await asyncio.gather(*verifying, return_exceptions=True)
    hashed = await passwords.hash(PASSWORD)
    assert await asyncio.gather(*(passwords.verify(PASSWORD, hashed) for _ in range(5)))


async def test_closing_ends_the_thread(io_loop: IOLoop) -> None:
    before = threading.active_count()
    passwords = Passwords()
    await passwords.hash(PASSWORD)
    assert threading.active_count() == before + 1
    passwords.close()
    assert threading.active_count() == before


# -- tokens ----------------------------------------------------------------------------------

ANN = User(id="0190-ann", email="ann@example.org", password_hash="", created_at=0, generation=3)
SECONDS = 3600


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "keys.json")


@pytest.fixture
def tokens(keys: KeyRing) -> Tokens:
    return Tokens(keys, "chatd", SECONDS)


def seconds() -> int:
    return now_ms() // 1000


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(
    keys: KeyRing, header: Mapping[str, object] = {}, claims: Mapping[str, object] = {}
) -> str:
    """A token signed with the server's own key, but for these headers and claims (None: left out).

    Made by hand: pyjwt would refuse to make some of them.
    """
    now = seconds()
    head = {"alg": "HS256", "typ": "JWT", "kid": keys.signing_id}
    names = {"iss": "chatd", "aud": "chatd", "sub": "0190-ann", "jti": "1", "gen": 3}
    times = {"iat": now, "nbf": now, "exp": now + SECONDS}
    return sign({**head, **header}, {**names, **times, **claims}, keys.signing)


def sign(
    head: Mapping[str, object], body: Mapping[str, object], key: bytes, digest: str = "sha256"
) -> str:
    parts = [{k: v for k, v in part.items() if v is not None} for part in (head, body)]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(hmac.digest(key, signed.encode(), digest))}"


def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        tokens.verify(token)
    sentence = refused.value.detail
    assert not any(part in sentence for part in token.split(".") if part)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    return sentence


def test_a_token_says_who_and_until_when(tokens: Tokens) -> None:
    now = 1_800_000_000_123
    token, claims = tokens.issue(ANN, now)
    assert claims == Claims(
        subject=ANN.id,
        token_id=claims.token_id,
        generation=3,
        issued_at=1_800_000_000_000,
        expires_at=1_800_000_000_000 + SECONDS * 1000,
    )
    assert token.count(".") == 2


def test_a_token_verifies_to_what_it_was_issued_with(tokens: Tokens) -> None:
    token, claims = tokens.issue(ANN)
    assert tokens.verify(token) == claims


def test_every_token_has_its_own_id(tokens: Tokens) -> None:
    ids = {tokens.issue(ANN, 0).claims.token_id for _ in range(100)}
    assert len(ids) == 100


def test_a_token_made_by_hand_verifies(tokens: Tokens, keys: KeyRing) -> None:
    """So that the refusals below are for what is wrong with each, and for nothing else."""
    assert tokens.verify(forged(keys)).subject == "0190-ann"
    assert tokens.verify(forged(keys, claims={"extra": "ignored"})).subject == "0190-ann"


def test_a_token_that_expired_says_sign_in_again(tokens: Tokens) -> None:
    old = tokens.issue(ANN, now_ms() - SECONDS * 1000)
    assert refusal(tokens, old.token) == "The token has expired: sign in again."


def test_the_clock_of_the_issuer_may_be_a_minute_ahead(tokens: Tokens) -> None:
    token, claims = tokens.issue(ANN, now_ms() + 55_000)
    assert tokens.verify(token) == claims


def test_a_token_from_the_future_blames_the_clock(tokens: Tokens) -> None:
    assert "clock" in refusal(tokens, tokens.issue(ANN, now_ms() + 70_000).token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_neither_time_of_a_token_lies_in_the_future(
    tokens: Tokens, keys: KeyRing, claim: str
) -> None:
    assert "clock" in refusal(tokens, forged(keys, claims={claim: seconds() + 70}))


def test_a_changed_token_is_refused(tokens: Tokens) -> None:
    head, body, signature = tokens.issue(ANN).token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64url(json.dumps(claims | {"sub": "0190-eve"}).encode())
    for token in (
        f"{head}.{other}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
        f".{body}.{signature}",
        f"{head}..{signature}",
        f"{head}.{body}.{signature}.{signature}",
    ):
        refusal(tokens, token)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "abc", "a.b.c", "é.é.é", "\ud800", "\0", "a" * 5000, "e30.e30.e30"],
)
def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(Unauthenticated, match=r"^This is not a token of this server: sign in\.$"):
        tokens.verify(token)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 1, ["HS256"]])
@pytest.mark.parametrize("signed", [True, False])
def test_a_token_can_not_do_without_the_algorithm(
    tokens: Tokens, keys: KeyRing, alg: object, signed: bool
) -> None:
    token = forged(keys, {"alg": alg})
    refusal(tokens, token if signed else token.rpartition(".")[0] + ".")


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_another_hmac_is_refused_even_with_the_right_key(
    tokens: Tokens, keys: KeyRing, alg: str
) -> None:
    head = {"alg": alg, "typ": "JWT", "kid": keys.signing_id}
    body = jwt.decode(forged(keys), options={"verify_signature": False})
    refusal(tokens, sign(head, body, keys.signing, alg.replace("HS", "sha")))


@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256", "EdDSA", "hs256", "dir"])
def test_the_name_of_another_algorithm_is_refused(tokens: Tokens, keys: KeyRing, alg: str) -> None:
    refusal(tokens, forged(keys, {"alg": alg}))


@pytest.mark.parametrize("kid", [None, "", "other", 1, True, ["a"], {"a": 1}, "../../dev/null"])
def test_a_kid_that_is_not_ours_is_refused(tokens: Tokens, keys: KeyRing, kid: object) -> None:
    refusal(tokens, forged(keys, {"kid": kid}))


@pytest.mark.parametrize("typ", [None, "", "jwt", "at+jwt", "JOSE", 1])
def test_another_type_is_refused(tokens: Tokens, keys: KeyRing, typ: object) -> None:
    refusal(tokens, forged(keys, {"typ": typ}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jku", "https://evil.example/keys"),
        ("jwk", {"kty": "oct", "k": "AAAA"}),
        ("x5u", "https://evil.example/cert"),
        ("x5c", ["AAAA"]),
        ("x5t", "AAAA"),
        ("crit", ["exp"]),
        ("crit", []),
        ("b64", True),
        ("b64", False),
        ("zip", "DEF"),
        ("cty", "JWT"),
    ],
)
def test_any_other_header_is_refused(
    tokens: Tokens, keys: KeyRing, name: str, value: object
) -> None:
    refusal(tokens, forged(keys, {name: value}))


CLAIMS = ["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "gen"]


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_required(tokens: Tokens, keys: KeyRing, claim: str) -> None:
    refusal(tokens, forged(keys, claims={claim: None}))


@pytest.mark.parametrize("value", [True, [], {}, 1.5, "", -1, ["chatd"], 1e400])
@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_typed(tokens: Tokens, keys: KeyRing, claim: str, value: object) -> None:
    refusal(tokens, forged(keys, claims={claim: value}))


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat", "gen"])
def test_a_number_is_no_text_and_no_fraction(tokens: Tokens, keys: KeyRing, claim: str) -> None:
    for value in (str(seconds() - 10), seconds() + 10.0):
        refusal(tokens, forged(keys, claims={claim: value}))


@pytest.mark.parametrize("claim", ["iss", "sub", "jti"])
def test_a_text_is_no_number(tokens: Tokens, keys: KeyRing, claim: str) -> None:
    refusal(tokens, forged(keys, claims={claim: 7}))


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [253_402_300_800, 2**63, 2**64, 10**400])
def test_a_time_that_no_calendar_has_is_refused(
    tokens: Tokens, keys: KeyRing, claim: str, value: int
) -> None:
    refusal(tokens, forged(keys, claims={claim: value}))


@pytest.mark.parametrize("claims", [{"iss": "other"}, {"aud": "other"}, {"iss": "Chatd"}])
def test_a_token_for_somebody_else_is_refused(
    tokens: Tokens, keys: KeyRing, claims: dict[str, str]
) -> None:
    refusal(tokens, forged(keys, claims=claims))


def test_a_token_of_another_installation_is_refused(tokens: Tokens, tmp_path: Path) -> None:
    other = KeyRing.open(tmp_path / "other.json")
    refusal(tokens, Tokens(other, "chatd", SECONDS).issue(ANN).token)


def test_a_token_with_our_kid_and_another_key_is_refused(tokens: Tokens, keys: KeyRing) -> None:
    head = {"alg": "HS256", "typ": "JWT", "kid": keys.signing_id}
    body = jwt.decode(forged(keys), options={"verify_signature": False})
    for key in (secrets.token_bytes(32), b"", hashlib.sha256(keys.signing).digest()):
        refusal(tokens, sign(head, body, key))


def test_a_body_that_is_no_object_is_refused(tokens: Tokens, keys: KeyRing) -> None:
    head = base64url(json.dumps({"alg": "HS256", "typ": "JWT", "kid": keys.signing_id}).encode())
    for body in (b"[]", b"null", b"{", b'{"exp": NaN}', b"[" * 3000, b"\xff"):
        signed = f"{head}.{base64url(body)}"
        signature = base64url(hmac.digest(keys.signing, signed.encode(), "sha256"))
        refusal(tokens, f"{signed}.{signature}")


def test_after_a_rotation_the_new_key_signs_and_the_old_one_still_verifies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    old = Tokens(KeyRing.open(path), "chatd", SECONDS).issue(ANN)
    document = json.loads(path.read_text())
    key = {"kty": "oct", "kid": "new", "alg": "HS256", "k": base64url(secrets.token_bytes(32))}
    path.write_text(json.dumps({"keys": [key, *document["keys"]]}))
    rotated = Tokens(KeyRing.open(path), "chatd", SECONDS)
    new = rotated.issue(ANN)
    assert jwt.get_unverified_header(new.token)["kid"] == "new"
    assert rotated.verify(old.token) == old.claims
    assert rotated.verify(new.token) == new.claims
    path.write_text(json.dumps({"keys": [key]}))
    retired = Tokens(KeyRing.open(path), "chatd", SECONDS)
    assert retired.verify(new.token) == new.claims
    refusal(retired, old.token)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness")
async def test_hashing_lets_the_event_loop_go_first(io_loop: IOLoop, passwords: Passwords) -> None:
    await passwords.hash("correct horse battery")
    (thread,) = [one for one in threading.enumerate() if one.name.startswith("passwords")]
    assert thread.native_id is not None
    others = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) > others

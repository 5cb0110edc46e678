from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.addresses import normalize_email, normalize_group


@pytest.mark.parametrize(
    "typed",
    [
        "ann@example.org",
        "Ann@Example.ORG",
        "  ann@example.org ",
        "ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ",
        "ANN\uff20EXAMPLE\u3002ORG",
        "\u00a0ann@example.org\u3000",
    ],
)
def test_the_forms_of_one_address_are_one_user(typed: str) -> None:
    assert normalize_email(typed) == "ann@example.org"


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("ann@corp.local", "ann@corp.local"),
        ("ann@localhost", "ann@localhost"),
        ("ann@box.test", "ann@box.test"),
        ("o'neil+chat@example.org", "o'neil+chat@example.org"),
        ("JOSE\u0301@example.org", "josé@example.org"),
        ("ann@MÜNCHEN.de", "ann@münchen.de"),
        ("ann@xn--mnchen-3ya.de", "ann@münchen.de"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("\u212aelvin@example.org", "kelvin@example.org"),
        ("\U0001d400nn@example.org", "ann@example.org"),
        ("H\u0331@example.org", "\u1e96@example.org"),
    ],
)
def test_an_address_may_be_local_or_of_any_script(typed: str, address: str) -> None:
    assert normalize_email(typed) == address


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ann",
        "@example.org",
        "ann@",
        "ann@b@c",
        "ann smith@example.org",
        "ann@exam ple.org",
        '"ann"@example.org',
        '"ann smith"@example.org',
        "Ann <ann@example.org>",
        "ann@[127.0.0.1]",
        "ann@[IPv6:::1]",
        "ann@example..org",
        "ann@-example.org",
        "ann@example.org\n",
        "ann\n@example.org",
        "ann\0@example.org",
        "\u202eann@example.org",
        "ann\u200b@example.org",
        "ann\u2066@example.org",
        "ann\u2028@example.org",
        "\ud800ann@example.org",
        "ann@example.org,bob@example.org",
        "a" * 243 + "@example.org",
        "\ufdfa" * 100 + "@example.org",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
        normalize_email(typed)


def test_the_longest_address_has_254_characters() -> None:
    longest = "a" * 242 + "@example.org"
    assert normalize_email(longest) == longest
    with pytest.raises(ValueError, match="at most 254 characters"):
        normalize_email("a" + longest)


words = st.text(st.characters(), min_size=1, max_size=12)


@given(words, words | st.just("example.org"))
def test_the_form_of_an_address_is_final_and_clean(local: str, domain: str) -> None:
    try:
        address = normalize_email(f"{local}@{domain}")
    except ValueError:
        return
    assert normalize_email(address) == address
    assert {unicodedata.category(character)[0] for character in address}.isdisjoint("ZC")


@pytest.mark.parametrize("typed", ["team-1", "TEAM-1", " Team-1 ", "ｔｅａｍ－１"])
def test_the_forms_of_one_name_are_one_group(typed: str) -> None:
    assert normalize_group(typed) == "team-1"


@pytest.mark.parametrize("name", ["aa", "7up", "a" * 64, "a.b_c-d", "a--"])
def test_a_group_may_be_called(name: str) -> None:
    assert normalize_group(name) == name


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "a",
        "a" * 65,
        ".ab",
        "-ab",
        "_ab",
        "a b",
        "a/b",
        "a*",
        "a>",
        "$where",
        "büro",
        "команда",
        "team\n",
        "te\0am",
        "te\u202eam",
        "te\u200bam",
        "\ud800ab",
    ],
)
def test_a_group_may_not_be_called(typed: str) -> None:
    with pytest.raises(ValueError, match="2 to 64 characters of a-z 0-9"):
        normalize_group(typed)

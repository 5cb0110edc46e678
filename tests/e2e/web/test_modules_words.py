"""What the client makes of texts, addresses and times."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.addresses import normalize_email
from tests.e2e.web.modules import ANN, Modules, few

pytestmark = pytest.mark.browser

# -- sentences ---------------------------------------------------------------------------------

SENTENCES: Final = {
    "the e-mail address or the password is wrong": "The e-mail address or the password is wrong.",
    "too many messages in a short time; slow down": "Too many messages in a short time; slow down.",
    "e-mail addresses have an @": "E-mail addresses have an @.",
    "élan, too": "Élan, too.",
    "you're not a member of 'python'": "You're not a member of 'python'.",
    "A title is one line.": "A title is one line.",
    "is it?": "Is it?",
    "stop!": "Stop!",
    "and so on …": "And so on …",
    "say 'no.'": "Say 'no.'",
    "no": "No.",
    " spaces ": "Spaces.",
    "": "",
    "'python' is taken": "'python' is taken.",
    '"python" is taken': '"python" is taken.',
    "“python” is taken": "“python” is taken.",
    "bob@example.org is gone": "bob@example.org is gone.",
    "bob.b@example.org is gone": "bob.b@example.org is gone.",
    "https://example.org is away": "https://example.org is away.",
    "example.org is away": "example.org is away.",
    "client_id must be text": "client_id must be text.",
    "cursors[0] must name a user": "cursors[0] must name a user.",
    "/v1/ws is elsewhere": "/v1/ws is elsewhere.",
    "3 are too many": "3 are too many.",
}


def test_what_a_server_says_becomes_a_sentence(modules: Modules) -> None:
    """Seen to fail with words that are shown as they came."""
    found = modules.run("return given.map(sentences.sentence);", list(SENTENCES))
    assert dict(zip(SENTENCES, found, strict=True)) == SENTENCES


# -- names -------------------------------------------------------------------------------------


def test_an_address_that_stands_for_somebody_who_was_erased_is_no_name(modules: Modules) -> None:
    names = {
        "erased-8d1f0c2a44b1e07d@erased.invalid": "Erased person",
        "deleted-8d1f0c2a44b1e07d@erased.invalid": "Deleted person",
        "erased-8d1f0c2a44b1e07d@example.org": "erased-8d1f0c2a44b1e07d@example.org",
        "x.erased-1@erased.invalid": "x.erased-1@erased.invalid",
        ANN: ANN,
    }
    found = modules.run("return given.map(names.nameOf);", list(names))
    assert dict(zip(names, found, strict=True)) == names


# -- text --------------------------------------------------------------------------------------

NODES: Final = """
const shown = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.localName !== "a" || node.children.length > 0) return null;
  return [node.getAttribute("href"), node.textContent, node.rel, node.target];
};
return given.map((text) => textNodes(text).map(shown));
"""


def nodes(modules: Modules, *texts: str) -> list[list[Any]]:
    """Of each text its nodes: a text as such, a link as what it leads to, shows, and demands."""
    return list(modules.run(f"const {{ textNodes }} = text;\n{NODES}", texts))


LINKED: Final = {
    "see https://example.org": "https://example.org",
    "see https://example.org.": "https://example.org",
    "really, http://example.org/a?b=c&d=e#f?!": "http://example.org/a?b=c&d=e#f",
    "(see https://example.org/a)": "https://example.org/a",
    "https://example.org/a_(b)": "https://example.org/a_(b)",
    "(https://example.org/a_(b)).": "https://example.org/a_(b)",
    "[https://example.org/a]": "https://example.org/a",
    "{https://example.org/[a]}": "https://example.org/[a]",
    "“https://example.org/a”": "https://example.org/a",
    "*https://example.org/a*…": "https://example.org/a",
    "<https://example.org/a>": "https://example.org/a",
    'href="https://example.org/a"': "https://example.org/a",
    "HTTPS://EXAMPLE.ORG/A": "HTTPS://EXAMPLE.ORG/A",
    "siehe:https://münchen.example/straße": "https://münchen.example/straße",
    "日本https://example.jp/本": "https://example.jp/本",
    "http://192.0.2.1:8080/": "http://192.0.2.1:8080/",
    "http://[2001:db8::1]/x": "http://[2001:db8::1]/x",
    "https://example.org/\u202egnp.exe": "https://example.org/",
    "https://example.org/\u2066a": "https://example.org/",
}


def test_a_web_address_is_a_link_without_what_belongs_to_the_sentence(modules: Modules) -> None:
    for text, found in zip(LINKED, nodes(modules, *LINKED), strict=True):
        links = [node for node in found if not isinstance(node, str)]
        address = LINKED[text]
        assert links == [[address, address, "noopener noreferrer nofollow ugc", "_blank"]], text


def test_several_web_addresses_are_as_many_links(modules: Modules) -> None:
    (found,) = nodes(modules, "http://a.example, then http://b.example/ and no more")
    shown = [node if isinstance(node, str) else node[1] for node in found]
    assert shown == ["http://a.example", ", then ", "http://b.example/", " and no more"]


NOT_LINKED: Final = (
    "",
    "plain",
    "example.org",
    "www.example.org",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//http:",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://example.org",
    "xhttps://example.org",
    "https://",
    "http://.",
    "https:// example.org",
    "https://ann@example.org/",
    "https://example.org:80@evil.example/",
    "https://ann:secret@example.org",
    "https://example.org%40evil.example",
    "<b>bold</b> & <img src=x onerror=alert(1)>",
)


def test_nothing_else_is_a_link(modules: Modules) -> None:
    for text, found in zip(NOT_LINKED, nodes(modules, *NOT_LINKED), strict=True):
        assert found == ([text] if text else []), text


PIECES: Final = (
    *("http://", "https://", "javascript:", "@", "a.example", "/", ")", "(", "]", "<", '"', "'"),
    *(".", ",", " ", "\n", "\u202e", "\u2066", "\u200f", "é", "👋", "%40", "\\", ":", "#", "&lt;"),
)
pieced = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@few
@given(st.lists(pieced, min_size=50, max_size=100))
def test_no_character_of_a_text_is_lost_and_every_link_leads_where_it_says(
    modules: Modules, texts: list[str]
) -> None:
    for text, found in zip(texts, nodes(modules, *texts), strict=True):
        assert None not in found
        shown = [node if isinstance(node, str) else node[1] for node in found]
        assert "".join(shown) == text
        for node in found:
            if not isinstance(node, str):
                assert node[0] == node[1]
                assert node[0].lower().startswith(("http://", "https://"))
                assert not set(node[0]) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2069 ")


# -- doors -------------------------------------------------------------------------------------


def test_a_token_in_the_address_is_found(modules: Modules) -> None:
    cases = {
        "": None,
        "?": None,
        "?Authorization": None,
        "?Authorization=": None,
        "?authorization=a.b.c": None,
        "?Authorization=a.b.c": "a.b.c",
        "?Authorization=Bearer%20a.b.c": "a.b.c",
        "?Authorization=bearer+a.b.c": "a.b.c",
        "?x=1&Authorization=a.b.c&y": "a.b.c",
    }
    body = "return given.map((search) => doors.tokenIn({ search }));"
    assert dict(zip(cases, modules.run(body, list(cases)), strict=True)) == cases


AT: Final = "return given.map((address) => doors.targetAt(new URL(address, location.origin)));"


def test_an_address_opens_a_conversation(modules: Modules) -> None:
    cases = {
        "/chat": None,
        "/chat/user": None,
        "/chat/user#": None,
        "/chat/user#%20": None,
        "/chat#ann@example.org": None,
        "/group/club": None,
        "/group//connect": None,
        "/group/a/b/connect": None,
        "/group/club/connect": {"group": "club"},
        "/group/Club/connect?x#y": {"group": "club"},
        "/group/%20CLUB%20/connect": {"group": "club"},
        "/group/%E0%A4%A/connect": {"group": "%e0%a4%a"},
        "/chat/user#ann@example.org": {"user": ANN},
        "/chat/user#%20Ann%40EXAMPLE.org": {"user": ANN},
        "/chat/user#jos%C3%A9@example.org": {"user": "josé@example.org"},
        "/chat/user#jose%CC%81@example.org": {"user": "josé@example.org"},
        "/chat/user#50%@example.org": {"user": "50%@example.org"},
    }
    assert dict(zip(cases, modules.run(AT, list(cases)), strict=True)) == cases


names = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\\"),
    min_size=1,
    max_size=12,
)


@few
@given(st.lists(st.tuples(st.sampled_from(("user", "group")), names), min_size=50))
def test_what_an_address_was_made_for_is_what_it_opens(
    modules: Modules, made: list[tuple[str, str]]
) -> None:
    body = """
    return given.map(([kind, name]) => {
      const target = { [kind]: targets.normalized(name) };
      const address = new URL(doors.addressOf(target), location.origin);
      return [target, doors.targetAt(address), address.search];
    });
    """
    # A dot or two alone are a way through folders, whatever they are written as.
    given_names = [(kind, "x" if set(name) <= {"."} else name) for kind, name in made]
    for target, opened, query in modules.run(body, given_names):
        assert opened == target
        assert query == ""


def test_no_conversation_has_the_address_of_the_list(modules: Modules) -> None:
    assert modules.run("return doors.addressOf(null);") == "/chat"


ADDRESSES: Final = (
    " Ann@Example.ORG ",
    "ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ",
    "JOSE\u0301@example.org",
    "\u212aelvin@example.org",
    "\U0001d400nn@example.org",
    "H\u0331@example.org",
)


def test_a_typed_address_becomes_the_one_that_the_server_knows(modules: Modules) -> None:
    found = modules.run("return given.map(targets.normalized);", list(ADDRESSES))
    assert found == [normalize_email(typed) for typed in ADDRESSES]


# -- times -------------------------------------------------------------------------------------


def test_times_are_told_as_shortly_as_they_are_clear(modules: Modules) -> None:
    body = """
    const now = new Date(2026, 2, 30, 0, 30);
    return given.map((parts) => {
      const date = new Date(...parts);
      return [times.dayTitle(date, now), times.brief(date, now), times.briefWithClock(date, now)];
    });
    """
    cases = [
        (2026, 2, 30, 0, 5),
        (2026, 2, 30, 0, 35),
        # The night in which summer time begins: yesterday had 23 hours.
        (2026, 2, 29, 0, 5),
        (2026, 2, 28, 23, 59),
        (2026, 2, 24, 8, 0),
        (2026, 2, 23, 8, 0),
        (2025, 11, 31, 8, 0),
    ]
    assert modules.run(body, cases) == [
        ["Today", "00:05", "00:05"],
        ["Today", "00:35", "00:35"],
        ["Yesterday", "Sun", "Sun 00:05"],
        ["Saturday 28 March", "Sat", "Sat 23:59"],
        ["Tuesday 24 March", "Tue", "Tue 08:00"],
        ["Monday 23 March", "23 Mar", "23 Mar 08:00"],
        ["Wednesday, 31 December 2025", "31 Dec 2025", "31 Dec 2025 08:00"],
    ]


def test_an_address_in_a_path_is_written_so_that_it_stays_one_part(modules: Modules) -> None:
    body = "return given.map((user) => targets.pathOf({ user }));"
    users = ["a/b@example.org", "a?b#c@example.org", "é%40@example.org"]
    assert modules.run(body, users) == [f"/v1/users/{quote(user, safe='')}" for user in users]

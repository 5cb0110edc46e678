"""People who write what should not be shown as it is: nothing of theirs is more than text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.web.account import Account
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.looks import reads_from_left, sideways
from tests.e2e.web.visitor import Visitor

pytestmark = pytest.mark.browser

ANN: Final = "ann@example.org"
MALLORY: Final = "mallory&amp'`{x}$&#@example.org"

MARKUP: Final = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<b>bold</b> &lt;b&gt; &amp;",
    "</div></li></ol><h1>over</h1>",
    '"><svg onload=alert(1)>',
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<style>* { display: none }</style>",
    "{{ 7 * 7 }} ${7 * 7} %s",
    "<a href='javascript:alert(1)'>click</a>",
    "<!-- <textarea> <title>",
)
TITLE: Final = "<img src=x onerror=alert(1)><b>Title</b> &amp;"

PHONE: Final = {"width": 360, "height": 740}


def foreign(page: Page) -> int:
    """How many elements there are that the client makes none of."""
    return page.locator("img, script:not([src]), b, iframe, style, a[href^='javascript']").count()


def line(visitor: Visitor, whom: str, *, among: str) -> Locator:
    """Somebody's line in a list, whatever characters they are called by."""
    return visitor.list(among).get_by_role("button").filter(has_text=whom)


# -- markup ------------------------------------------------------------------------------------


def test_markup_in_messages_is_text_in_the_log_and_in_the_list(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN)
    account(MALLORY).say(*MARKUP, user=ANN)
    ann = visitor()
    ann.enter(ANN)
    row = line(ann, MALLORY, among="Conversations")
    expect(row.locator(".preview")).to_have_text(MARKUP[-1])
    row.click()
    ann.expect_open(MALLORY)
    ann.expect_texts(*MARKUP)
    ann.say(*MARKUP)
    ann.expect_texts(*MARKUP, *MARKUP)
    expect(ann.page).to_have_title(f"{MALLORY} · chatd")
    assert foreign(ann.page) == 0


def test_markup_in_a_groups_title_and_its_members_addresses_is_text_everywhere(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    mallory = account(MALLORY)
    mallory.create("club", TITLE)
    ann = visitor()
    ann.enter(ANN, "/group/club/connect")
    expect(ann.page.get_by_text(f"You are not a member of {TITLE}.")).to_be_visible()
    ann.button("Join").click()
    ann.expect_open(TITLE)
    mallory.say(*MARKUP, group="club")
    ann.expect_texts(*MARKUP)
    expect(ann.log.locator(".author").first).to_contain_text(MALLORY)
    expect(ann.page).to_have_title(f"{TITLE} · chatd")
    expect(line(ann, TITLE, among="Conversations")).to_be_visible()
    ann.button("Members").click()
    expect(line(ann, MALLORY, among="Members")).to_be_visible()
    ann.find("mallory")
    expect(line(ann, MALLORY, among="People found")).to_be_visible()
    assert foreign(ann.page) == 0


def test_markup_in_the_address_bar_is_text(visitor: MakeVisitor) -> None:
    ann = visitor()
    ann.enter(ANN, "/group/%3Cimg%20src=x%20onerror=alert(1)%3E/connect")
    expect(ann.page.get_by_text("There is no group “<img src=x onerror=alert(1)>”")).to_be_visible()
    ann.open("/chat/user#<b>x</b>@example.org")
    said = ann.page.get_by_text("Nobody has signed up as <b>x</b>@example.org")
    expect(said).to_be_visible()
    assert foreign(ann.page) == 0


RECORDER: Final = """
window.notified = [];
window.Notification = class extends EventTarget {
  static permission = "granted";
  static requestPermission = async () => "granted";
  constructor(title, options) {
    super();
    window.notified.push([title, options.body]);
  }
  close() {}
};
"""


def test_a_notification_says_what_was_written_and_nothing_else(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    mallory, ann = account(MALLORY), visitor()
    mallory.create("club", TITLE)
    ann.page.add_init_script(RECORDER)
    ann.enter(ANN, "/group/club/connect")
    ann.button("Join").click()
    ann.expect_open(TITLE)
    ann.button("Notifications").click()
    expect(ann.button("Notifications")).to_have_attribute("aria-pressed", "true")
    ann.look_away()
    mallory.say(MARKUP[0], group="club")
    mallory.say(MARKUP[1], user=ANN)
    ann.page.wait_for_function("window.notified.length === 2")
    found = ann.page.evaluate("window.notified")
    assert found == [[f"{TITLE}: {MALLORY}", MARKUP[0]], [MALLORY, MARKUP[1]]]


# -- links -------------------------------------------------------------------------------------


def test_only_web_addresses_are_links_and_they_tell_nobody_where_one_comes_from(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    bait = (
        "javascript:alert(1)",
        "https://example.org@evil.example/",
        "data:text/html,<script>alert(1)</script>",
        "[x](javascript:alert(1))",
    )
    account(ANN)
    account(MALLORY).say(*bait, "see https://example.org/a?b=(c).", user=ANN)
    ann = visitor()
    ann.enter(ANN)
    line(ann, MALLORY, among="Conversations").click()
    ann.expect_open(MALLORY)
    link = ann.log.get_by_role("link")
    expect(link).to_have_count(1)
    expect(link).to_have_attribute("href", "https://example.org/a?b=(c)")
    expect(link).to_have_attribute("target", "_blank")
    for word in ("noopener", "noreferrer", "nofollow"):
        assert word in str(link.get_attribute("rel")).split()


# -- size --------------------------------------------------------------------------------------

HUGE: Final = (
    "W" * 4000,
    "https://example.org/" + "a" * 500,
    "\n".join(f"line {number}" for number in range(41)),
    "👩‍👩‍👧‍👦" * 400,
    "Z" + "\u0300\u0316\u0344\u035f" * 300,
    "a b " * 1000,
)


def test_whatever_is_written_fits_on_a_phone(visitor: MakeVisitor, account: MakeAccount) -> None:
    long = f"{'w' * 64}@{'w' * 60}.{'w' * 60}.example.org"
    mallory = account(long)
    mallory.create("g" * 64, "W" * 128)
    ann = visitor(viewport=PHONE)
    ann.enter(ANN, f"/group/{'g' * 64}/connect")
    expect(ann.button("Join")).to_be_visible()
    assert sideways(ann.page) == []
    ann.button("Join").click()
    ann.expect_open("W" * 128)
    for text in HUGE:
        mallory.say(text, group="g" * 64)
        expect(ann.log.locator(".text").last).to_have_text(text)
        assert sideways(ann.page) == [], text[:20]
    ann.composer.fill(HUGE[0])
    assert sideways(ann.page) == []
    ann.button("Members").click()
    expect(ann.row(long, among="Members")).to_be_visible()
    assert sideways(ann.page) == []
    mallory.say(HUGE[2], user=ANN)
    ann.button("Close the list of members").click()
    ann.button("Back to the list").click()
    expect(ann.row(long, among="Conversations")).to_be_visible()
    assert sideways(ann.page) == []
    ann.row(long, among="Conversations").click()
    ann.expect_open(long)
    assert sideways(ann.page) == []


def test_a_message_as_long_as_may_be_is_counted_in_characters_and_sent_whole(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    bob: Account = account("bob@example.org")
    ann = visitor()
    ann.enter(ANN, "/chat/user#bob@example.org")
    text = "👋" * 4000
    ann.composer.fill(text + "!")
    expect(ann.page.get_by_text("1 character too many")).to_be_visible()
    ann.composer.press("Enter")
    expect(ann.composer).to_have_value(text + "!")
    ann.composer.press("Backspace")
    expect(ann.page.get_by_text("0 left")).to_be_visible()
    ann.composer.press("Enter")
    ann.expect_tick(text, "stored")
    assert bob.texts(user=ANN) == [text]


def test_line_breaks_stay_and_the_line_in_the_list_is_one(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN)
    account("bob@example.org").say("short", user=ANN)
    account("cat@example.org").say(HUGE[2], user=ANN)
    ann = visitor()
    ann.enter(ANN)
    boxes = [ann.row(f"{one}@", among="Conversations").bounding_box() for one in ("bob", "cat")]
    heights = [box["height"] for box in boxes if box]
    assert heights[0] == heights[1]
    ann.pick("cat@example.org", among="Conversations")
    lines = ann.log.locator(".text").evaluate("text => text.innerText.split('\\n').length")
    assert lines == 41
    tall = ann.log.locator(".text").evaluate(
        "text => text.clientHeight / parseFloat(getComputedStyle(text).lineHeight)"
    )
    assert round(tall) == 41


# -- from right to left ------------------------------------------------------------------------

HEBREW: Final = "\u05e9\u05dc\u05d5\u05dd"
FLIPS: Final = (
    "\u202e" + "abc",
    "\u2067" + "abc",
    HEBREW + " abc",
    "abc " + HEBREW + "!",
    "\u200f!",
)


def test_what_is_written_from_right_to_left_stands_so_and_flips_nothing_beside_it(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN)
    hebrew = f"{HEBREW}@example.org"
    mallory = account(hebrew)
    mallory.create("club", f"{HEBREW} 123")
    ann = visitor()
    ann.enter(ANN, "/group/club/connect")
    ann.button("Join").click()
    ann.expect_open(f"{HEBREW} 123")
    mallory.say(*FLIPS, group="club")
    mallory.say(FLIPS[0], user=ANN)
    expect(ann.log.locator(".message")).to_have_count(len(FLIPS))
    texts = ann.log.locator(".text")
    directions = texts.evaluate_all("all => all.map((one) => getComputedStyle(one).direction)")
    assert directions == ["ltr", "ltr", "rtl", "ltr", "rtl"]
    for number in range(len(FLIPS)):
        assert reads_from_left(ann.log.locator(".meta time").nth(number))
    assert not reads_from_left(texts.nth(2))
    expect(ann.page.locator(".header .about")).to_contain_text("2 members")
    assert reads_from_left(ann.page.locator(".header .about"))
    for row in ("club", hebrew):
        line = ann.list("Conversations").locator(f"li[data-key$='{row}']")
        assert reads_from_left(line.locator("time"))


# -- what the page may do ----------------------------------------------------------------------


def test_no_script_runs_that_chatd_did_not_serve_and_the_browser_reports_it(
    visitor: MakeVisitor,
) -> None:
    ann = visitor("Content Security Policy", "asked elsewhere: https://example.org/")
    ann.enter(ANN)
    found = ann.page.evaluate(
        """async () => {
          const reported = [];
          document.addEventListener("securitypolicyviolation", (event) =>
            reported.push(`${event.effectiveDirective} ${event.blockedURI}`));
          const script = document.createElement("script");
          script.textContent = "window.ran = 'script'";
          document.body.append(script);
          const button = document.createElement("button");
          button.setAttribute("onclick", "window.ran = 'attribute'");
          document.body.append(button);
          button.click();
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(style);
          const image = document.createElement("img");
          image.src = "https://example.org/x.png";
          document.body.append(image);
          await fetch("https://example.org/").catch(() => {});
          while (reported.length < 5) await new Promise((done) => setTimeout(done, 10));
          return [window.ran ?? null, getComputedStyle(document.body).display, reported.toSorted()];
        }"""
    )
    assert found == [
        None,
        "block",
        [
            "connect-src https://example.org/",
            "img-src https://example.org/x.png",
            "script-src-attr inline",
            "script-src-elem inline",
            "style-src-elem inline",
        ],
    ]


def test_the_pages_policy_lets_nothing_in_from_elsewhere(visitor: MakeVisitor) -> None:
    ann = visitor()
    for door in ("/chat", "/chat/user", "/group/club/connect"):
        answer = ann.page.goto(ann.url + door)
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_token_is_kept_nowhere_but_in_the_tab(visitor: MakeVisitor, account: MakeAccount) -> None:
    account("bob@example.org")
    ann = visitor()
    asked: list[str] = []
    ann.page.on("request", lambda request: asked.append(request.url))
    ann.page.on("websocket", lambda socket: asked.append("http" + socket.url[2:]))
    ann.enter(ANN, "/chat/user#bob@example.org")
    ann.say("https://example.net/ hello")
    ann.expect_tick("https://example.net/ hello", "stored")
    ann.composer.fill("a draft")
    token = ann.token()
    assert len(token) > 50
    assert ann.page.evaluate("localStorage.length") > 0
    assert token not in ann.page.evaluate("JSON.stringify({ ...localStorage })")
    assert ann.context.cookies() == []
    assert [url for url in asked if token in url] == []
    assert [url for url in asked if not url.startswith(ann.url + "/")] == []
    assert_not_shown(ann, token)


def assert_not_shown(visitor: Visitor, token: str) -> None:
    """The token stands neither in the page nor in its address."""
    assert token not in visitor.page.content()
    assert token not in visitor.page.url


def test_a_token_from_the_address_is_gone_from_it_and_from_the_history(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    token = account(ANN).token
    ann = visitor()
    ann.open(f"/chat?Authorization={token}")
    ann.expect_connected()
    assert ann.place == "/chat"
    assert_not_shown(ann, token)
    assert token not in ann.page.evaluate("document.referrer + JSON.stringify(history.state)")


@contextmanager
def another_place(html: str) -> Iterator[str]:
    """The address of a server that has nothing but this page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_no_page_of_another_place_shows_the_client_in_a_frame(visitor: MakeVisitor) -> None:
    ann = visitor("frame", "X-Frame-Options", "asked elsewhere", "404")
    doors = ("/chat", "/chat/user", "/group/club/connect", "/docs")
    with another_place("".join(f"<iframe src='{ann.url}{door}'></iframe>" for door in doors)) as at:
        ann.page.goto(at)
        inner = ann.page.frames[1:]
    assert [frame.url for frame in inner] == ["chrome-error://chromewebdata/"] * len(doors)


def test_who_signs_out_leaves_nothing_for_the_next_at_this_screen(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account("bob@example.org")
    ann = visitor()
    referers: list[str] = []
    ann.page.on("request", lambda request: referers.append(request.headers.get("referer", "")))
    ann.enter(ANN, "/chat/user#bob@example.org")
    ann.say("between you and me")
    ann.expect_tick("between you and me", "stored")
    ann.button("Sign out").click()
    ann.expect_form()
    assert ann.page.evaluate("sessionStorage.length") == 0
    ann.page.goto("about:blank")
    ann.page.go_back()
    ann.expect_form()
    assert "between you and me" not in ann.page.content()
    assert "between you and me" not in str(ann.kept())
    assert set(referers) == {""}

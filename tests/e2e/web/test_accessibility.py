"""The web client with a screen reader, with the keyboard alone, on a phone, in light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, ViewportSize, expect

from tests.chat import PASSWORD
from tests.e2e.server import Server
from tests.e2e.web.account import Account
from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.looks import sideways
from tests.e2e.web.visitor import NO_SERVER, REFUSED, Visitor

pytestmark = pytest.mark.browser

ANN: Final = "ann@example.org"
BOB: Final = "bob@example.org"
CAT: Final = "cat@example.org"

WIDE: Final[ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[ViewportSize] = {"width": 360, "height": 740}

Door = Callable[..., None]


# -- every view --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("accessibility"))
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def tokens(server: Server) -> dict[str, str]:
    """Three people who have written to each other and are in a group; half of it is read."""
    ann, bob, cat = (Account(server.url, email) for email in (ANN, BOB, CAT))
    ann.create("club", "The club – клуб")
    bob.join("club")
    cat.join("club")
    cat.create("closed", "Not for everybody")
    for number in range(3):
        ann.say(f"from Ann {number}, see https://example.org/{number}", group="club")
        bob.say(f"from Bob {number}", group="club")
        ann.say(f"to Bob {number}", user=BOB)
    bob.call("POST", f"/v1/users/{ANN}/receipts", {"delivered_seq": 2, "read_seq": 1})
    bob.call("POST", "/v1/groups/club/receipts", {"read_seq": 4})
    bob.say("to Ann, an answer", user=ANN)
    cat.say("unread", user=ANN)
    return {one.email: one.token for one in (ann, bob, cat)}


@pytest.fixture
def ann(visitor: MakeVisitor, tokens: dict[str, str]) -> Visitor:
    # axe-core brings a style of its own, which the page's policy forbids.
    return visitor(REFUSED, *NO_SERVER, bypass_csp=True, viewport=WIDE, reduced_motion="reduce")


@pytest.fixture
def door(ann: Visitor, tokens: dict[str, str]) -> Door:
    """Brings Ann, signed in, to one of the pages."""

    def open_door(path: str = "/chat") -> None:
        path, _, fragment = path.partition("#")
        ann.open(f"{path}?Authorization={tokens[ANN]}#{fragment}")
        ann.expect_connected()

    return open_door


def sign_in_form(ann: Visitor, door: Door) -> None:
    ann.open()
    ann.expect_form()


def sign_in_errors(ann: Visitor, door: Door) -> None:
    ann.open()
    ann.button("Sign in").click()
    expect(ann.page.get_by_text("Enter an e-mail address")).to_be_visible()


def wrong_password(ann: Visitor, door: Door) -> None:
    ann.open()
    ann.fill_in(ANN, "not my password")
    expect(ann.page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")


def nothing_open(ann: Visitor, door: Door) -> None:
    door()
    expect(ann.row(CAT, among="Conversations")).to_be_visible()


def pair(ann: Visitor, door: Door) -> None:
    door(f"/chat/user#{BOB}")
    ann.expect_tick("to Bob 0", "read")
    ann.expect_tick("to Bob 1", "delivered")
    ann.expect_tick("to Bob 2", "stored")


def group(ann: Visitor, door: Door) -> None:
    door("/group/club/connect")
    ann.expect_log("from Bob 2")


def members(ann: Visitor, door: Door) -> None:
    group(ann, door)
    ann.button("Members").click()
    expect(ann.row(BOB, among="Members")).to_be_visible()


def not_a_member(ann: Visitor, door: Door) -> None:
    door("/group/closed/connect")
    expect(ann.button("Join")).to_be_visible()


def unknown_group(ann: Visitor, door: Door) -> None:
    door("/group/nowhere/connect")
    expect(ann.button("Create this group")).to_be_visible()


def unknown_user(ann: Visitor, door: Door) -> None:
    door("/chat/user#nobody@example.org")
    expect(ann.page.get_by_text("Nobody has signed up as nobody@example.org")).to_be_visible()


def new_group(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    ann.button("New group").click()
    ann.page.get_by_label("Name").fill("!")
    ann.button("Create group").click()
    expect(ann.page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")


def receivers(ann: Visitor, door: Door) -> None:
    group(ann, door)
    ann.message("from Ann 0, see https://example.org/0").locator("button.tick").click()
    expect(ann.list("Read by")).to_contain_text(BOB)


def account(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    ann.button("Your account").click()
    dialog = ann.page.get_by_role("dialog", name="Your account")
    ann.button("Change password").click()
    expect(dialog.get_by_text("A password has at least 8 characters.")).to_be_visible()
    ann.button("Download my data").click()
    expect(dialog.get_by_text("Your data is in chatd-export.json.")).to_be_visible()


def erasing(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    ann.button("Your account").click()
    ann.page.get_by_label("Your password").fill("not my password")
    ann.button("Erase my account").click()
    expect(ann.button("Erase for good")).to_be_visible()


def search_results(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    ann.find("c")
    expect(ann.list("Groups found")).to_contain_text("Not for everybody")


def nothing_found(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    ann.find("zzz")
    expect(ann.page.get_by_text("Nothing found.")).to_be_visible()


VIEWS: Final = (
    sign_in_form,
    sign_in_errors,
    wrong_password,
    nothing_open,
    pair,
    group,
    members,
    not_a_member,
    unknown_group,
    unknown_user,
    new_group,
    receivers,
    account,
    erasing,
    search_results,
    nothing_found,
)


def troubles(ann: Visitor) -> list[str]:
    """What axe-core has against a page and what sticks out of it: each size, light and dark."""
    found = []
    for size in (WIDE, PHONE):
        ann.page.set_viewport_size(size)
        found += [f"{size['width']}: {one}" for one in sideways(ann.page)]
        for scheme in ("light", "dark"):
            ann.page.emulate_media(color_scheme=scheme)
            broken = Axe().run(ann.page).response["violations"]
            found += [
                f"{size['width']} {scheme}: {one['id']}: {one['nodes'][0]['html'][:200]}"
                for one in broken
            ]
    return found


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view.__name__))
def test_axe_finds_nothing_and_nothing_sticks_out(
    ann: Visitor, door: Door, view: Callable[[Visitor, Door], None]
) -> None:
    view(ann, door)
    assert troubles(ann) == []


def test_while_the_server_is_away_all_this_holds_too(
    ann: Visitor, door: Door, server: Server
) -> None:
    pair(ann, door)
    server.terminate()
    try:
        expect(ann.button("Retry now")).to_be_visible()
        ann.say("while you were away")
        ann.expect_tick("while you were away", "sending")
        expect(ann.page.get_by_text("1 message waits to be sent.")).to_be_visible()
        assert troubles(ann) == []
    finally:
        server.restart()
    ann.page.set_viewport_size(WIDE)
    # The button would do as well, were it not gone where the page has tried again by itself.
    ann.page.evaluate("window.dispatchEvent(new Event('online'))")
    ann.expect_tick("while you were away", "stored")


# -- names -------------------------------------------------------------------------------------


def test_everything_has_the_name_that_people_are_told(ann: Visitor, door: Door) -> None:
    sign_in_form(ann, door)
    for label in ("E-mail", "Password"):
        expect(ann.page.get_by_label(label, exact=True)).to_have_count(1)
    expect(ann.button("Sign in")).to_have_count(1)
    not_a_member(ann, door)
    group(ann, door)
    expect(ann.page.get_by_role("textbox", name="Message", exact=True)).to_have_count(1)
    for name in ("Send", "New group", "Your account", "Sign out", "Leave"):
        expect(ann.button(name)).to_have_count(1)
    for name in ("Conversations", "Online"):
        expect(ann.page.get_by_role("list", name=name, exact=True)).to_have_count(1)
    expect(ann.page.get_by_role("log", name="Messages", exact=True)).to_have_count(1)
    expect(ann.page.get_by_role("main")).to_have_count(1)


def test_a_tick_says_how_far_a_message_has_got(ann: Visitor, door: Door) -> None:
    pair(ann, door)
    ticks = ann.log.get_by_role("img")
    names = [ticks.nth(number).get_attribute("aria-label") for number in range(3)]
    assert names == ["read", "delivered", "stored"]
    group(ann, door)
    tick = ann.message("from Ann 0, see https://example.org/0").get_by_role("button")
    expect(tick).to_have_accessible_name("delivered to 1 of 2, read by 1 of 2")


def test_what_comes_is_announced_and_what_was_there_is_not(
    ann: Visitor, door: Door, account: MakeAccount
) -> None:
    group(ann, door)
    region = ann.page.locator("[aria-live=polite]")
    expect(region).to_have_count(1)
    expect(region).to_have_text("")
    expect(ann.log).to_have_attribute("aria-live", "off")
    account(BOB).say("elsewhere", user=ANN)
    account(CAT).say("listen", group="club")
    expect(region).to_have_text(f"{CAT}: listen")
    ann.say("my own")
    ann.expect_tick("my own", "stored")
    expect(region).to_have_text(f"{CAT}: listen")


# -- the keyboard alone ------------------------------------------------------------------------


def press(ann: Visitor, *keys: str) -> None:
    for key in keys:
        ann.page.keyboard.press(key)


def focused(ann: Visitor) -> Locator:
    return ann.page.locator(":focus")


def test_with_the_keyboard_alone_one_signs_in_finds_somebody_and_writes(
    ann: Visitor, account: MakeAccount
) -> None:
    ann.open()
    expect(ann.page.get_by_label("E-mail")).to_be_focused()
    ann.page.keyboard.type("dan@example.org")
    press(ann, "Tab")
    ann.page.keyboard.type("correct horse battery")
    press(ann, "Enter")
    ann.expect_connected()
    press(ann, "Control+k")
    ann.page.keyboard.type("bob@")
    expect(ann.row(BOB, among="People found")).to_be_visible()
    press(ann, "ArrowDown")
    expect(ann.row(BOB, among="People found")).to_be_focused()
    press(ann, "Enter")
    expect(ann.composer).to_be_focused()
    ann.page.keyboard.type("Hello")
    press(ann, "Shift+Enter")
    ann.page.keyboard.type("Bob")
    press(ann, "Enter")
    ann.expect_texts("Hello\nBob")
    expect(ann.composer).to_be_focused()
    account(BOB).say(*(f"line {number}" for number in range(40)), user="dan@example.org")
    expect(ann.message("line 39")).to_be_in_viewport()
    press(ann, "Shift+Tab")
    expect(ann.log).to_be_focused()
    press(ann, "Home")
    expect(ann.message("Hello\nBob")).to_be_in_viewport()
    press(ann, "Escape")
    expect(ann.composer).to_be_focused()


def test_with_the_keyboard_alone_one_makes_a_group_and_leaves_it(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    press(ann, "Control+k", "Tab")
    expect(ann.button("New group")).to_be_focused()
    press(ann, "Enter")
    expect(ann.page.get_by_label("Name")).to_be_focused()
    press(ann, "Escape")
    expect(ann.page.get_by_role("dialog")).to_be_hidden()
    expect(ann.button("New group")).to_be_focused()
    press(ann, "Enter")
    ann.page.keyboard.type("keys")
    press(ann, "Tab")
    ann.page.keyboard.type("Nothing but keys")
    press(ann, "Enter")
    ann.expect_open("Nothing but keys")
    expect(ann.composer).to_be_focused()
    press(ann, "Shift+Tab", "Shift+Tab")
    expect(ann.button("Leave")).to_be_focused()
    press(ann, "Enter")
    expect(ann.button("Join")).to_be_visible()


def test_with_the_keyboard_alone_one_changes_the_password_and_nearly_ends_the_account(
    ann: Visitor, tokens: dict[str, str]
) -> None:
    ann.enter("eve@example.org")
    press(ann, "Shift+Tab", "Shift+Tab")
    expect(ann.button("Your account")).to_be_focused()
    press(ann, "Enter")
    expect(ann.page.get_by_label("Current password")).to_be_focused()
    for text in (PASSWORD, "staple battery correct", "staple battery correct"):
        ann.page.keyboard.type(text)
        press(ann, "Tab")
    expect(ann.button("Change password")).to_be_focused()
    press(ann, "Enter")
    expect(ann.page.get_by_text("Your password is changed.")).to_be_visible()
    expect(ann.button("Change password")).to_be_focused()
    press(ann, "Tab")
    expect(ann.button("Download my data")).to_be_focused()
    press(ann, "Tab")
    ann.page.keyboard.type("staple battery correct")
    press(ann, "Enter")
    question = ann.page.get_by_role("dialog", name="Erase your account?")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    press(ann, "Escape")
    expect(question).to_be_hidden()
    expect(ann.page.get_by_label("Your password")).to_be_focused()
    press(ann, "Escape")
    expect(ann.page.get_by_role("dialog")).to_be_hidden()
    expect(ann.button("Your account")).to_be_focused()


def test_the_arrow_keys_go_through_the_lists(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    buttons = ann.page.locator(".list .row")
    count = buttons.count()
    assert count >= 3
    press(ann, "Control+k", "ArrowDown")
    for number in range(count):
        expect(buttons.nth(number)).to_be_focused()
        press(ann, "ArrowDown")
    expect(ann.page.get_by_role("searchbox")).to_be_focused()
    press(ann, "ArrowDown", "ArrowUp")
    expect(ann.page.get_by_role("searchbox")).to_be_focused()


def test_alt_and_the_arrows_go_from_conversation_to_conversation(ann: Visitor, door: Door) -> None:
    nothing_open(ann, door)
    rows = ann.list("Conversations").get_by_role("button")
    for number in (0, 1):
        press(ann, "Alt+ArrowDown")
        expect(rows.nth(number)).to_have_attribute("aria-current", "true")
    press(ann, "Alt+ArrowUp")
    expect(rows.nth(0)).to_have_attribute("aria-current", "true")


def test_who_signs_in_starts_at_the_filter_or_where_the_address_leads(
    ann: Visitor, door: Door
) -> None:
    """Seen to fail with a client that is shown and left to itself."""
    searchbox = ann.page.get_by_role("searchbox")
    ann.enter(ANN)
    expect(searchbox).to_be_focused()
    press(ann, "Escape")
    ann.page.reload()
    expect(searchbox).to_be_focused()
    door(f"/chat/user#{BOB}")
    expect(ann.composer).to_be_focused()
    door("/group/closed/connect")
    expect(ann.button("Join")).to_be_focused()


def test_escape_empties_the_filter_and_then_leads_to_the_message_box(
    ann: Visitor, door: Door
) -> None:
    """Seen to fail with a filter that leaves every Escape to the page."""
    pair(ann, door)
    searchbox = ann.page.get_by_role("searchbox")
    press(ann, "Control+k")
    ann.page.keyboard.type("zzz")
    expect(ann.page.get_by_text("Nothing found.")).to_be_visible()
    press(ann, "Escape")
    expect(searchbox).to_have_value("")
    expect(searchbox).to_be_focused()
    expect(ann.page.get_by_text("Nothing found.")).to_have_count(0)
    expect(ann.row(CAT, among="Conversations")).to_be_visible()
    press(ann, "Escape")
    expect(ann.composer).to_be_focused()


def test_the_skip_link_leads_to_the_message_box(ann: Visitor, door: Door) -> None:
    group(ann, door)
    press(ann, "Control+k", *["Shift+Tab"] * 4)
    link = ann.page.get_by_role("link", name="Skip to the message box")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport(ratio=1)
    press(ann, "Enter")
    expect(ann.composer).to_be_focused()
    assert ann.place == "/group/club/connect"


SEEN: Final = """
() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const { width, height } = element.getBoundingClientRect();
  return outlineStyle !== "none" && parseFloat(outlineWidth) >= 1 && width > 1 && height > 1;
}
"""


def test_wherever_the_focus_goes_it_can_be_seen(ann: Visitor, door: Door) -> None:
    members(ann, door)
    press(ann, "Control+k")
    reached = []
    for _ in range(40):
        press(ann, "Tab")
        if not focused(ann).count():
            continue  # Behind the last there is the browser's own frame.
        assert ann.page.evaluate(SEEN), focused(ann).evaluate("one => one.outerHTML")
        reached.append(
            focused(ann).evaluate("one => one.getAttribute('aria-label') ?? one.innerText")
        )
        if ann.page.get_by_role("searchbox").evaluate("one => one === document.activeElement"):
            break
    for name in ("New group", "Members", "Leave", "Messages", "Message", "Send"):
        assert name in reached
    assert {"Your account", "Sign out"} <= set(reached)
    assert "Close the list of members" in reached


def expect_focus_kept(ann: Visitor) -> None:
    """Something has the focus: it did not fall back to the page with what it was on."""
    settled = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    ann.page.evaluate(f"() => {settled}")
    assert ann.page.evaluate("document.activeElement.localName") != "body"


def test_closing_the_members_leaves_the_focus_somewhere(ann: Visitor, door: Door) -> None:
    members(ann, door)
    ann.button("Close the list of members").click()
    expect(ann.list("Members")).to_be_hidden()
    expect_focus_kept(ann)


def test_leaving_and_joining_leave_the_focus_somewhere(ann: Visitor, door: Door) -> None:
    door("/group/passing/connect")
    ann.button("Create this group").click()
    ann.expect_open("Group passing")
    ann.button("Leave").click()
    expect(ann.button("Join")).to_be_visible()
    expect_focus_kept(ann)
    ann.button("Join").click()
    expect(ann.composer).to_be_focused()


def test_dialogs_close_with_escape_and_give_the_focus_back(ann: Visitor, door: Door) -> None:
    receivers(ann, door)
    press(ann, "Escape")
    expect(ann.page.get_by_role("dialog")).to_be_hidden()
    tick = ann.message("from Ann 0, see https://example.org/0").get_by_role("button")
    expect(tick).to_be_focused()


# -- on a phone --------------------------------------------------------------------------------


def test_on_a_phone_the_list_or_a_conversation_fills_the_screen(ann: Visitor, door: Door) -> None:
    ann.page.set_viewport_size(PHONE)
    nothing_open(ann, door)
    expect(ann.composer).to_be_hidden()
    ann.row(BOB, among="Conversations").click()
    ann.expect_open(BOB)
    expect(ann.list("Conversations")).to_be_hidden()
    assert sideways(ann.page) == []
    ann.button("Back to the list").click()
    expect(ann.list("Conversations")).to_be_visible()
    expect(ann.composer).to_be_hidden()
    expect_focus_kept(ann)
    ann.page.go_back()
    ann.expect_open(BOB)
    ann.page.go_back()
    expect(ann.list("Conversations")).to_be_visible()


def test_on_a_touch_screen_opening_brings_up_no_keyboard(
    visitor: MakeVisitor, tokens: dict[str, str]
) -> None:
    ann = visitor(viewport=PHONE, has_touch=True, is_mobile=True)
    ann.open(f"/chat?Authorization={tokens[ANN]}")
    ann.row(BOB, among="Conversations").tap()
    ann.expect_open(BOB)
    expect(ann.composer).not_to_be_focused()
    ann.open(f"/chat?Authorization={tokens[ANN]}")
    expect(ann.row(BOB, among="Conversations")).to_be_visible()
    expect(ann.page.get_by_role("searchbox")).not_to_be_focused()


# -- motion ------------------------------------------------------------------------------------

MOVING: Final = """
() => [...document.querySelectorAll("*")]
  .map((element) => getComputedStyle(element))
  .filter((style) => /[1-9]/.test(style.transitionDuration) || style.animationName !== "none")
  .length
"""


def test_nothing_moves_where_one_asked_for_rest(ann: Visitor, door: Door) -> None:
    group(ann, door)
    assert ann.page.evaluate(MOVING) == 0
    ann.page.emulate_media(reduced_motion="no-preference")
    assert ann.page.evaluate(MOVING) > 0

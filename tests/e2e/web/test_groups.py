"""Groups: made, joined, talked in, left."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.web.conftest import MakeAccount, MakeVisitor
from tests.e2e.web.visitor import REFUSED, Visitor

pytestmark = pytest.mark.browser

ANN, BOB, CYD = "ann@example.org", "bob@example.org", "cyd@example.org"
DOOR = "/group/python/connect"


def expect_receivers(person: Visitor, **names: str) -> None:
    """The dialog behind a tick names these, and nobody else."""
    dialog = person.page.get_by_role("dialog", name="Who has it")
    for title, email in names.items():
        listed = dialog.get_by_role("list", name=title.replace("_", " "), exact=True)
        expect(listed.get_by_role("listitem")).to_have_text([re.compile(re.escape(email))])
    expect(dialog.get_by_role("list")).to_have_count(len(names))
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def expect_beside(field: Locator, text: str) -> None:
    """The field is marked as wrong, and what is wrong with it stands by it."""
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(re.escape(text)))


def test_a_group_that_nobody_made_is_made_at_its_own_address(visitor: MakeVisitor) -> None:
    ann = visitor()
    ann.enter(ANN, DOOR)
    expect(ann.page.get_by_text("There is no group “python” yet.")).to_be_visible()
    expect(ann.composer).to_be_hidden()
    ann.button("Create this group").click()
    ann.expect_open("Group python")
    expect(ann.row("python", among="Conversations")).to_be_visible()
    ann.say("first!")
    ann.expect_tick("first!", "stored")
    assert ann.place == DOOR


def test_a_name_that_no_group_can_have_is_refused_with_the_reason(visitor: MakeVisitor) -> None:
    ann = visitor(REFUSED)
    ann.enter(ANN, "/group/_python/connect")
    ann.button("Create this group").click()
    expect(
        ann.page.get_by_role("alert").filter(has_text="the first a letter or a digit")
    ).to_be_visible()
    expect(ann.button("Create this group")).to_be_visible()


def test_who_is_no_member_joins_first(visitor: MakeVisitor, account: MakeAccount) -> None:
    ann = account(ANN)
    ann.create("python")
    ann.say("welcome", group="python")
    bob = visitor()
    bob.enter(BOB, DOOR)
    expect(bob.page.get_by_text("You are not a member of python.")).to_be_visible()
    expect(bob.page.get_by_text("welcome")).to_have_count(0)
    expect(bob.composer).to_be_hidden()
    bob.button("Join").click()
    bob.expect_open("Group python")
    bob.expect_texts("welcome")
    bob.expect_unread("python", 0)
    bob.say("thanks")
    bob.expect_tick("thanks", "stored")
    assert ann.texts(group="python") == ["welcome", "thanks"]


def test_three_members_hear_each_other_live(visitor: MakeVisitor, account: MakeAccount) -> None:
    account(ANN).create("python")
    people = []
    for email in (ANN, BOB, CYD):
        if email != ANN:
            account(email).join("python")
        people.append(visitor())
        people[-1].enter(email, DOOR)
        people[-1].expect_open("Group python")
    said = []
    for number, person in enumerate(people):
        said.append(f"said by {number}")
        person.say(said[-1])
        for one in people:
            one.expect_texts(*said)
    expect(people[0].message("said by 1")).to_contain_text(BOB)
    assert account(ANN).texts(group="python") == said


def test_the_tick_counts_who_has_a_message_and_names_them(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN).create("python")
    for email in (BOB, CYD):
        account(email).join("python")
    ann, bob, cyd = visitor(), visitor(), visitor()
    ann.enter(ANN, DOOR)
    ann.say("hello")
    ann.expect_tick("hello", "stored")
    tick = ann.message("hello").get_by_role("button")
    tick.click()
    dialog = ann.page.get_by_role("dialog", name="Who has it")
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    dialog.get_by_role("button", name="Close").click()

    bob.enter(BOB)
    bob.expect_unread("python", 1)
    expect(tick).to_have_accessible_name("delivered to 1 of 2")
    tick.click()
    expect_receivers(ann, Delivered_to=BOB, Not_yet_delivered_to=CYD)
    bob.pick("python", among="Conversations")
    expect(tick).to_have_accessible_name("delivered to 1 of 2, read by 1 of 2")

    cyd.enter(CYD)
    expect(tick).to_have_accessible_name("delivered to 2 of 2, read by 1 of 2")
    tick.click()
    expect_receivers(ann, Read_by=BOB, Delivered_to=CYD)
    cyd.pick("python", among="Conversations")
    expect(tick).to_have_accessible_name("delivered to 2 of 2, read by 2 of 2")


def test_the_members_are_listed_those_on_line_first(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(ANN).create("python")
    account(BOB).join("python")
    cyd, dan = visitor(), visitor()
    cyd.enter(CYD, DOOR)
    cyd.button("Join").click()
    expect(cyd.page.get_by_text("3 members, 1 on line")).to_be_visible()
    cyd.page.get_by_role("button", name="Members").click()
    members = cyd.list("Members").get_by_role("listitem")
    expect(members).to_have_text(
        [re.compile(f"{CYD}, on line.*you"), re.compile(ANN), re.compile(BOB)]
    )
    dan.enter("dan@example.org", DOOR)
    dan.button("Join").click()
    expect(cyd.page.get_by_text("4 members, 2 on line")).to_be_visible()
    expect(members).to_have_count(4)
    expect(members.nth(1)).to_contain_text("dan@example.org, on line")
    dan.page.close()
    expect(cyd.page.get_by_text("4 members, 1 on line")).to_be_visible()
    cyd.row(ANN, among="Members").click()
    cyd.expect_open(ANN)


def test_who_left_hears_nothing_until_joining_again(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    ann = account(ANN)
    ann.create("python")
    ann.say("before", group="python")
    account(BOB).join("python")
    bob = visitor()
    bob.enter(BOB, DOOR)
    bob.expect_texts("before")
    bob.button("Leave").click()
    expect(bob.page.get_by_text("You are not a member of python.")).to_be_visible()
    none_yet = "None yet. Pick somebody, or find a group by typing its name in the filter."
    expect(bob.page.get_by_text(none_yet)).to_be_visible()
    expect(bob.composer).to_be_hidden()
    ann.say("between", group="python")
    # What comes for him now would have come behind the other.
    ann.say("to you alone", user=BOB)
    bob.expect_unread(ANN, 1)
    expect(bob.row("python", among="Conversations")).to_have_count(0)
    bob.button("Join").click()
    bob.expect_texts("before", "between")
    ann.say("after", group="python")
    bob.expect_texts("before", "between", "after")


def test_a_new_group_is_made_in_a_dialog_which_says_what_is_wrong_beside_the_field(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    account(BOB).create("python")
    ann = visitor(REFUSED)
    ann.enter(ANN)
    ann.button("New group").click()
    dialog = ann.page.get_by_role("dialog", name="New group")
    name, title = dialog.get_by_label("Name"), dialog.get_by_label("Title (optional)")
    create = dialog.get_by_role("button", name="Create group")
    name.fill("no blanks")
    create.click()
    expect_beside(name, "the first a letter or a digit")
    name.fill("python")
    expect(name).not_to_have_attribute("aria-invalid", "true")
    create.click()
    expect_beside(name, "python")
    name.fill("rust")
    title.fill("x" * 129)
    create.click()
    expect_beside(title, "128")
    title.fill("Rust")
    create.click()
    expect(dialog).to_be_hidden()
    ann.expect_open("Rust")
    assert ann.place == "/group/rust/connect"
    assert [group["name"] for group in account(ANN).call("GET", "/v1/me/groups")["items"]] == [
        "rust"
    ]


def test_a_group_is_shown_by_its_title_in_any_script(
    visitor: MakeVisitor, account: MakeAccount
) -> None:
    ann, bob = visitor(), account(BOB)
    ann.enter(ANN)
    for name, title in {"ru": "Питонисты", "he": "קבוצת פייתון", "zh": "蟒蛇小组"}.items():
        bob.create(name, title)
        ann.find(name)
        ann.row(title, among="Groups found").click()
        ann.button("Join").click()
        ann.expect_open(title)
        expect(ann.row(title, among="Conversations")).to_be_visible()
        expect(ann.page.get_by_text(f"{name} · 2 members, 1 on line")).to_be_visible()
        expect(ann.page).to_have_title(f"{title} · chatd")

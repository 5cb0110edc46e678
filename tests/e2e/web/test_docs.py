"""Swagger UI, as people see it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.web.conftest import MakeVisitor

pytestmark = pytest.mark.browser


def execute(page: Page, summary: str) -> str:
    """Try an operation out; the server's answer as the page shows it."""
    operation = page.locator(".opblock", has_text=summary)
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response .response-col_description")
    return answer.first.inner_text()


def authorize(page: Page, token: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").fill(token)
    buttons = page.locator(".auth-btn-wrapper")
    buttons.get_by_role("button", name="Apply credentials").click()
    buttons.get_by_role("button", name="Close").click()


def test_in_swagger_ui_one_signs_in_authorizes_makes_a_group_and_lists_it(
    visitor: MakeVisitor,
) -> None:
    ann = visitor()
    page = ann.page
    ann.open("")
    assert ann.place == "/docs"
    signed_in = execute(page, "Sign in; the first sign-in")
    found = re.search(r'"token": "([^"]+)"', signed_in)
    assert found, signed_in
    authorize(page, found[1])
    assert '"name": "python"' in execute(page, "Make a group; its creator is a member")
    listed = execute(page, "List groups")
    assert '"name": "python"' in listed
    assert '"joined": true' in listed


def test_the_documentation_shows_no_foreign_document_and_keeps_no_token(
    visitor: MakeVisitor,
) -> None:
    """Who follows a link to it is not led to sign in elsewhere: nothing else is even asked for."""
    ann = visitor()
    elsewhere = "http://evil.example/openapi.json"
    ann.open(f"/docs?url={elsewhere}&urls.primaryName=x&configUrl={elsewhere}#/?url={elsewhere}")
    expect(ann.page.get_by_role("heading", name="chatd")).to_be_visible()
    authorize(ann.page, "a.secret.token")
    assert "a.secret.token" not in str(ann.kept())
    assert ann.context.cookies() == []
    ann.page.reload()
    ann.page.get_by_role("button", name="Authorize").first.click()
    expect(ann.page.locator(".auth-container input")).to_have_value("")

"""What a page looks like, measured: does something stick out, which way is something written."""

from __future__ import annotations

from typing import Final

from playwright.sync_api import Locator, Page

_SIDEWAYS: Final = """
() => {
  const clipped = (element) =>
    element && (getComputedStyle(element).clipPath !== "none" || clipped(element.parentElement));
  const hidden = (element) => !element.checkVisibility() || clipped(element);
  const own = (element) => [element.localName, ...element.classList].join(".");
  const name = (element) => `${own(element.parentElement ?? element)} > ${own(element)}`;
  const found = [];
  for (const element of document.querySelectorAll("*")) {
    if (!(element instanceof HTMLElement) || hidden(element)) continue;
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    // What stands in a line is cut with the line.
    if (box.width <= 1 || style.display === "inline") continue;
    if (box.left < -1 || box.right > innerWidth + 1) found.push(`${name(element)} sticks out`);
    if (["auto", "scroll"].includes(style.overflowX) && element.scrollWidth > element.clientWidth) {
      found.push(`${name(element)} scrolls sideways`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
  return found;
}
"""


def sideways(page: Page) -> list[str]:
    """What of a page reaches over its left or right edge, or has to be scrolled sideways."""
    return list(page.evaluate(_SIDEWAYS))


def reads_from_left(locator: Locator) -> bool:
    """Whether the first character of an element's text stands to the left of its last one."""
    return bool(
        locator.evaluate(
            """element => {
              const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
              const places = [];
              while (walker.nextNode()) {
                const { data } = walker.currentNode;
                for (const at of [0, data.length - 1]) {
                  const range = document.createRange();
                  range.setStart(walker.currentNode, at);
                  range.setEnd(walker.currentNode, at + 1);
                  places.push(range.getBoundingClientRect().left);
                }
              }
              return places[0] < places.at(-1);
            }"""
        )
    )

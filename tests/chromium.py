"""A real Chromium: the system's own, driven by Playwright, and kept to the machine it runs on."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import playwright.sync_api as playwright
import pytest

from tests.processes import DEADLINE, wait_until

# A page that hangs ends its test, and says over what; far beyond what any takes.
PATIENCE = 60_000

# The same for what a whole run or backfill comes before.
PATIENCE_FOR_A_RUN = 1_000 * DEADLINE

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

_LOOPBACK = re.compile(r"(http://127\.0\.0\.1:\d+/|ws://127\.0\.0\.1:\d+/|file://|data:|blob:)")

# The first thing about a name, in its row or its node of the graph, that is painted or edged in a
# colour and not in a grey or a tint.
_COLOUR_OF = """
element => {
  const node = element.closest("foreignObject");
  const text = element.textContent.trim();
  const isAbout = around =>
    around && (node ? node.contains(around) : around.textContent.trim() === text);
  for (let around = element; isAbout(around); around = around.parentElement)
    for (const mark of [around, ...around.querySelectorAll("*")]) {
      const style = getComputedStyle(mark);
      const edge = parseFloat(style.borderTopWidth) ? style.borderTopColor : "";
      for (const colour of [style.backgroundColor, edge]) {
        const [r, g, b, a = 1] = (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
        if (a && Math.max(r, g, b) - Math.min(r, g, b) > 80)
          return r > Math.max(g, b) ? "red" : g > Math.max(r, b) ? "green" : "blue";
      }
    }
  return null;
}
"""


def executable() -> str:
    """Return where Chromium is; skip where it is not installed, but never in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get("CI"):
        pytest.fail("there is no Chromium: `.ci/run` is to install it")
    return found or pytest.skip("there is no Chromium: install the package `chromium`")


class Browser:
    """A browser of which every request beyond the machine is known; none is let through.

    Attributes
    ----------
    foreign : list of str
        Addresses beyond the machine that pages asked for.
    """

    def __init__(self, process: playwright.Browser) -> None:
        self._process = process
        self.foreign: list[str] = []

    @contextmanager
    def page(self, **options: Any) -> Iterator[playwright.Page]:
        """Open a page that remembers nothing of others, with a window of 1400 x 900 unless told."""
        usual = {
            "viewport": {"width": 1400, "height": 900},
            "locale": "en-GB",
            "timezone_id": "UTC",
            "reduced_motion": "reduce",
        }
        context = self._process.new_context(**(usual | options))
        context.set_default_timeout(PATIENCE)
        context.on("request", self._see)
        context.route(lambda url: not _LOOPBACK.match(url), lambda route: route.abort())
        yield context.new_page()
        context.close()

    def _see(self, request: playwright.Request) -> None:
        if not _LOOPBACK.match(request.url):
            self.foreign.append(request.url)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it, without a window on the screen."""
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=executable(), args=_FLAGS)
        yield Browser(process)
        process.close()


def wait_for_colour(element: playwright.Locator, colour: str) -> None:
    """Wait until the status that is painted about an element is `red` or `green`."""
    wait_until(lambda: element.evaluate(_COLOUR_OF) == colour, f"{element} was {colour}")

# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real Chromium: with a mouse, with a keyboard only, on a telephone, in the dark."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lacre.audit.alerts import AlertState
from tests.dashboard.browsing import Served, chromium, served
from tests.dashboard.world import World, make_world

pytestmark = pytest.mark.any_sqlalchemy

PATHS = ["/", "/accesses", "/alerts", "/fields", "/keys", "/rights?who=compliance", "/report", "/accesses?correlation=req-hostile", "/trail/req-hostile", "/accesses?action=none", "/nothing"]  # fmt: skip

# What a screen reader needs of every page, asked of the page itself.
_ACCESSIBLE = """() => {
  const wrong = [];
  const name = (el) => (el.getAttribute('aria-label') || (el.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id)?.textContent || '').join(' ') || el.textContent || el.querySelector('img')?.alt || '').trim();
  const one = (selector) => { const n = document.querySelectorAll(selector).length; if (n !== 1) wrong.push(`${n} of ${selector}`); };
  if (document.documentElement.lang !== 'en') wrong.push('no language');
  if (!document.title) wrong.push('no title');
  one('h1'); one('main'); one('header.top'); one('footer'); one('a.skip'); one('nav[aria-label="Pages"]');
  let level = 0;
  for (const h of document.querySelectorAll('h1, h2, h3')) { const n = +h.tagName[1]; if (n > level + 1) wrong.push(`heading jumps: ${h.textContent}`); level = n; }
  for (const t of document.querySelectorAll('table')) { if (!t.caption?.textContent.trim()) wrong.push('table without caption'); for (const th of t.querySelectorAll('th')) if (!th.scope) wrong.push(`th without scope: ${th.textContent}`); }
  for (const el of document.querySelectorAll('input:not([type=hidden]), select, textarea')) if (!el.labels.length) wrong.push(`no label: ${el.name}`);
  for (const el of document.querySelectorAll('a, button, summary')) if (!name(el)) wrong.push(`no name: ${el.outerHTML}`);
  for (const el of document.querySelectorAll('svg')) if (!(el.getAttribute('role') === 'img' && el.getAttribute('aria-label')) && el.getAttribute('aria-hidden') !== 'true') wrong.push('svg without a text');
  for (const el of document.querySelectorAll('section, [role=region], nav')) if (!name(el)) wrong.push('landmark without a name');
  for (const el of document.querySelectorAll('.scroll')) if (el.tabIndex !== 0) wrong.push('cannot be scrolled by keyboard');
  for (const el of document.querySelectorAll('img')) if (!el.hasAttribute('alt')) wrong.push('img without alt');
  const ids = [...document.querySelectorAll('[id]')].map(el => el.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id twice');
  return wrong;
}"""

# The contrast of every text with what is behind it, of large text and plots with 3, of other with 4.5.
_CONTRAST = """() => {
  const rgb = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return text.startsWith('color(') ? [m[0] * 255, m[1] * 255, m[2] * 255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1]; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const behind = (el) => { for (; el; el = el.parentElement) { const c = rgb(getComputedStyle(el).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255]; };
  const wrong = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const el = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !el.checkVisibility() || el.closest('svg, datalist, option')) continue;
    const style = getComputedStyle(el), size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const found = ratio(rgb(style.color), behind(el));
    if (found < (large ? 3 : 4.5)) wrong.add(`${found.toFixed(2)} ${el.className || el.tagName}: ${text.slice(0, 30)}`);
  }
  for (const el of document.querySelectorAll('svg.bars rect, svg.share rect:not(.f-empty), svg.swatch rect, svg.ring circle.ring-front')) {
    const style = getComputedStyle(el), colour = style.fill === 'none' ? style.stroke : style.fill;
    if (colour === 'none') continue;
    const found = ratio(rgb(colour), behind(el.ownerSVGElement));
    if (found < 3) wrong.add(`${found.toFixed(2)} ${el.getAttribute('class')}`);
  }
  return [...wrong];
}"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """Chromium, started once."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, _made_once: Path) -> Iterator[World]:
    """A world with hostile names, whose alerts may be acknowledged."""
    made = make_world(tmp_path_factory.mktemp("browser"), made=_made_once, events=1500, hostile=True)  # fmt: skip
    yield made
    made.close()


@pytest.fixture(scope="module")
def here(own: World) -> Iterator[Served]:
    """The dashboard, served."""
    with served(own.sources) as here:
        yield here


Opened = Callable[..., Page]


@pytest.fixture
def opened(chrome: Browser, here: Served) -> Iterator[Opened]:
    """Open a page that somebody is logged in at; console and requests are watched until the end."""
    contexts: list[BrowserContext] = []
    told: list[str] = []

    def open_(*, width: int = 1200, scheme: str = "light") -> Page:
        context = chrome.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: told.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: told.append(f"error: {error}"))
        page.on("request", lambda asked: None if asked.url.startswith(here.url + "/") else told.append(f"request: {asked.url}"))  # fmt: skip
        page.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))  # fmt: skip
        page.goto(here.links[-1])
        page.wait_for_url(here.url + "/")
        return page

    yield open_
    for context in contexts:
        context.close()
    # An answer of 400 or 404 is told as an error by the console itself.
    assert not [each for each in told if not re.search(r"status of 40[04]", each)]


def test_somebody_logs_in_filters_follows_and_sees_a_proof(opened: Opened, here: Served) -> None:
    """From the link to one event's proof by way of what happened in its request."""
    page = opened()
    page.get_by_role("link", name="Accesses", exact=True).click()
    page.get_by_label("Who", exact=True).fill("user:06")
    page.get_by_label("Class", exact=True).select_option("pii")
    page.get_by_role("button", name="Show").click()
    rows = page.get_by_role("table", name=re.compile("Events")).get_by_role("row")
    expect(rows.nth(1)).to_contain_text("user:06")
    people = {row.split("\t")[1] for row in rows.all_inner_texts()[1:]}
    page.get_by_role("link", name=re.compile("Everything of request")).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("One request")
    page.locator("ol.trail a").first.click()
    proof = page.get_by_role("region", name="Proof of inclusion")

    assert people == {"user:06"}
    expect(proof).to_contain_text("proved")
    proof.get_by_text("The signed checkpoint").click()
    expect(proof).to_contain_text("— svc:audit")
    assert page.url.startswith(here.url + "/accesses/2026")


def test_a_link_that_was_used_leads_to_the_login(chrome: Browser, here: Served) -> None:
    """And no page is shown without one; what was logged out stays out."""
    context = chrome.new_context()
    page = context.new_page()
    page.goto(here.url + "/keys")
    led = page.url
    link = here.links[-1]
    page.goto(link)
    page.wait_for_url(here.url + "/")
    page.get_by_role("button", name="Log out").click()
    out = page.url
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("used already")
    page.goto(here.url + "/keys")
    back = page.url
    context.close()

    assert led == out == back == here.url + "/login"


def test_the_operator_acknowledges_with_the_keyboard_only(opened: Opened, own: World) -> None:
    """Skip link, navigation, list, note and button are reached by Tab and used by Enter; focus is seen."""
    page = opened()
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    focused = page.evaluate("document.activeElement.id")
    page.goto(page.url.split("#")[0] + "alerts")

    def tab_to(text: str, *, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if text in page.evaluate("(e => e.matches('a, button, input, textarea') ? e.textContent + (e.name || '') : '')(document.activeElement)"):  # fmt: skip
                return
        raise AssertionError(f"Tab does not reach {text}")

    tab_to("guessing")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/alerts/[0-9a-f]+"))
    tab_to("note")
    page.keyboard.type("a load test of the fraud team")
    tab_to("Acknowledge", most=2)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Acknowledged")).to_be_visible()
    done = own.sources.alerts.list(state=AlertState.ACKNOWLEDGED)

    assert first == "Skip to the content"
    assert focused == "main"
    assert outline == "solid"
    assert [(each.rule, each.by, each.note) for each in done] == [("search-misses", "operator", "a load test of the fraud team")]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_has_contrast(opened: Opened, here: Served, scheme: str) -> None:  # fmt: skip
    """Landmarks, headings, captions, labels, texts of plots; 4.5 for text and 3 for what is drawn."""
    page = opened(scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    wrong = {}
    for path in PATHS:
        page.goto(here.url + path)
        if found := page.evaluate(_ACCESSIBLE) + page.evaluate(_CONTRAST):
            wrong[path] = found

    assert not wrong
    assert (sum(map(int, re.findall(r"\d+", background))) < 150) == (scheme == "dark")


def test_no_page_is_wider_than_a_telephone(opened: Opened, here: Served) -> None:
    """At 360 pixels the page does not scroll sideways, and what is pressed is tall enough for a finger."""
    page = opened(width=360)
    wide = {}
    for path in PATHS:
        page.goto(here.url + path)
        if page.evaluate("document.documentElement.scrollWidth > 360"):
            wide[path] = page.evaluate("[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361 && !e.closest('.scroll')).map(e => e.outerHTML.slice(0, 80))")  # fmt: skip
    low = page.evaluate("[...document.querySelectorAll('.nav a, button')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 32).length")  # fmt: skip

    assert not wide
    assert low == 0


def test_the_page_one_is_on_is_marked(opened: Opened, here: Served) -> None:
    """In the navigation, for eyes and for screen readers, on subpages too."""
    page = opened()
    for path, title in (("/", "Overview"), ("/keys", "Keys"), ("/trail/req-hostile", "Accesses")):
        page.goto(here.url + path)
        expect(page.locator("nav [aria-current=page]")).to_have_text(title)

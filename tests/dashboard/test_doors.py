# SPDX-License-Identifier: Apache-2.0
"""Who gets in, from where, and what every answer forbids."""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.audit.alerts import AlertState
from lacre.audit.entries import Entry
from lacre.dashboard import application, doors
from lacre.dashboard.application import PAGES
from lacre.dashboard.place import Place
from lacre.dashboard.sessions import Sessions
from lacre.errors import ConfigurationError, KeyStoreUnreachable
from lacre.stores.log.schema import INBOX
from tests.dashboard.conftest import Entrance
from tests.dashboard.world import World, make_world

PATHS = ["/accesses/202611/3", "/trail/abc", "/alerts/0123456789", "/logout", "/nothing", "/login/", "/lacre.css/", "//login", "/LOGIN", "/login/../keys", *(path for path, _, _ in PAGES if "{" not in path)]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_whoever_is_not_logged_in_is_led_to_the_login_from_everywhere(
    entrance: Entrance, path: str, method: str
) -> None:
    """No path tells whether it is one, to whoever has no session."""
    answer = entrance.browser().request(method, path)

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert not answer.content


def test_what_is_open_is_the_login_the_stylesheet_and_the_icon(entrance: Entrance) -> None:
    """These three say nothing of the application: not even its name."""
    texts = [entrance.browser().get(path) for path in sorted(doors.OPEN)]

    assert [each.status_code for each in texts] == [200, 200, 200]
    assert not any("svc:" in each.text or "shop" in each.text for each in texts)


def test_a_link_logs_in_once(entrance: Entrance, caplog: pytest.LogCaptureFixture) -> None:
    """The second who uses a link is refused; a new link was shown when the first did."""
    first, second = entrance.browser(), entrance.browser()
    token = entrance.tokens[-1]
    caplog.set_level(logging.DEBUG)
    done = first.get("/login", params={"token": token})
    again = second.get("/login", params={"token": token})

    assert done.status_code == 200
    assert first.get("/").status_code == 200
    assert again.status_code == 403
    assert "set-cookie" not in again.headers
    assert len(entrance.tokens) == 2
    # httpx, which asks here, logs what it asks; the dashboard does not.
    assert not [each for each in caplog.records if token in each.getMessage() and each.name.startswith(("lacre", "uvicorn", "starlette"))]  # fmt: skip


def test_the_cookie_is_for_this_site_and_for_no_script(entrance: Entrance) -> None:
    """HttpOnly, SameSite=Strict, of the whole site, named by the port; and no token in it."""
    token = entrance.tokens[-1]
    cookie = entrance.browser().get("/login", params={"token": token}).headers["set-cookie"]

    assert cookie.startswith("lacre-8321=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.lower().split("; "))
    assert token not in cookie


def test_looking_at_a_link_does_not_use_it_up(entrance: Entrance) -> None:
    """A HEAD request, as programs that preview links send, leaves it as it is."""
    entrance.browser().head("/login", params={"token": entrance.tokens[-1]})

    assert entrance.entered().get("/").status_code == 200


def test_a_token_may_be_pasted(entrance: Entrance) -> None:
    """The form of the login takes what the link has."""
    browser = entrance.browser()
    done = browser.post("/login", data={"token": f" {entrance.tokens[-1]} "})

    assert done.status_code == 200
    assert browser.get("/keys").status_code == 200


def test_a_link_is_to_be_used_in_a_quarter_of_an_hour(entrance: Entrance) -> None:
    """After that it is wrong, and another is shown."""
    entrance.now += 901
    late = entrance.browser().get("/login", params={"token": entrance.tokens[-1]})

    assert late.status_code == 403
    assert len(entrance.tokens) == 2
    assert entrance.entered().get("/").status_code == 200


def test_ten_failures_of_an_address_make_it_wait(entrance: Entrance) -> None:
    """The eleventh wrong token is told to wait, for five minutes; the right one is taken all the same: behind a proxy everybody has one address."""
    browser = entrance.browser()
    tried = [browser.get("/login", params={"token": str(n)}).status_code for n in range(10)]
    limited = browser.get("/login", params={"token": "wrong"})
    right = browser.get("/login", params={"token": entrance.tokens[-1]})
    entrance.now += 301

    assert tried == [403] * 10
    assert right.status_code == 200
    assert right.cookies
    assert limited.status_code == 429
    assert 0 < int(limited.headers["retry-after"]) <= 301
    assert entrance.entered().get("/").status_code == 200


def test_a_session_ends_when_idle_and_after_half_a_day() -> None:
    """An hour without a request, or twelve hours in all."""
    now, tokens = [0.0], list[str]()
    sessions = Sessions(clock=lambda: now[0], linked=tokens.append)
    sessions.link()
    kept = sessions.enter(tokens[-1], "a")
    assert kept is not None
    now[0] = 3600.0
    alive = sessions.visitor(kept)
    now[0] = 7201.0
    idle = sessions.visitor(kept)
    busy = sessions.enter(tokens[-1], "a") or sessions.enter(tokens[-1], "a")
    sessions.link()
    busy = sessions.enter(tokens[-1], "a")
    assert busy is not None
    begun = now[0]
    hours = []
    for hour in range(14):
        now[0] = begun + hour * 3600
        hours.append(sessions.visitor(busy) is not None)

    assert alive is not None
    assert idle is None
    assert hours == [True] * 13 + [False]


def test_logging_out_ends_the_session(entrance: Entrance) -> None:
    """What the browser had kept is worth nothing afterwards."""
    browser = entrance.entered()
    kept = browser.cookies["lacre-8321"]
    done = browser.post("/logout", data={"csrf": entrance.csrf()})
    browser.cookies.set("lacre-8321", kept)

    assert done.headers["location"] == "/login"
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:8321.evil.example", "127.0.0.1", "127.0.0.1:80", "localhost:8322", ""])  # fmt: skip
def test_another_name_is_not_answered(entrance: Entrance, host: str) -> None:
    """A page whose own name was made to lead here (DNS rebinding) gets nothing, logged in or not."""
    browser = entrance.entered()
    answers = [browser.get(path, headers={"host": host}) for path in ("/", "/login", "/lacre.css")]

    assert [each.status_code for each in answers] == [421] * 3
    assert not any("shop" in each.text for each in answers)


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, {}),
        ({}, {"csrf": "wrong"}),
        ({"origin": "https://evil.example"}, {"csrf": "right"}),
        ({"origin": "http://localhost:8322"}, {"csrf": "right"}),
        ({"sec-fetch-site": "cross-site"}, {"csrf": "right"}),
        ({"sec-fetch-site": "same-site"}, {"csrf": "right"}),
    ],
)
def test_a_form_of_somebody_else_changes_nothing(
    entrance: Entrance, world: World, headers: dict[str, str], form: dict[str, str]
) -> None:
    """Without the session's token, or from another origin or port, it is refused."""
    browser = entrance.entered()
    alert = world.sources.alerts.list()[0]
    form = {name: entrance.csrf() if value == "right" else value for name, value in form.items()}
    answer = browser.post(f"/alerts/{alert.id}/acknowledge", data=form, headers=headers)

    assert answer.status_code == 403
    assert world.sources.alerts.get(alert.id).state is AlertState.OPEN


def test_a_form_that_is_too_large_is_not_read(entrance: Entrance) -> None:
    """Nobody fills the memory with a form."""
    browser = entrance.entered()
    answer = browser.post("/logout", data={"csrf": entrance.csrf(), "note": "x" * 20_000})

    assert answer.status_code == 413
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/accesses", "/nothing", "/lacre.css", "/accesses?since=x"])
def test_every_answer_forbids_scripts_frames_caches_and_referrers(
    browser: Any, entrance: Entrance, path: str
) -> None:
    """So do errors, redirects, and refusals of a strange name."""
    strange = {"host": "evil.example"}
    for answer in (browser.get(path), entrance.browser().get(path), browser.get(path, headers=strange)):  # fmt: skip
        headers = answer.headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
        if headers.get("content-type", "").startswith("text/html"):
            assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_pages_are_only_read(browser: Any, method: str) -> None:
    """Another method than GET and HEAD is refused, everywhere."""
    assert browser.request(method, "/keys").status_code == 405


def test_what_breaks_a_page_is_told_to_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page has a reference, the log has it with the kind of error: neither has the error's text."""

    def broken(*_: object) -> Any:
        raise ValueError("529.982.247-25")

    pages = [(path, name, broken if path == "/keys" else page) for path, name, page in PAGES]
    monkeypatch.setattr(application, "PAGES", tuple(pages))
    answer = Entrance(sources=world.sources).entered().get("/keys")
    reference = re.search(r"<code>([0-9a-f]{8})</code>", answer.text)

    assert answer.status_code == 500
    assert reference
    assert reference[1] in caplog.text
    assert "ValueError" in caplog.text
    assert "529" not in answer.text + caplog.text


def test_an_error_of_ours_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sentence and its hint are a page."""

    def away(*_: object) -> Any:
        raise KeyStoreUnreachable("the key store is busy", hint="try <again>")

    pages = [(path, name, away if path == "/keys" else page) for path, name, page in PAGES]
    monkeypatch.setattr(application, "PAGES", tuple(pages))
    answer = Entrance(sources=world.sources).entered().get("/keys")

    assert answer.status_code == 503
    assert "the key store is busy" in answer.text
    assert "try &lt;again&gt;" in answer.text


def test_behind_a_proxy_it_is_where_the_public_url_says(world: World) -> None:
    """Links have its path, the cookie is Secure and of that path, and only its name is answered."""
    entrance = Entrance(sources=world.sources, place=Place(public="https://evidence.example.org/lacre"))  # fmt: skip
    done = entrance.browser().get("/lacre/login", params={"token": entrance.tokens[-1]})
    browser = entrance.entered()
    page = browser.get("/lacre/keys")
    stripped = browser.get("/keys", headers={"cookie": f"__Secure-lacre={browser.cookies['__Secure-lacre']}"})  # fmt: skip
    own = browser.get("/lacre/keys", headers={"host": "127.0.0.1:8321"})

    assert "__Secure-lacre=" in done.headers["set-cookie"]
    assert {"Secure", "Path=/lacre"} <= set(done.headers["set-cookie"].split("; "))
    assert 'href="/lacre/accesses"' in page.text
    assert not re.findall(r'(?:href|action)="(?!/lacre|#)[^"]*"', page.text)
    assert stripped.status_code == 200  # as a proxy that takes the path away sends it
    assert own.status_code == 421
    assert page.headers["strict-transport-security"]


def test_forwarded_headers_say_nothing(entrance: Entrance) -> None:
    """Whoever reaches the port does not choose the address that is counted, the name or the path."""
    forwarded = {"x-forwarded-for": "192.0.2.1", "x-forwarded-host": "evil.example"}
    browser = entrance.browser(**forwarded, forwarded="for=192.0.2.1")
    for number in range(10):
        browser.get("/login", params={"token": "x"}, headers={"x-forwarded-for": f"192.0.2.{number}"})  # fmt: skip
    limited = browser.get("/login", params={"token": "x"}, headers={"x-forwarded-for": "192.0.2.99"})  # fmt: skip

    assert limited.status_code == 429
    assert "evil" not in limited.text


@pytest.mark.parametrize("url", ["evidence.example.org", "ftp://a/b", "https://", "https://u:p@a/", "https://a/?x=1", "https://a:port/"])  # fmt: skip
def test_a_public_url_that_is_none_is_refused(url: str) -> None:
    """It decides whose forms and cookies are believed."""
    with pytest.raises(ConfigurationError):
        Place(public=url)


def test_the_operator_acknowledges_and_the_log_says_so(tmp_path: Path, world: World) -> None:
    """The alert says who and what they found; the entry says who; the second who does is told."""
    own = make_world(tmp_path, events=20)
    try:
        entrance = Entrance(sources=own.sources)
        browser = entrance.entered()
        alert = own.sources.alerts.list()[0]
        form = {"csrf": entrance.csrf(), "note": "a <b>drill</b>"}
        done = browser.post(f"/alerts/{alert.id}/acknowledge", data=form)
        again = browser.post(f"/alerts/{alert.id}/acknowledge", data=form)
        page = browser.get(done.headers["location"])
        with own.log.reading() as connection:
            entries = [Entry.read(bytes(row.entry)) for row in connection.execute(sa.select(INBOX))]
        said = [each.members for each in entries if each.members.get("step") == "acknowledged"]
        after = own.sources.alerts.get(alert.id)
    finally:
        own.close()

    assert done.status_code == 303
    assert again.status_code == 409
    assert (after.state, after.by, after.note) == (AlertState.ACKNOWLEDGED, "operator", "a <b>drill</b>")  # fmt: skip
    assert [(each["principal"], each["alert"]) for each in said] == [("operator", alert.id)]
    assert "a &lt;b&gt;drill&lt;/b&gt;" in page.text


def test_where_no_operator_is_nobody_acknowledges(world: World) -> None:
    """There is no form, and a form that is sent changes nothing."""
    entrance = Entrance(sources=dataclasses.replace(world.sources, operator=None))
    browser = entrance.entered()
    alert = world.sources.alerts.list()[0]
    page = browser.get(f"/alerts/{alert.id}")
    sent = browser.post(f"/alerts/{alert.id}/acknowledge", data={"csrf": entrance.csrf()})

    assert "/acknowledge" not in page.text
    assert sent.status_code == 503
    assert world.sources.alerts.get(alert.id).state is AlertState.OPEN

"""The pages of the service: what they show, who may see and do what, and that nothing that others wrote runs there."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web

from runner.service import watch
from runner.service.web import filters
from runner.service.web.errors import groups_of
from runner.service.web.filters import Wanted, look_up
from runner.service.web.overview import duration
from tests.browser import Page, browse, needs_a_browser
from tests.service import Running, chat
from tests.serving import Served, chat_answer

OK = {
    "task_type": "metric",
    "alias": "ok",
    "configuration": {"type": "exact_match", "candidate": "item.r", "reference": "item.a"},
}
HOSTILE = "<script>document.title='broken'</script><img src=x onerror=alert(1)>\"'{{7*7}}"
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Model:
    """Answers what it was asked; to some never, and to others only once they are let go."""

    def __init__(self) -> None:
        self.open = threading.Event()

    async def answer(self, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        question = str(body["messages"][-1]["content"])
        if question.startswith("bad"):
            return web.json_response({"error": {"message": f"no answer to {question} for {HOSTILE}"}}, status=400)
        while question.startswith("held") and not self.open.is_set():  # noqa: ASYNC110  another thread sets it
            await asyncio.sleep(0.01)
        return web.json_response(chat_answer(question))


ROWS = [
    {"q": f"{'bad' if number % 10 == 7 else 'good'} {number}", "a": f"good {number}" if number % 2 else "other", "h": HOSTILE}
    for number in range(120)
]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("pages") / "s"
    with patch.object(watch, "EVERY_S", 0.1), Served(model.answer) as endpoint, Running(path, endpoint) as service:
        yield service
        model.open.set()


@pytest.fixture(scope="module")
def ended(running: Running) -> str:
    made = running.create(
        [*ROWS, {"q": "good", "a": PICTURE, "h": 1}],
        chat("item.q"),
        OK,
        name=HOSTILE,
        tags=[HOSTILE],
        metadata={HOSTILE: HOSTILE},
    )
    running.ended(made["id"])
    return str(made["id"])


def shown(running: Running, path: str, status: int = 200) -> str:
    found, text = running.ask("GET", path)
    assert found == status, text
    assert len(text) < 100_000
    return str(text)


def test_the_list_says_of_each_how_it_stands(running: Running, ended: str) -> None:
    text = shown(running, "/")
    assert f'href="/e/{ended}"' in text
    assert '109 · <span class="failed">12 failed</span> of 121' in " ".join(text.split())
    assert "ok 0.4" in text
    assert ended not in shown(running, "/?name=nothing+of+it")
    assert ended not in shown(running, "/?status=failed")
    assert ended not in shown(running, "/?tag=other")


@pytest.mark.parametrize("path", ["/", "/e/{}", "/e/{}?status=failed", "/e/{}/i/7", "/e/{}/i/120", "/compare", "/endpoints"])
def test_what_others_wrote_is_text(running: Running, ended: str, path: str) -> None:
    text = shown(running, path.format(ended))
    assert "<script>document" not in text
    assert "onerror=alert" not in re.sub(r"&lt;img src=x onerror=alert", "", text)
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/pages.js" defer>']


def test_errors_are_grouped_by_what_they_say(running: Running, ended: str) -> None:
    groups, looked = groups_of(running.service.standings, running.service.store.records[ended])
    assert looked is None
    assert [(group.kind, group.count, group.row, group.alias) for group in groups] == [
        ("request", 12, 7, "r"),
        ("dependency", 12, 7, "ok"),
    ]
    text = shown(running, f"/e/{ended}")
    assert "400 Bad Request: no answer to bad 7" in text
    assert text.count("no answer to bad") == 1 + 10, "once in the table of errors, and of each item of this page"


def test_a_table_of_errors_that_takes_too_long_says_how_many_rows_it_covers(
    running: Running, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.service.web.errors._READ_AT_ONCE", 2)
    times = iter([0.0, 0.5, 0.9, 1.0])
    monkeypatch.setattr("runner.service.web.errors.time", SimpleNamespace(monotonic=lambda: next(times)))
    groups, looked = groups_of(running.service.standings, running.service.store.records[ended])
    assert [(group.kind, group.count) for group in groups] == [("request", 4), ("dependency", 4)]
    assert looked == 38, "of the rows 7, 17, 27 and 37"


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(), list(range(100))),
        (Wanted(status="failed"), list(range(7, 120, 10))),
        (Wanted(status="pending"), []),
        (Wanted(status="passed", alias="ok", value="0"), list(range(0, 121, 2))),
        (Wanted(kind="dependency"), list(range(7, 120, 10))),
        (Wanted(alias="r", kind="dependency"), []),
        (Wanted(text="GOOD 11"), [11, *range(110, 120)]),
        (Wanted(text="no answer to bad 1"), [17, 107, 117]),
    ],
)
def test_items_are_found_by_how_they_stand_and_what_they_hold(
    running: Running, ended: str, wanted: Wanted, numbers: list[int]
) -> None:
    record, standings = running.service.store.records[ended], running.service.standings
    found = look_up(standings, record, wanted, -1)
    assert [int(item["id"].rpartition(".")[2]) for item in found.items] == numbers
    assert Wanted.of(dict(part.split("=") for part in wanted.query[1:].replace("+", " ").split("&") if part)) == wanted
    back = look_up(standings, record, wanted, record.rows, forward=False)
    assert [item["id"] for item in back.items] == [item["id"] for item in (found.items if len(numbers) < 100 else back.items)]


def test_pages_of_items_lead_on_and_back(running: Running, ended: str) -> None:
    first = shown(running, f"/e/{ended}")
    assert "Previous" not in first
    (after,) = re.findall(r'href="/e/\w+\?after=(\d+)', first)
    second = shown(running, f"/e/{ended}?after={after}")
    assert re.findall(r"/i/(\d+)\?", second) == [str(number) for number in range(100, 121)]
    (before,) = re.findall(r'href="/e/\w+\?before=(\d+)', second)
    assert re.findall(r"/i/(\d+)\?", shown(running, f"/e/{ended}?before={before}")) == [str(number) for number in range(100)]


def test_a_search_that_takes_long_says_how_far_it_came(running: Running, ended: str) -> None:
    with patch.object(filters, "_LONGEST_S", 0.0), patch.object(filters, "_READ_AT_ONCE", 5):
        text = shown(running, f"/e/{ended}?text=good+119")
    assert "stopped after two seconds, at item 4" in text
    assert "after=4&amp;text=good+119" in text


def test_an_item_shows_what_was_asked_and_how_to_ask_it_again(running: Running, ended: str) -> None:
    text = shown(running, f"/e/{ended}/i/8?status=passed")
    assert "curl -sS" in text
    assert "chat/completions" in text
    assert "&#34;content&#34;:&#34;good 8&#34;" in text
    assert f'href="/e/{ended}/i/6?&amp;status=passed" data-key="k"' in text
    assert f'href="/e/{ended}/i/9?&amp;status=passed" data-key="j"' in text
    assert "400 Bad Request" in shown(running, f"/e/{ended}/i/7")
    assert f'src="{PICTURE}"' in shown(running, f"/e/{ended}/i/120")
    assert "has 121 items" in shown(running, f"/e/{ended}/i/121", 404)


def test_what_runs_is_seen_to_run(running: Running, model: Model) -> None:
    made = running.create(
        [{"q": f"{'held' if number else 'good'} {number}"} for number in range(40)], chat("item.q"), name="held"
    )
    try:
        text = ""
        while "8 in flight" not in text or "39 pending" not in text:
            text = shown(running, f"/e/{made['id']}/live")
            assert "Cancel" not in text
        while "latency p50" not in text or "Results per second" not in text:
            text = shown(running, f"/e/{made['id']}/live")
        assert 'hx-trigger="every 2s"' in shown(running, f"/e/{made['id']}")
        assert f'<a href="/e/{made["id"]}">held</a>' in shown(running, "/endpoints")
    finally:
        model.open.set()
    running.ended(made["id"])
    assert "hx-trigger" not in shown(running, f"/e/{made['id']}")
    model.open.clear()


def posted(running: Running, path: str, form: str = "", **headers: str) -> int:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(running.url + path, method="POST", data=form.encode(), headers=given)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def test_only_a_page_of_the_service_lets_something_be_done(running: Running) -> None:
    made = running.create([{"q": "good"}], chat("item.q"), name="kept")
    running.ended(made["id"])
    for origin in ({}, {"Origin": "http://elsewhere"}, {"Origin": "null"}):
        assert posted(running, f"/e/{made['id']}/archive", **origin) == 403
    assert posted(running, f"/e/{made['id']}/cancel", Origin=running.url) == 409
    assert running.ask("GET", f"/v5/evaluations/{made['id']}")[0] == 200
    assert posted(running, f"/e/{made['id']}/archive", Origin=running.url) == 303
    assert running.ask("GET", f"/v5/evaluations/{made['id']}")[0] == 404


def test_a_key_is_asked_once_and_leads_nobody_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEYS", "ann=one,bob@red=two")
    with Running(tmp_path / "s", more="keys_env: SERVICE_KEYS") as service:
        service.key = ""
        assert "password" in shown(service, "/"), "which leads to where the key is asked"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

        def sign_in(key: str, account: str = "", to: str = "/") -> Any:
            form = f"key={key}&account={account}&next={to}".encode()
            return browser.open(urllib.request.Request(f"{service.url}/sign-in", data=form, headers={"Origin": service.url}))

        assert "Evaluations" in sign_in("one", to="//elsewhere/").read().decode()
        assert "in the account red" in sign_in("two", "red").read().decode()
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            sign_in("two", "blue")
        refused.value.close()
        assert posted(service, "/sign-in", "key=one", Origin="http://elsewhere") == 403
        made = urllib.request.Request(f"{service.url}/sign-in", data=b"key=one", headers={"Origin": service.url})
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(_Stay).open(made)
        answer.value.close()
        cookie = str(answer.value.headers["Set-Cookie"])
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie


@pytest.mark.long
def test_files_exports_report_and_comparison(running: Running, ended: str) -> None:
    assert running.ask("GET", f"/e/{ended}/export.csv")[1].startswith("id,q,a,h")
    assert "say" not in running.ask("GET", f"/e/{ended}/file/config.yaml")[1]
    assert running.ask("GET", f"/e/{ended}/file/request.json")[0] == 404
    other = running.create(ROWS, chat("item.q"), {**OK, "alias": "ok"}, name="other")
    running.ended(other["id"])
    assert other["id"] in shown(running, "/compare")
    status, compared = running.ask("GET", f"/compare?a={ended}&b={other['id']}")
    assert (status, "A is the baseline" in compared) == (200, True)
    assert running.ask("GET", f"/e/{ended}/report")[0] == 200
    assert "there is no evaluation" in shown(running, "/compare?a=x&b=y", 404)


@pytest.mark.long
@needs_a_browser
def test_in_a_browser(running: Running, ended: str, model: Model) -> None:
    made = running.create([{"q": f"held {number}"} for number in range(20)], chat("item.q"), name="watched")

    async def look(page: Page) -> None:
        await page.until("document.querySelector('#live').textContent.includes('8 in flight')")  # htmx has brought it
        model.open.set()
        await page.until("document.body.textContent.includes('Retry errors')")  # it has ended, and the page is new
        assert await page.value("document.querySelector('.pending') === null || !document.querySelector('[hx-trigger]')")
        await page.tell("Page.navigate", url=f"{running.url}/e/{ended}")
        await page.until(
            "document.querySelectorAll('#items ~ .wide tbody tr').length === 100 && document.readyState === 'complete'"
        )
        await page.press("f")
        await page.until(
            "location.search === '?status=failed' && document.querySelectorAll('#items ~ .wide tbody tr').length === 12"
        )
        await page.until("document.readyState === 'complete'")
        await page.value("document.querySelector('#items ~ .wide tbody a').click()")
        await page.until("location.pathname.endsWith('/i/7') && document.readyState === 'complete'")
        await page.press("j")
        await page.until("location.pathname.endsWith('/i/17') && document.readyState === 'complete'")
        assert await page.value("document.title.startsWith('Item 17 of <script>')")
        await page.tell("Page.navigate", url=f"{running.url}/compare?a={ended}&b={made['id']}")
        await page.until("document.body.textContent.includes('A is the baseline')")
        running.create(ROWS[:1], name=HOSTILE * 2)
        await page.tell("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=False)
        for path in ("/", "/compare", f"/e/{ended}", f"/e/{ended}/i/7", "/endpoints"):
            await page.tell("Page.navigate", url=running.url + path)
            await page.until(f"location.pathname === '{path}' && document.readyState === 'complete'")
            assert await page.value("document.documentElement.scrollWidth") <= 400, path
        assert page.said == []
        assert all(url.startswith((running.url, "data:")) for url in page.requested)

    browse(f"{running.url}/e/{made['id']}", look)
    model.open.clear()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 00"), (3840, "1 h 04"), (86400 * 2 + 3 * 3600, "2 d 03")]
)
def test_a_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said

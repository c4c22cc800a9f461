"""The status page as a browser shows it: Chromium, a phone's width and a desk's, light and dark."""

from __future__ import annotations

import copy
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.onbox.status_page.chromium import Browser, chromium
from tests.unit.onbox.status_page.serving import Running, serving
from tests.unit.onbox.status_page.statusbox import NAMES, StatusBox, names_somebody

pytestmark = pytest.mark.commands

PHONE, DESK = 375, 1280
WAYS_IN = (
    "<img src=x onerror=pwned=1>",
    "<script>pwned=1</script>",
    "</td></table>'\"><b>",
    "&lt;b",
)
# By WCAG 2's formula: the contrast of each piece of text with what lies behind it; the smallest.
CONTRAST = """(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let up = element; up; up = up.parentElement) {
      const colour = getComputedStyle(up).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))];
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.textContent]);
  }
  return found.sort((one, other) => one[0] - other[0])[0];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker with reports of its own writes, by the real script."""
    box = StatusBox.make(tmp_path_factory.mktemp("gathered"))
    box.role("devel", "worker")
    box.report("tunnel", queue={"link": "up", "since": int(time.time()) - 3000})
    line = {"time": 1795550200, "event": "job failed"}
    box.report("worker", jobs={"done": 128, "failed": 3}, log=[line])
    return box.gathered()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("box")) as running:
        yield running


@pytest.fixture
def shown(browser: Browser, server: Running, gathered: dict[str, Any]) -> Shown:
    return Shown(browser, server, copy.deepcopy(gathered))


class Shown:
    """The page of a box; ``status`` is what the box says of itself, to be changed at will."""

    def __init__(self, browser: Browser, server: Running, status: dict[str, Any]) -> None:
        self.browser, self.server, self.status = browser, server, status

    def write(self, age: float = 0) -> None:
        self.server.status.write_text(json.dumps(self.status))
        then = time.time() - age
        os.utime(self.server.status, (then, then))

    def open(self, width: int = PHONE, scheme: str = "light", age: float = 0) -> Shown:
        self.write(age)
        return self.look(width, scheme)

    def look(self, width: int = PHONE, scheme: str = "light") -> Shown:
        self.browser.screen(width, scheme)
        self.browser.open(self.server.url)
        self.browser.wait("document.readyState === 'complete' && document.title.includes(':')")
        return self

    def text(self, selector: str) -> str:
        """What is read there, without its empty lines."""
        found: str = self.browser.value(f"document.querySelector({selector!r}).innerText")
        return re.sub(r"\n+", "\n", found)

    def kind(self, selector: str) -> list[str]:
        classes: str = self.browser.value(f"document.querySelector({selector!r}).className")
        return classes.split()

    @property
    def details(self) -> dict[str, str]:
        rows = "[...document.querySelectorAll('tr')].map((row) => [...row.children]"
        return dict(self.browser.value(f"{rows}.map((cell) => cell.innerText))"))

    @property
    def alarms(self) -> list[str]:
        return self.text("#alarms").splitlines()


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_box_with_which_all_is_well(
    shown: Shown, width: int, scheme: str, tmp_path: Path
) -> None:
    shown.open(width, scheme)
    assert (shown.text("h1"), shown.text("#summary"), shown.alarms) == ("Worker", "All is well", [])
    assert shown.kind("#state") == ["state", "good"]
    assert shown.text("#reset") == "Last reset\nfresh\n90 min ago, took 2.3 s"
    assert shown.text("#snapshot") == "Snapshot's fill\n12.0 %"
    assert shown.text("#queue") == "Link to the queue\nup\nfor 50 min"
    assert shown.text("#jobs").split() == ["Jobs", "done", "128", "failed", "3"]
    details = shown.details
    assert (details["mode"], details["kernel and initrd"]) == ("snapshot", "match")
    assert details["manifest"] == "cd" * 32
    assert details["versions"] == "lammps 20250204\nlibkim-api2 2.3.0"
    assert details["free"] == "/ 2.2 GiB\n/persistent 1.9 GiB"
    assert "warning\njob failed" in shown.text("#log")
    assert shown.browser.value("document.documentElement.scrollWidth") == width
    ratio, words = shown.browser.value(CONTRAST)
    assert ratio >= 4.5, words
    dark = shown.browser.value("getComputedStyle(document.body).backgroundColor") < "rgb(2"
    assert dark == (scheme == "dark")
    picture = tmp_path / "page.png"
    shown.browser.picture(picture)
    assert picture.read_bytes()[16:20] == width.to_bytes(4, "big")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_all_that_is_red_at_once(shown: Shown, width: int, scheme: str) -> None:
    fields = ("verdict", "initrd_matches", "snapshot_percent", "provisiond")
    texts = [f"something is wrong with {field}" for field in fields]
    alarms = [
        {"level": "alarm", "field": field, "text": text}
        for field, text in zip(fields, texts, strict=True)
    ]
    shown.status |= {
        "mode": "failed",
        "verdict": {"name": "failed"},
        "initrd_matches": False,
        "snapshot_percent": 85.1,
        "provisiond": {"state": "failed"},
        "queue": {"link": "down", "since": None},
        "alarms": [*alarms, {"level": "warning", "field": "queue", "text": "no link"}],
    }
    shown.open(width, scheme, age=400)
    assert (shown.text("#summary"), shown.kind("#state")) == ("Alarm", ["state", "alarm"])
    old = "this data is 7 min old: the box no longer measures itself"
    assert shown.alarms == [old, *texts, "no link"]
    for tile, kind in (("reset", "alarm"), ("snapshot", "alarm"), ("queue", "warning")):
        assert shown.kind(f"#{tile}") == ["tile", kind]
    red = "[...document.querySelectorAll('td.alarm')].map((cell) => cell.innerText)"
    assert shown.browser.value(red) == ["failed", "do not match", "failed"]
    signs = "[...document.querySelectorAll('td.alarm, .alarm > .value, #summary')]"
    signs += ".map((one) => getComputedStyle(one, '::before').content)"
    assert set(shown.browser.value(signs)) == {'"✕ "'}
    assert shown.browser.value("document.documentElement.scrollWidth") == width
    ratio, words = shown.browser.value(CONTRAST)
    assert ratio >= 4.5, words


def test_what_nobody_reports_is_not_known_and_not_zero(shown: Shown) -> None:
    shown.status = {"written": shown.status["written"]}
    shown.open()
    assert shown.text("h1") == "Role not known"
    for tile in ("reset", "snapshot", "queue"):
        assert shown.text(f"#{tile} .value") == "not known"
    assert (shown.text("#done"), shown.text("#failed")) == ("not known", "not known")
    assert set(shown.details.values()) == {"not known"}
    assert shown.text("#no-log") == "nothing yet"
    assert "0" not in shown.text("main")
    assert not shown.browser.value("document.querySelector('.meter').checkVisibility()")


@pytest.mark.parametrize(
    ("made", "given", "heading"),
    [
        ("devel", "", "Devel"),
        ("gateway", "", "Gateway"),
        ("devel", "director", "Director"),
        ("worker", "", "Devel"),  # the label of an older version
    ],
)
def test_the_heading_says_what_the_box_is(
    made: str, given: str, heading: str, shown: Shown, tmp_path: Path
) -> None:
    box = StatusBox.make(tmp_path / "box")
    box.role(made, given)
    shown.status = box.gathered()
    shown.open()
    assert shown.text("h1") == heading
    assert shown.browser.value("document.title") == f"All is well: pipeline {heading.lower()}"


def test_a_full_filesystem_is_the_alarm_of_what_is_free(shown: Shown, tmp_path: Path) -> None:
    box = StatusBox.make(tmp_path / "box")
    box.tool("df", r"printf 'x\n/ 99 1\n/persistent 1 98\n'")
    shown.status = box.gathered()
    shown.open()
    red = "[...document.querySelectorAll('tr')].filter((row) => row.querySelector('td.alarm'))"
    assert shown.browser.value(f"{red}.map((row) => row.firstChild.innerText)") == ["free"]


def test_nobody_is_named_on_the_page(shown: Shown, tmp_path: Path) -> None:
    box = StatusBox.make(tmp_path / "box")
    names_somebody(box)
    assert box.gather().returncode == 0
    shown.status = json.loads(box.status.read_text())
    page = shown.open().text("html")
    assert "the last reset failed" in page
    assert [word for word in NAMES if word in page] == []


def test_none_done_is_zero(shown: Shown) -> None:
    shown.status["jobs"] = {"done": 0, "failed": None}
    shown.open()
    assert (shown.text("#done"), shown.text("#failed")) == ("0", "not known")


def test_the_page_itself_sees_that_the_box_has_stopped(shown: Shown) -> None:
    """It is fine when it is opened, and two intervals old some seconds later."""
    shown.open(age=2 * shown.status["interval"] - 3)
    assert shown.text("#summary") == "All is well"
    shown.browser.wait("document.querySelector('#summary').textContent === 'Alarm'")
    (alarm,) = shown.alarms
    assert alarm.startswith("this data is 2 min old")
    sign = "getComputedStyle(document.querySelector('#reset .value'), '::before').content"
    assert shown.browser.value(sign) == "none"  # of what is old, nothing is said to be good
    shown.write()
    shown.browser.value("poll()")
    assert (shown.text("#summary"), shown.alarms) == ("All is well", [])


def test_a_box_that_says_nothing_yet(shown: Shown) -> None:
    shown.server.status.unlink(missing_ok=True)
    shown.look()
    assert shown.kind("#state") == ["state", "warning"]
    assert shown.alarms == ["the box has not measured itself yet"]


@pytest.mark.parametrize("content", ["{", "[]", "null", "7", '{"written": "now"}'])
def test_a_status_that_is_none(shown: Shown, content: str) -> None:
    shown.server.status.write_text(content)
    shown.look()
    assert shown.kind("#state") == ["state", "alarm"]
    assert shown.alarms == ["what the box answers cannot be read"]


def test_a_box_that_goes_away_under_an_open_page(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        shown = Shown(browser, server, {"written": int(time.time()), "role": "worker"}).open()
        assert shown.kind("#state") == ["state", "good"]
    browser.value("poll()")
    assert (shown.text("h1"), shown.kind("#state")) == ("Worker", ["state", "alarm"])
    assert shown.alarms == ["the box does not answer"]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_markup_is_shown_as_text(shown: Shown, width: int) -> None:
    """Whatever field it is in."""
    log = [{"time": 1795550200, "level": "error", "text": text} for text in WAYS_IN]
    (way, *_) = WAYS_IN
    shown.status |= {
        **dict.fromkeys(("role", "mode", "kernel", "manifest", "commit", "system"), way),
        "verdict": {"name": way},
        "queue": {"link": way, "since": way},
        "versions": {way: way},
        "free": {way: way},
        "provisiond": {"state": way},
        "log": [*log, {"time": 1e300, "level": way, "text": "x" * 4000}],
        "alarms": [{"level": way, "field": way, "text": way}],
    }
    shown.open(width)
    for text in WAYS_IN:
        assert text in shown.text("#log")
    assert (shown.text("h1"), shown.alarms) == (way, [way])
    assert way in shown.details["versions"]
    assert shown.browser.value("typeof pwned") == "undefined"
    assert shown.browser.value("document.querySelectorAll('img, b, body script').length") == 0
    assert shown.browser.value("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("value", [None, [], {}, "x", -1, True, [[None]], {"toString": 1}])
def test_values_of_other_kinds_break_nothing(shown: Shown, value: object) -> None:
    written = shown.status["written"]
    shown.status = {**dict.fromkeys(shown.status, value), "written": written}
    shown.open()
    assert shown.browser.said == []
    assert "does not answer" not in shown.text("main")
    assert len(shown.details) == 11


def test_nothing_is_fetched_from_elsewhere_and_nothing_else_is_run(shown: Shown) -> None:
    shown.open()
    names = {"", "page.css", "page.js", "status.json"}
    asked = {url for url in shown.browser.asked if not url.startswith("data:")}
    assert asked == {f"{shown.server.url}{name}" for name in names}
    assert shown.browser.said == []
    shown.browser.value(
        "(() => { const script = document.createElement('script'); script.text = 'pwned = 1';"
        " document.body.append(script); document.body.innerHTML += '<i style=color:red>'; })()"
    )
    assert shown.browser.value("typeof pwned") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in shown.browser.said)


def test_it_is_told_to_those_who_do_not_see_it(shown: Shown) -> None:
    shown.open()
    tree = shown.browser("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node["ignored"]:
            name = node.get("name", {}).get("value", "")
            roles.setdefault(node["role"]["value"], []).append(name)
    assert roles["heading"][:2] == ["Worker", "✓ All is well"]
    assert {"Last reset", "Snapshot's fill", "Jobs", "Details", "Recent log"} <= {*roles["region"]}
    assert roles["status"] == ["✓ All is well"]
    assert roles["meter"] == ["Snapshot's fill"]
    assert "kernel and initrd" in roles["rowheader"]
    assert roles["main"]
    assert shown.browser.value("document.documentElement.lang") == "en"
    assert shown.browser.value("document.querySelector('.meter').ariaValueNow") == "12"

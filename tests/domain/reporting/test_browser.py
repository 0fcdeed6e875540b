"""The report in a real browser."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.page import choices, one_word, render

pytestmark = pytest.mark.jobs

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
]
# What the page asked for, and whether it laid out the table of flags before anybody came to it.
MEASURE = """<script>addEventListener("load", () => {
  document.body.offsetHeight;
  const said = document.createElement("pre");
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
  const row = document.querySelector(".flags tbody tr");
  said.id = "said";
  said.textContent = JSON.stringify(
    {asked, laidOut: row.checkVisibility({contentVisibilityAuto: true})});
  document.body.append(said);
});</script>"""
# The page in a frame as wide as a phone, then every filter, and links of both kinds.
USE = """<script>
const pause = () => new Promise((then) => setTimeout(then, 50));
const widths = async () => {
  const frame = document.createElement("iframe");
  frame.srcdoc = document.documentElement.outerHTML.replace(/<script[^]*?<\\/script>/g, "");
  frame.style.width = "390px";
  document.body.append(frame);
  await new Promise((then) => frame.addEventListener("load", then));
  const page = frame.contentDocument;
  const found = {};
  for (const details of page.querySelectorAll("details")) details.open = true;
  for (const table of page.querySelectorAll(".long")) table.style.contentVisibility = "visible";
  for (const width of [390, 1200]) {
    frame.style.width = `${width}px`;
    found[width] = [page.documentElement.clientWidth, page.documentElement.scrollWidth];
  }
  frame.remove();
  return found;
};
addEventListener("load", async () => {
  const page = document;
  page.querySelector('[data-open="all"]').click();
  const opened = page.querySelectorAll(".case .story").length;
  const form = page.querySelector(".filters");
  const shown = () => [".case", ".flags tbody tr"].map(
    (items) => [...page.querySelectorAll(items)].filter((item) => !item.hidden).length);
  const change = (field, value) => {
    field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const found = {opened, widths: await widths(), filters: {}};
  for (const select of form.querySelectorAll("select")) {
    found.filters[select.name] = {};
    for (const {value} of select.options) {
      change(select, value);
      found.filters[select.name][value] = shown();
    }
    change(select, "");
  }
  change(form.elements.search, "U4711");
  found.search = shown();
  change(form.elements.search, '"u47"');
  found.nobody = [...shown(), page.querySelector("#none").hidden];
  page.querySelector(".filters [type=reset]").click();
  await pause();
  found.reset = shown();
  page.querySelectorAll(".case a.user")[3].click();
  await pause();
  found.user = [form.elements.search.value, ...shown()];
  const drawn = page.querySelectorAll("svg.ring a")[1];
  drawn.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  await pause();
  found.drawn = [form.elements.search.value, ...shown()];
  const other = page.querySelector("#case-10");
  other.open = false;
  page.querySelector('.flags a[href="#case-10"]').click();
  await pause();
  found.link = [other.open, other.hidden, ...shown()];
  page.querySelector(".flags thead th:nth-child(6) button").click();
  found.sorted = [...page.querySelectorAll(".flags tbody tr")].map(
    (row) => Number(row.cells[5].dataset.sort));
  const order = page.querySelector("#order");
  order.value = "p";
  order.dispatchEvent(new Event("change", {bubbles: true}));
  found.order = [...page.querySelectorAll(".case")].map((item) => Number(item.dataset.p));
  page.querySelector('[data-open=""]').click();
  found.open = page.querySelectorAll(".case[open]").length;
  const said = document.createElement("pre");
  said.id = "said";
  said.textContent = JSON.stringify(found);
  page.body.append(said);
});</script>"""

Opened = Callable[..., dict[str, Any]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens a page and returns what its script said; the browser must have no complaint."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no browser; `apt-get install chromium` brings one")

    def open_(text: str, *more: str) -> dict[str, Any]:
        page = tmp_path / "report.html"
        page.write_text(text)
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [browser, *QUIET, *more, profile, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert said == []
        answer = re.search(r'<pre id="said">(.*?)</pre>', done.stdout)
        assert answer is not None, done.stderr
        found: dict[str, Any] = json.loads(html.unescape(answer[1]))
        return found

    return open_


def test_a_thousand_flags_open_at_once_and_ask_for_nothing(
    full_report: ReportData, opened: Opened
) -> None:
    (last,) = full_report.cases[-1].stories
    cases = tuple(
        replace(full_report.cases[-1], case_id=f"c{number}", stories=(last,) * 2)
        for number in range(100)
    )
    flags = tuple(
        replace(full_report.flags[number % 40], case_id=f"c{number % 100}")
        for number in range(1000)
    )
    page = render(replace(full_report, cases=cases, flags=flags, flags_in_all=1000))

    found = opened(page.replace("</body>", f"{MEASURE}</body>"))

    assert found == {"asked": [], "laidOut": False}
    assert len(page) < 5e6


def test_filters_and_links_work_and_a_phone_is_wide_enough(
    full_report: ReportData, page: str, opened: Opened
) -> None:
    found = opened(page.replace("</body>", f"{USE}</body>"), "--virtual-time-budget=5000")

    assert found["opened"] == sum(len(case.stories) for case in full_report.cases)
    for frame, needed in found["widths"].values():
        assert 300 < needed <= frame
    cases = [
        {
            "day": {day.isoformat() for day in case.days},
            "severity": {case.severity},
            "kind": {case.kind},
            "decision": set(case.decisions),
            "status": {one_word(status) for status in case.statuses},
        }
        for case in full_report.cases
    ]
    flags = [
        {
            "day": {flag.event_time.date().isoformat()},
            "severity": {flag.severity},
            "kind": {flag.case_kind},
            "decision": {flag.decision},
            "status": {one_word(flag.status)},
        }
        for flag in full_report.flags
    ]
    everything = [len(cases), len(flags)]
    for name, values in choices(full_report).items():
        told = found["filters"][name]
        assert told.pop("") == everything
        for value, shown in told.items():
            allowed = set(value.split())
            assert shown == [
                sum(bool(item[name] & allowed) for item in items) for items in (cases, flags)
            ]
        assert {one_word(value) for value in values} <= set(told)
    assert found["search"] == [1, 1]
    assert found["nobody"] == [0, 0, False]
    assert found["reset"] == everything
    assert found["user"] == ['"u4711"', 1, 1]
    assert found["drawn"] == ['"u4748"', 1, 1]
    assert found["link"] == [True, False, *everything]
    assert found["sorted"] == sorted(flag.p_value for flag in full_report.flags)
    assert found["order"] == sorted(case.p_value for case in full_report.cases)
    assert found["open"] == 0

"""The report in a real browser."""

import shutil
import subprocess
from pathlib import Path

import pytest

from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.page import render

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
    "--virtual-time-budget=3000",
]


def test_the_report_opens_in_a_browser_without_an_error(
    full_report: ReportData, tmp_path: Path
) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no browser; `apt-get install chromium` brings one")
    page = tmp_path / "report.html"
    page.write_text(render(full_report))

    done = subprocess.run(
        [browser, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    flags = len(full_report.flags)
    assert f"{flags} of {flags} shown" in done.stdout  # the script ran
    assert done.stdout.count('<article class="case card">') == len(full_report.cases)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Uncaught" in line]
    assert said == []

"""How fast the report opens in a browser: `make bench-report`.

The report of a simulated shop (conf/demo.yaml) with as many flags as a report holds, and their
cases, is opened in headless Chromium; beside it a page with nothing but the same flags, as pandas
writes a table. The time is from the start of the navigation until the page is loaded and laid out,
the median of RUNS; it needs `chromium` on PATH.
"""

import html
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from _attacks import simulated
from _figures import Figure, at_most, publish

SEED = 305
RUNS = 5
FLAGS = 1000
GOAL_MS = 2000.0
# More flags than a report holds: most of what can be scored is flagged.
SETTINGS = ("alerts.budget_per_day=500", "alerts.false_positive_rate=0.5")
TOLD = ["user_id", "event_time", "severity", "decision", "score", "p_value", "summary"]
MEASURE = """<script>addEventListener("load", () => {
  document.body.offsetHeight;
  document.body.innerHTML = `<pre id="said">${performance.now()}</pre>`;
});</script></body>"""


def opening_ms(page: str, folder: str) -> float:
    """Median milliseconds until a page is there to be read."""
    path = Path(folder, "page.html")
    path.write_text(page.replace("</body>", MEASURE), encoding="utf-8")
    times = []
    for run in range(RUNS):
        profile = f"--user-data-dir={folder}/profile-{run}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", profile]
        command = ["chromium", *options, path.as_uri()]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout)
        assert said is not None, done.stderr
        times.append(float(html.unescape(said[1])))
    return statistics.median(times)


def bare(lake: str) -> str:
    """A page of the last flags and nothing else."""
    flags = pl.read_delta(f"{lake}/anomalies").sort("event_time").tail(FLAGS).select(TOLD)
    return f"<!DOCTYPE html><html><body>{flags.to_pandas().to_html()}</body></html>"


def main(arguments: list[str]) -> None:
    """Print and write the figures."""
    with tempfile.TemporaryDirectory() as folder:
        lake = simulated(SEED, folder, "--small" in arguments, ("conduct",), SETTINGS)
        report = Path(lake, "reports", "report.html").read_text(encoding="utf-8")
        ours, rival = (opening_ms(page, folder) for page in (report, bare(lake)))
    publish(
        "report",
        [
            Figure("flags", report.count('<tr data-day="')),
            Figure("cases", report.count('<details class="case card"')),
            Figure("bytes", len(report.encode())),
            at_most("milliseconds until it is open", ours, GOAL_MS, rival),
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])

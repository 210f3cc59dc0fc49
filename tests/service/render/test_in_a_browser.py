"""The report as a browser lays it out: nothing sticks out, whatever the names are."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.render.html import render_html
from tests.builders_report import make_report

CHROMIUM = shutil.which("chromium")
# The page's own policy allows no script, so that the copy that measures goes without.
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
MEASURE = """<script>addEventListener('load', () => {
  const page = document.documentElement
  document.title = `measured ${page.scrollWidth} of ${page.clientWidth}`
})</script>"""
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


def widths(page: Path, window: int) -> tuple[int, int]:
    """Return how wide the page is, and how much of it the window shows."""
    answer = subprocess.run(  # noqa: S603 - a browser on a file of ours
        [
            str(CHROMIUM),
            *OPTIONS,
            f"--user-data-dir={page.parent / 'profile'}",
            f"--window-size={window},1000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"measured (\d+) of (\d+)", answer.stdout)
    assert found, answer.stdout[:500]
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("window", [1200, 800])
def test_the_report_is_no_wider_than_the_window(tmp_path: Path, window: int) -> None:
    report = make_report(
        model={"name": "m.pt", "sha256": 4 * "0123456789abcdef", "layers": 30 * "conv,"}
    )
    html = POLICY.sub("", render_html(report)).replace("</body>", f"{MEASURE}</body>")
    page = tmp_path / "report.html"
    page.write_text(html)

    wide, shown = widths(page, window)

    assert wide <= shown

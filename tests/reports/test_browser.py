"""The report in a real browser: no error, pictures load, tables sort, nothing is wider than the screen."""

import json
import re
import shutil
import subprocess

import pytest

from neuroalign.reports import Section, report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no headless browser is installed (Debian: chromium)")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom")
PROBE = """<script>addEventListener("load", () => {
  const table = document.querySelector("#rsa table");
  const head = [...table.querySelectorAll("th")].find((h) => h.textContent.trim() === "score");
  const at = [...head.parentElement.children].indexOf(head);
  const read = () => [...table.tBodies[0].rows].map((r) => r.cells[at].dataset.v);
  head.firstElementChild.click(); const down = read();
  head.firstElementChild.click(); const up = read();
  parent.postMessage({down, up, sorted: head.getAttribute("aria-sort"),
    images: [...document.images].map((i) => i.naturalWidth), page: document.documentElement.scrollWidth,
    window: innerWidth}, "*");
});</script></body>"""
# A window of a browser is at least 500 pixels wide, a frame in it as narrow as a phone.
FRAME = """<!doctype html><body style="margin: 0"><script>
addEventListener("message", (e) => { document.body.dataset.probe = JSON.stringify(e.data); });
</script><iframe src="probe.html" style="border: 0; width: WIDTHpx; height: 880px"></iframe></body>"""


def dom_of(path, folder):
    done = subprocess.run([BROWSER, *FLAGS, f"--user-data-dir={folder}", "--window-size=1300,900", path.as_uri()],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def written(comparison, tmp_path):
    scores = comparison()
    scores["score"][0, 1, 1] = float("nan")
    return report(Section("rsa", "Text.", scores=scores), tmp_path / "report.html", title="A long title " * 8)


def test_the_page_runs_without_an_error(written, tmp_path):
    dom, console = dom_of(written, tmp_path / "profile")
    assert console == [] and "Provenance" in dom


@pytest.mark.parametrize("width", [1200, 390])
def test_pictures_load_and_tables_sort(written, tmp_path, width):
    html = re.sub(r"<meta http-equiv[^>]*>", "", written.read_text()).replace("</body>", PROBE)
    (tmp_path / "probe.html").write_text(html)
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    dom, console = dom_of(tmp_path / "frame.html", tmp_path / "profile")
    assert console == []
    found = json.loads(re.search(r'data-probe="([^"]*)"', dom)[1].replace("&quot;", '"'))
    numbers = [[float(v) for v in found[way] if v] for way in ("down", "up")]
    assert numbers[0] == sorted(numbers[0], reverse=True) and numbers[1] == sorted(numbers[1])
    assert found["down"][-1] == found["up"][-1] == ""  # what is missing stays at the end
    assert found["sorted"] == "ascending"
    assert len(found["images"]) == 2 and min(found["images"]) > 100
    assert found["window"] == width and found["page"] <= width

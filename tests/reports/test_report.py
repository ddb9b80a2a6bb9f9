"""The HTML file: self-contained, escaped, complete."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuroalign.data import scores as scores_
from neuroalign.plots import bars, scatter
from neuroalign.reports import Picture, Section, Table, report

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collect tags with their attributes and the words of a page, and check that tags are closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(comparison, encoding, tmp_path_factory):
    words = "Four regions\n\n**hold** in `r`."
    sections = [comparison(), Section("Listening", words, [bars(encoding)], scores=encoding, notes=["One caveat."],
                                      real=["27 listeners"], planted=["nothing at all"])]
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    return report(sections, path, title="First", summary=["One found.", "Two not."])


@pytest.fixture(scope="module")
def page(written):
    return Page(written)


def test_the_file_needs_nothing_else(page, written):
    for tag, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"(?i)@import|url\(|https?://", page.source)
    assert [p.name for p in written.parent.iterdir()] == ["report.html"]


def test_the_page_forbids_all_scripts_but_its_own(page):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page.source, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert len(page.all("script")) == 1


def test_every_part_is_there(page):
    for words in ("First", "One found.", "Two not.", "Listening", "One caveat.", "27 listeners", "nothing at all",
                  "constant-target", "1 target is constant: 'V4'.", "Kriegeskorte", "abc123", "Random state 7",
                  "p < 0.05, uncorrected", "q < 0.05, after control", "unavailable"):
        assert words in page.text, words
    targets = {a["href"] for a in page.all("a") if a["href"].startswith("#")}
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert targets <= {f"#{i}" for i in ids} and {"#methods", "#provenance", "#listening", "#warnings"} <= targets


def test_counts_of_small_p_and_q(page, comparison):
    scores = comparison()
    summary = page.source.split("</section>")[0]
    assert "weak" not in summary.lower()  # a word for sites of several conditions only
    rows = re.findall(r"<tr><td[^>]*>Comparison.*?</tr>", summary, re.S)
    for row, part in zip(rows, (scores.isel(space=slice(4)), scores.isel(space=slice(4, 6))), strict=True):
        cells = re.findall(r'data-v="([^"]*)"', row)
        assert [float(c) for c in cells[1:3]] == [int((part[v] < 0.05).sum()) for v in ("p", "q")]
        assert float(cells[4]) == pytest.approx(part.score.max().item())


def test_pictures_have_words_and_are_not_blank(page):
    images = page.all("img")
    assert len(images) == 3  # profile and matrix of the plain Scores, bars of the section
    for image in images:
        assert len(image["alt"]) > 20
        png = base64.b64decode(image["src"].split(",")[1])
        assert np.asarray(Image.open(io.BytesIO(png)).convert("L"), float).std() > 5


def test_captions_say_what_is_seen_and_how_to_read_it(encoding, tmp_path):
    page = Page(report(Section("a", figures=[Picture(bars(encoding), "Two regions.")]), tmp_path / "r.html"))
    assert "Two regions. Pearson r (pooled over folds) of every target." in page.text


def test_downloads_hold_the_whole_table(comparison, tmp_path):
    scores = comparison(targets=[f"t{k}" for k in range(90)])
    page = Page(report(scores, tmp_path / "r.html"))
    frames = {a["download"]: pd.read_csv(io.BytesIO(base64.b64decode(a["href"].split(",")[1])))
              for a in page.all("a") if a.get("download", "").endswith("scores-1.csv")}
    (frame,) = frames.values()
    assert len(frame) == 540 and "The first 400 rows are shown" in page.text
    np.testing.assert_allclose(frame["score"], scores_.to_frame(scores)["score"])


def test_everything_from_data_is_escaped(comparison, tmp_path):
    scores = comparison(targets=(EVIL, "EVC"), attrs={"command": EVIL, "ceiling": EVIL, "rdm": EVIL, "null": EVIL,
                        "fdr": EVIL, "interval": EVIL, "fingerprints": {EVIL: EVIL}, "references": [EVIL],
                        "warnings": [{"code": EVIL, "message": EVIL, "count": 1, "ids": [EVIL]}]})
    scores = scores.assign_coords(space=[EVIL + s for s in scores.space.values], region=("target", [EVIL, "b"]))
    figure = scatter([1, 2, 3], [1, 3, 2], xlabel=EVIL, ylabel=EVIL, title=EVIL)
    section = Section(EVIL, EVIL, [Picture(figure, EVIL, EVIL), figure], [Table(pd.DataFrame({EVIL: [EVIL]}), EVIL)],
                      scores, notes=[EVIL], real=[EVIL], planted=[EVIL])
    page = Page(report([section, scores], tmp_path / "r.html", title=EVIL, summary=[EVIL]))
    assert len(page.all("script")) == 1
    assert all("onerror" not in attrs and attrs.get("src", "data:").startswith("data:") for _, attrs in page.tags)
    assert page.text.count("<script>alert('x')</script>") > 20


def test_a_failed_write_leaves_no_file(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        report(comparison(), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_bad_content_is_explained(tmp_path, comparison):
    with pytest.raises(TypeError, match="item of type int, expected Scores .* or a neuroalign.reports.Section"):
        report([comparison(), 3], tmp_path / "r.html")
    with pytest.raises(ValueError, match="no content given"):
        report([], tmp_path / "r.html")
    with pytest.raises(ValueError, match="no variable 'score'"):
        report(Section("a", scores=comparison().drop_vars("score")), tmp_path / "r.html")
    with pytest.raises(TypeError, match="figure of type str|expected a matplotlib Figure"):
        report(Section("a", figures=[3.0]), tmp_path / "r.html")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match="is not a PNG file"):
        report(Section("a", figures=[tmp_path / "a.png"]), tmp_path / "r.html")
    with pytest.raises(TypeError, match="table of type list, expected a DataFrame"):
        report(Section("a", tables=[[1, 2]]), tmp_path / "r.html")

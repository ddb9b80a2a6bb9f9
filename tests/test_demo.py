"""The demo: what it can do with the data at hand, and what it says of the rest."""

import json

import pytest

from neuroalign import demo
from neuroalign.data import scores


def test_data_that_cannot_be_had_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PARTS", [p for p in demo.PARTS if p[0] in ("Photographs, named", "Object images")])
    report = demo.run_demo(tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("left out") == 1 and "NEUROALIGN_MIRROR" in printed
    assert "palace for" in printed and "daisy for" in printed
    html = report.read_text()
    assert "objects92" in html and "palace" in html
    assert (tmp_path / "figures" / "photographs-named-1.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the largest penalty of the grid:neuroalign.errors.NeuroalignWarning")
@pytest.mark.timeout(900)
def test_the_whole_demo_says_what_is_known_of_these_data(tmp_path, mirror, capsys):
    demo.run_demo(tmp_path)
    printed = capsys.readouterr().out
    expected = json.loads((mirror / "acceptance.json").read_text())
    for name in ("wordsim353", "simlex999"):
        assert f"{name}: the last layer of MiniLM agrees with people at {expected[f'sim.{name}.minilm']['value']:.2f}" \
            in printed
    assert "fmri_EVC: efficientnet-lite0@random.0 leads efficientnet-lite0" in printed
    assert "hIT: efficientnet-lite0 leads efficientnet-lite0@random.0" in printed
    assert "in LATL, RATL, LPTL, LIFG, and not reliably in LIPL, LPreM" in printed
    planted = scores.load(tmp_path / "scores" / "planted-sites-found-again-1.nc")
    found, truth = planted["q"].squeeze() < 0.05, planted["driven"]
    assert (found & truth).sum() / truth.sum() > 0.8
    assert (found & ~truth).sum() / found.sum() < 0.1

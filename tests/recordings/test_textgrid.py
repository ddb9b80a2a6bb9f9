"""Praat TextGrids: a small one written here, and the published one of Alice."""

import numpy as np
import pandas as pd
import pytest

from neuroalign.data import fetch_file
from neuroalign.recordings import read_textgrid

HEAD = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = {n}
item []:
"""
TIER = """    item [{k}]:
        class = "IntervalTier"
        name = "{name}"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "{word}"
        intervals [3]:
            xmin = 1.25
            xmax = 2e0
            text = ""
"""
POINTS = """    item [2]:
        class = "TextTier"
        name = "events"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 0.7
            mark = "click"
"""


def write(path, *tiers, encoding="utf-8"):
    path.write_text(HEAD.format(n=len(tiers)) + "".join(tiers), encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_intervals_in_every_encoding_praat_writes(tmp_path, encoding):
    path = write(tmp_path / "a.TextGrid", TIER.format(k=1, name="word", word='say ""né""'), encoding=encoding)
    words = read_textgrid(path)
    assert words.to_numpy().tolist() == [[0, 0.5, "sp"], [0.5, 1.25, 'say "né"'], [1.25, 2.0, ""]]


def test_a_tier_is_picked_by_name(tmp_path):
    path = write(tmp_path / "a.TextGrid", TIER.format(k=1, name="word", word="cat"), POINTS,
                 TIER.format(k=3, name="phone", word="k"))
    assert read_textgrid(path, "phone").text[1] == "k"
    with pytest.raises(ValueError, match=r"a\.TextGrid: tier: got 'wrod', expected one of 'word', 'phone'.*'word'"):
        read_textgrid(path, "wrod")
    with pytest.raises(ValueError, match="expected one of 'word', 'phone'"):
        read_textgrid(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text('"ooTextFile"\n"TextGrid"\n0\n2\n')
    with pytest.raises(ValueError, match="long text format"):
        read_textgrid(path)
    broken = TIER.format(k=1, name="word", word="cat").replace("xmax = 1.25", "xmax = soon")
    with pytest.raises(ValueError, match=r"tier 'word'.*soon"):
        read_textgrid(write(path, broken))


def test_alice_words_are_the_published_ones(mirror):
    grid = read_textgrid(fetch_file("alice_fmri", "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"))
    assert len(grid) == 2423
    assert (grid.start[1:].to_numpy() == grid.end[:-1].to_numpy()).all()  # intervals without gaps
    words = grid[~grid.text.str.strip().isin(["", "sp"])]
    reference = pd.read_csv(mirror / "alice_fmri" / "words.csv", keep_default_na=False)
    assert words.text.str.strip().tolist() == reference.word.tolist()
    np.testing.assert_allclose(words[["start", "end"]], reference[["onset", "offset"]], atol=5.1e-5, rtol=0)

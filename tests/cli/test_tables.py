"""Tables: columns on a terminal, values separated by tabs in a pipe."""

import io

import numpy as np
import pandas as pd
import rich.console

from neuroalign.cli.system import data_list
from neuroalign.cli.tables import print_table

FRAME = pd.DataFrame({"name": ["a", "b"], "score": [0.25, np.nan], "said": ["two\tparts\n", "long " * 100]})


def test_a_pipe_gets_one_line_a_row(capsys):
    print_table(FRAME, title="2 rows")
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["# 2 rows", "name\tscore\tsaid"] and not any(c in out for c in "│━─")
    read = pd.read_csv(io.StringIO(out), sep="\t", comment="#", na_values="–")
    assert read.said.tolist() == ["two parts", " ".join(["long"] * 100)]
    np.testing.assert_array_equal(read.score, FRAME.score)
    print_table(FRAME.iloc[:1])
    assert capsys.readouterr().out == "name\tscore\tsaid\na\t0.250\ttwo parts\n"


def test_a_terminal_gets_columns_of_its_width(monkeypatch, capsys):
    console = rich.console.Console(force_terminal=True, width=60)
    monkeypatch.setattr(rich.console, "Console", lambda: console)
    print_table(FRAME, title="2 rows")
    out = capsys.readouterr().out
    assert "2 rows" in out and "\t" not in out and len(out.splitlines()) > 8


def test_data_sets_are_listed_without_padding(capsys):
    data_list()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["name", "title", "licence", "files", "available"]
    assert {line.count("\t") for line in lines} == {4} and not any("  " in line for line in lines)

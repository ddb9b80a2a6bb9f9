"""`neuroalign data` where a manifest lists no files."""

import pytest
import typer

from neuroalign.cli.system import data_fetch, data_verify


def test_a_set_to_be_got_by_hand_says_how_and_fails(capsys):
    for command in (data_fetch, data_verify):
        with pytest.raises(typer.Exit) as stop:
            command("zuco")
        assert stop.value.exit_code == 1
        assert "zuco: unverified" in capsys.readouterr().out

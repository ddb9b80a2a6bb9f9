"""``python -m neuroalign``: the command line."""

from neuroalign.cli.main import run

run()

"""Entry point of the ``neuroalign`` command: exit code 0, 1 (failed) or 2 (usage)."""

import sys
import warnings
from typing import Annotated

import typer

from neuroalign.cli import analyse, export, match, models, partition, probe, store, system
from neuroalign.cli.failures import EXPECTED, print_failure
from neuroalign.errors import NeuroalignWarning

app = typer.Typer(
    help="What do models represent, what does the brain represent, and where do the two agree?",
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
)
zoo = typer.Typer(help="Models that can be extracted.", no_args_is_help=True)
zoo.command("list")(models.zoo_list)
zoo.command("show")(models.zoo_show)
zoo.command("layers")(models.zoo_layers)
zoo.command("twins")(models.zoo_twins)
app.add_typer(zoo, name="zoo")
data = typer.Typer(help="Data sets: manifests, files, checks.", no_args_is_help=True)
data.command("list")(system.data_list)
data.command("fetch")(system.data_fetch)
data.command("verify")(system.data_verify)
app.add_typer(data, name="data")
stored = typer.Typer(help="The feature store: what is there, whether it is sound.", no_args_is_help=True)
stored.command("ls")(store.store_ls)
stored.command("list", hidden=True)(store.store_ls)
stored.command("verify")(store.store_verify)
stored.command("gc")(store.store_gc)
stored.command("merge")(store.store_merge)
app.add_typer(stored, name="store")
app.add_typer(probe.app, name="probe")
app.command("extract")(models.extract)
app.command("verify")(models.verify)
app.command("encode")(analyse.encode)
app.command("partition")(partition.partition)
app.command("compare")(analyse.compare)
app.command("match")(match.match)
app.command("judge")(match.judge)
app.command("report")(analyse.report)
app.command("export")(export.export)
app.command("demo")(system.demo)
app.command("doctor")(system.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"neuroalign {version('neuroalign')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True,
                                          callback=_print_version)] = False,
) -> None:
    pass


def run() -> None:
    """Run the command line; an expected error is one message on stderr and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        app()
    except EXPECTED as error:
        print_failure(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print("neuroalign: stopped; finished shards are kept, the same command resumes.", file=sys.stderr)
        sys.exit(1)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if issubclass(category, NeuroalignWarning):
        print(f"neuroalign: warning [{message.code}]: {message}", file=sys.stderr)


if __name__ == "__main__":
    run()

"""``neuroalign probe``: looking inside multimodal models."""

import typer

app = typer.Typer(help="Probes of multimodal models: modality gap, implicit alignment, information flow.",
                  no_args_is_help=True)

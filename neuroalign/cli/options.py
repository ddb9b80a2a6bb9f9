"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer


def _scores_file(path: Path | None) -> Path | None:
    """Refuse a file that ``neuroalign report`` would not find, before hours of work."""
    if path is not None and path.suffix != ".nc":
        raise typer.BadParameter(f"got {str(path)!r}, expected a name that ends in .nc, such as scores.nc. "
                                 "Write other formats by neuroalign export.")
    return path


def _penalties(text: str | None) -> list[float] | None:
    """Read ``0.1,1,10``, or ``logspace:-1:8:20`` as numpy's function of that name does."""
    if text is None:
        return None
    import numpy as np

    try:
        if text.startswith("logspace:"):
            first, last, count = text.removeprefix("logspace:").split(":")
            alphas = np.logspace(float(first), float(last), int(count)).tolist()
        else:
            alphas = [float(value) for value in text.split(",")]
    except ValueError:
        alphas = []
    if not alphas or not all(0 < alpha < np.inf for alpha in alphas):
        raise typer.BadParameter(f"got {text!r}, expected numbers above 0 with commas between them, such as 0.1,1,10; "
                                 "or logspace:-1:8:20, which are 20 from 1e-1 to 1e8.")
    return alphas


# Models and their features.
Zoo = Annotated[Path | None, typer.Option("--zoo", help="A YAML file with zoo entries of your own.")]
Models = Annotated[list[str], typer.Argument(help="Zoo id, ID@random, ID@text, folder or hub id.", show_default=False)]
Stimuli = Annotated[str, typer.Option(help="Data set name, CSV/TSV with a stimulus_id column, or folder of images.")]
Layers = Annotated[list[str], typer.Option(help="Layer path or pattern (repeat); 'all' for every layer.")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="text, image, all, last, word, a column (repeat).")]
Pooling = Annotated[str, typer.Option(help="mean, max, cls, last or flatten.")]
Outputs = Annotated[list[str], typer.Option("--output", help="hidden, surprisal, entropy (repeat).")]
Taps = Annotated[list[str], typer.Option("--taps", help="block, attention, router, mlp, norm (repeat).")]
Store = Annotated[Path | None, typer.Option(help="Folder of the feature store (default: the user cache folder).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="Compute dtype: float32, bfloat16, float16.")]
Seed = Annotated[int, typer.Option("--random-state", help="Seed of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]

# Recordings, and how they are predicted.
Responses = Annotated[str, typer.Option(help="Data set name, or your own table: CSV with stimulus_id and a column a "
                                             "neuroid, or netCDF.")]
Nuisance = Annotated[list[str] | None, typer.Option(help="Nuisance (repeat): word_rate, or a coord.")]
Residualize = Annotated[str | None, typer.Option(help="features or both (responses, too): take the nuisance out "
                                                      "within training folds, rather than beside.")]
SelectNeuroids = Annotated[float | None, typer.Option(help="Least reliability of the repeats in the training rows of a "
                                                           "fold.")]
Hrf = Annotated[str | None, typer.Option(help="glover or spm: convolve events before encoding.")]
Impulse = Annotated[str, typer.Option(help="Impulse of an event: onset, middle, offset; or whole.")]
Downsample = Annotated[str | None, typer.Option(help="mean or lanczos: only bring events to the samples.")]
Delays = Annotated[list[float] | None, typer.Option("--delay", help="Seconds (repeat): responses are later than "
                                                    "features.")]
Trf = Annotated[tuple[float, float] | None, typer.Option(help="All delays from TMIN to TMAX seconds.")]
HighPass = Annotated[float | None, typer.Option(help="Clean each run: regress out a linear trend and the confounds of "
                                                   "the data set, then filter slower drifts (Hz).")]
AverageSubjects = Annotated[bool, typer.Option(help="Predict the mean over subjects of each region.")]
Cv = Annotated[str, typer.Option(help="auto, kfold, groups, leave-one-group-out, blocks, shuffled.")]
OuterFolds = Annotated[int, typer.Option(min=2, help="Outer folds.")]
Groups = Annotated[str | None, typer.Option(help="Coord of the responses whose values never straddle folds: word, "
                                                 "run, film.")]
Test = Annotated[list[str] | None, typer.Option(help="With --groups: groups that are tested (repeat), the others "
                                                     "train; instead of folds.")]
Gap = Annotated[float | None, typer.Option(help="Seconds purged on both sides of a test block of a time series.")]
Alphas = Annotated[str | None, typer.Option(help="Penalties: 0.1,1,10, or logspace:-1:8:20, 20 from 1e-1 to 1e8.",
                                            callback=_penalties)]
Block = Annotated[float | None, typer.Option(help="Seconds of a block of a time series that is permuted or "
                                                  "resampled.")]
Reduce = Annotated[str | None, typer.Option(help="Within training folds: pca:50, pca:0.9, random:300.")]

# Scores.
Metrics = Annotated[list[str] | None, typer.Option("--metric", help="Name in the metric registry (repeat).")]
Missing = Annotated[str, typer.Option(help="Stimuli that one side lacks: error or drop.")]
Permutations = Annotated[int, typer.Option(min=0, help="Size of the null; 0 for none.")]
Bootstraps = Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")]
Out = Annotated[Path | None, typer.Option(help="Write the scores here (netCDF, *.nc).", callback=_scores_file)]

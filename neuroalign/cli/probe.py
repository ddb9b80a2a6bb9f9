"""``neuroalign probe``: looking inside multimodal models."""

from pathlib import Path
from typing import Annotated

import typer

from neuroalign.cli import options as opt
from neuroalign.cli.analyse import finish

app = typer.Typer(help="Probes of multimodal models: modality gap, implicit alignment, information flow.",
                  no_args_is_help=True)

Real = Annotated[str | None, typer.Option("--models", help="'real': list models of the hub that fit, their memory "
                                                           "and the result to expect, and do nothing else.")]
Asked = Annotated[list[str] | None, typer.Argument(help="Zoo id, ID@random, folder or hub id.", show_default=False)]
Folder = Annotated[Path | None, typer.Option("--out", help="Folder for the scores (netCDF) and figures (PNG).")]
HalfSamples = Annotated[int, typer.Option(min=0, help="Half samples of the stimuli for the intervals; 0 for none.")]
# Memory of the weights as they are loaded: parameters of the configuration times bytes.
REAL = {
    "gap": [
        ("clip-vit-base-patch32", "0.6 GB (float32)", "two cones, linearly separable; centroids about .8 apart on "
         "photographs with captions; pairs found far above chance all the same"),
        ("siglip-base", "0.8 GB (float32)", "another contrastive loss: whether the gap is as wide is the question"),
        ("clap-htsat-unfused", "0.6 GB (float32)", "the same question of sounds and texts"),
    ],
    "alignment": [
        ("smolvlm-256m", "0.5 GB (bfloat16)", "image and text tokens in cones of their own; cosine between them low"),
        ("llava-1.5-7b", "14 GB (bfloat16)", "cosine between image and text tokens near 0 at the input, rising over "
         "the layers; the perceptual encoder matters, CLIP's most aligned"),
        ("qwen2-vl-2b", "4 GB (bfloat16)", "as LLaVA; compare the models by their mean over layers"),
    ],
    "flow": [
        ("llava-1.5-7b", "14 GB (bfloat16)", "image->question costs the answer in early layers, question->last in the "
         "upper middle, image->last next to nothing"),
        ("smolvlm-256m", "0.5 GB (bfloat16)", "the same order, in fewer layers"),
        ("chameleon-7b", "14 GB (bfloat16)", "fused from the start: the token after the picture may be a narrow gate"),
        ("whisper-base", "0.3 GB (float32)", "encoder->all: words need the cross-attention, of late layers most"),
    ],
}  # fmt: skip


@app.command()
def gap(
    sources: Annotated[list[Path] | None, typer.Argument(
        help="A feature store; or paired embeddings: one .npy (2, n, d), or two .npy (n, d).", show_default=False)]
    = None,
    a: Annotated[str, typer.Option(help="First side: STREAM or LAYER:STREAM of a store (patterns); a name, of .npy.")]
    = "image",
    b: Annotated[str, typer.Option(help="Second side, likewise.")] = "text",
    model: Annotated[list[str] | None, typer.Option(help="Only these models of the store (repeat).")] = None,
    name: Annotated[str | None, typer.Option(help="What to call embeddings from .npy files.")] = None,
    shift: Annotated[bool, typer.Option("--shift", help="Also move the sides towards each other (a sweep).")] = False,
    geometry: Annotated[bool, typer.Option("--geometry", help="Also CKA and mutual k-NN of the two sides.")] = False,
    permutations: opt.Permutations = 1000,
    refits: Annotated[int, typer.Option(min=0, help="Refits for the null of the separability; 0 for none.")] = 0,
    bootstraps: HalfSamples = 200,
    on_missing: opt.Missing = "error",
    out: Folder = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    models: Real = None,
) -> None:
    """Measure the gap between two modalities in a space that they share, layer by layer."""
    if _listed(models, "gap"):
        return
    import neuroalign as na

    one, other = _sides(sources or [], a, b, model, name)
    options = {"on_missing": on_missing, "random_state": random_state, "device": device}
    scores = na.probes.modality_gap(one, other, n_permutations=permutations, n_refits=refits, n_bootstraps=bootstraps,
                                    geometry=geometry, **options)
    finish(scores, _file(out, "gap.nc"), ranked=False)
    swept = na.probes.shift_sweep(one, other, **options) if shift else None
    if out is None:
        return
    if swept is not None:
        _keep(out, "shift", swept, na.plot.gap_curves(swept))
    if scores.depth.notnull().any() and scores.sizes["space"] > 1:
        _draw(out, "gap", na.plot.gap_curves(scores))
    if scores.sizes["space"] == 1:
        _draw(out, "gap-plane", na.plot.gap_plane(one, other, on_missing=on_missing))


@app.command()
def alignment(
    model: Asked = None,
    stimuli: Annotated[str | None, typer.Option(help="Data set name, or CSV/TSV with stimulus_id, image and text.")]
    = None,
    a: Annotated[str, typer.Option(help="Stream of the perceptual tokens.")] = "image",
    b: Annotated[str, typer.Option(help="Stream of the text.")] = "text",
    mode: Annotated[list[str], typer.Option(help="avg, mean, median, max, min, max_mean (repeat).")]
    = ["avg"],  # noqa: B006
    reference: Annotated[int | None, typer.Option(help="Take the perceptual tokens from this layer alone: 0 is the "
                                                       "input, as the released code of the paper does.")] = None,
    taps: Annotated[list[str], typer.Option(help="block, attention, mlp, norm (repeat).")] = ["block"],  # noqa: B006
    words: Annotated[bool, typer.Option("--words", help="Also project the tokens onto the vocabulary.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="Also the overlap of the weights that matter.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Also let the perceptual tokens skip blocks.")] = False,
    permutations: opt.Permutations = 1000,
    bootstraps: HalfSamples = 200,
    store: opt.Store = None,
    out: Folder = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
    models: Real = None,
) -> None:
    """Compare the tokens of two modalities inside models where they meet, layer by layer."""
    if _listed(models, "alignment"):
        return
    if not model or stimuli is None:
        raise typer.BadParameter("give at least one MODEL and --stimuli.", param_hint="MODEL")
    import neuroalign as na
    from neuroalign.cli.checks import check_models
    from neuroalign.features import FeatureSet
    from neuroalign.models import load_model
    from neuroalign.probes.batches import meeting_layers

    check_models(model, zoo)
    rows, features, more = na.load_stimuli(stimuli), FeatureSet([]), {"words": [], "weights": [], "skip": []}
    for name in model:
        loaded = load_model(name, device=device, random_state=random_state, zoo=zoo)
        names = [x.name for x in meeting_layers(loaded, (a, b), tuple(taps))]
        own = na.extract(loaded, rows, layers=names, streams=[a, b], pooling="none", taps=tuple(taps), store=store,
                         random_state=random_state, progress=not quiet)
        features |= own
        if words:
            more["words"].append(na.probes.vocabulary_projection(loaded, own, a=a, b=b, random_state=random_state))
        if weights:
            more["weights"].append(na.probes.subnetwork_overlap(loaded, rows, a=a, b=b, random_state=random_state))
        if skip:
            more["skip"].append(na.probes.skipping_curve(loaded, rows, stream=a, random_state=random_state))
    scores = na.probes.implicit_alignment(features, a=a, b=b, mode=mode, reference=reference,
                                          n_permutations=permutations, n_bootstraps=bootstraps,
                                          keep=["bootstrap"] if bootstraps else (), random_state=random_state,
                                          device=device)
    finish(na.probes.ima_score(scores, mode[0]), _file(out, "ima.nc"))
    finish(scores.drop_vars("bootstrap", errors="ignore"), None, ranked=False)
    geometry = na.probes.token_geometry(features, streams=[a, b], n_bootstraps=bootstraps, random_state=random_state,
                                        device=device)
    if out is not None:
        _keep(out, "alignment", scores, na.plot.alignment_curves(scores))
        _keep(out, "tokens", geometry, na.plot.probe_curves(geometry))
    _finish_kinds(more, dict.fromkeys(more, na.plot.probe_curves), out)


@app.command()
def flow(
    model: Asked = None,
    stimuli: Annotated[str | None, typer.Option(help="Data set name, or CSV/TSV with stimulus_id, text, what else the "
                                                     "model reads, and a column for each span.")] = None,
    edges: Annotated[list[str], typer.Option(help="SPAN->SPAN (repeat): image->question, question->last, "
                                                  "image[box]->question, encoder->all. Put it in quotes.")]
    = ["image->last", "text->last", "image->text"],  # noqa: B006
    window: Annotated[int, typer.Option(min=1, help="Blocks of a window, around each block.")] = 9,
    answer: Annotated[str | None, typer.Option(help="Column with the right answers: only stimuli that are answered "
                                                    "correctly count.")] = None,
    lens: Annotated[bool, typer.Option("--lens", help="Also read the answer off each layer.")] = False,
    ablate: Annotated[list[str] | None, typer.Option(help="Also replace this span by its mean, from each block on "
                                                          "(repeat).")] = None,
    responses: Annotated[str | None, typer.Option(help="Data set name or table: which sites lose prediction when the "
                                                       "edges are cut?")] = None,
    cut: Annotated[list[str] | None, typer.Option(help="With --responses: blocks FIRST-LAST that are cut (repeat); "
                                                       "all by default.")] = None,
    irrelevant: Annotated[str | None, typer.Option(help="With --responses: an edge that should not matter.")] = None,
    controls: Annotated[int, typer.Option(min=0, help="With --responses: sets of matched random reads.")] = 5,
    bootstraps: opt.Bootstraps = 1000,
    batch_size: Annotated[int | None, typer.Option(help="Stimuli at a time; default: found from the memory.")] = None,
    store: opt.Store = None,
    out: Folder = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
    models: Real = None,
) -> None:
    """Block what one span reads of another, layer by layer: what does the answer lose, and which sites of the brain?"""
    if _listed(models, "flow"):
        return
    if not model or stimuli is None:
        raise typer.BadParameter("give at least one MODEL and --stimuli.", param_hint="MODEL")
    windows = [_window(text) for text in cut] if cut else None
    import neuroalign as na
    from neuroalign.cli.checks import check_models
    from neuroalign.models import load_model
    from neuroalign.recordings import prepare_responses

    check_models(model, zoo)
    rows, found = na.load_stimuli(stimuli), {"flow": [], "lens": [], "ablation": [], "sites": []}
    options = {"answer": answer, "batch_size": batch_size, "random_state": random_state}
    recorded, ceiling = prepare_responses(responses, random_state=random_state) if responses else (None, None)
    for name in model:
        loaded = load_model(name, device=device, random_state=random_state, zoo=zoo)
        found["flow"].append(na.probes.information_flow(loaded, rows, edges, window=window, n_bootstraps=bootstraps,
                                                        **options))
        if lens:
            found["lens"].append(na.probes.logit_lens(loaded, rows, **options))
        if ablate:
            found["ablation"].append(na.probes.ablation(loaded, rows, ablate, n_bootstraps=bootstraps, **options))
        if recorded is not None:
            found["sites"].append(na.probes.interventional_encoding(
                loaded, rows, recorded, edges, windows=windows, irrelevant=irrelevant, n_controls=controls,
                n_bootstraps=bootstraps, batch_size=batch_size, store=store, ceiling=ceiling, device=device,
                random_state=random_state, progress=not quiet))
    draw = {"flow": na.plot.knockout_curves, "lens": na.plot.layer_profile, "ablation": na.plot.knockout_curves,
            "sites": na.plot.site_effects if controls else lambda s: na.plot.site_effects(s, kind="change")}
    _finish_kinds(found, draw, out, ranked=("sites",))


def _window(text: str) -> tuple[int, int]:
    """Read blocks ``8-15``, or one, as (first, stop)."""
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()) or "-" in last:
        raise typer.BadParameter(f"got {text!r}, expected FIRST-LAST, for example 8-15.", param_hint="--cut")
    return int(first), int(last or first) + 1


def _sides(sources: list[Path], a: str, b: str, models, name: str | None):
    """Return the two sides: from a store, or from one or two files of embeddings."""
    import numpy as np

    from neuroalign.data import make_features
    from neuroalign.features import FeatureSet, FeatureStore

    arrays = [p for p in sources if p.suffix == ".npy"]
    if len(sources) == 1 and not arrays:
        if not sources[0].is_dir():
            raise FileNotFoundError(f"store: no folder {str(sources[0])!r}.")
        features = FeatureSet([])
        for entry in FeatureStore(sources[0]).entries():
            if not models or entry.record["model"] in models:
                features |= FeatureSet.from_entry(entry)
        if not len(features):
            raise ValueError(f"store {str(sources[0])!r}: no finished space{f' of {models}' if models else ''}. "
                             "Extract first: neuroalign extract MODEL --stimuli S --stream image --stream text --store "
                             "DIR.")
        return _side(features, a), _side(features, b)
    for path in arrays:
        if not path.is_file():
            raise FileNotFoundError(f"embeddings: no file {str(path)!r}.")
    loaded = [np.load(p, mmap_mode="r", allow_pickle=False) for p in arrays]
    if len(loaded) == len(sources) == 1 and loaded[0].ndim == 3 and len(loaded[0]) == 2:
        loaded = list(loaded[0])
    if len(loaded) != 2 or any(v.ndim != 2 for v in loaded) or len(loaded[0]) != len(loaded[1]):
        shapes = ", ".join(f"{p.name} {v.shape}" for p, v in zip(arrays, loaded)) or "none"
        raise ValueError(f"SOURCES: got {shapes}; expected a feature store, one .npy of shape (2, n, d), or two of "
                         "shape (n, d) whose rows are pairs.")
    ids = [f"pair{i}" for i in range(len(loaded[0]))]
    called = name or arrays[0].stem
    return tuple(make_features(v, ids, model=called, stream=s) for v, s in zip(loaded, (a, b)))


def _side(features, wanted: str):
    layers, _, stream = wanted.rpartition(":")
    return features.select(layers=layers or None, streams=stream)


def _listed(models: str | None, probe: str) -> bool:
    """Print the real models of a probe, if they were asked for."""
    if models is None:
        return False
    if models != "real":
        raise typer.BadParameter(f"got {models!r}, expected 'real'.", param_hint="--models")
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.models import get_entry

    rows = [{"id": name, "hub": get_entry(name).repository, "memory": memory, "expect": expected}
            for name, memory, expected in REAL[probe]]
    print_table(pd.DataFrame(rows), title="Models of the hub; weights are downloaded when one is asked for by name")
    return True


def _file(out: Path | None, name: str) -> Path | None:
    if out is None:
        return None
    out.mkdir(parents=True, exist_ok=True)
    return out / name


def _finish_kinds(found: dict, draw: dict, out: Path | None, ranked=()) -> None:
    """Print, keep and draw each kind of Scores that was asked for, all models together."""
    import neuroalign as na

    for kind, parts in found.items():
        if parts:
            joined = na.scores.concat(parts)
            finish(joined, None, ranked=kind in ranked)
            if out is not None:
                _keep(out, kind, joined, draw[kind](joined))


def _keep(out: Path, name: str, scores, figure) -> None:
    import neuroalign as na

    print(f"scores: {na.scores.save(scores, _file(out, f'{name}.nc'))}")
    _draw(out, name, figure)


def _draw(out: Path, name: str, figure) -> None:
    path = _file(out, f"{name}.png")
    figure.savefig(path, dpi=150)
    print(f"figure: {path}")

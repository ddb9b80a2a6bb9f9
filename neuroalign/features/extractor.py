"""`extract`: stimuli and models in, feature spaces out, from the store where they are there already."""

import gc
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from os import PathLike

import numpy as np
import pandas as pd

from neuroalign.data import MODALITIES, StimulusSet, space_id
from neuroalign.errors import check_option, list_ids, suggest
from neuroalign.features.batching import Budget
from neuroalign.features.featureset import FeatureSet
from neuroalign.features.jobs import Job, Space, StimulusJob, fill
from neuroalign.features.memory import count_tensors
from neuroalign.features.pooling import POOLINGS
from neuroalign.features.projection import PCA, Projection, parse_projection, rows_to_fit
from neuroalign.features.storage import STORAGE_DTYPES, disk_dtype
from neuroalign.features.store import FeatureStore
from neuroalign.features.tokens import plan_token_jobs
from neuroalign.features.words import OUTPUTS, WORD_POOLINGS, WordJob, is_causal
from neuroalign.models.adapter import TAPS, BadStimuli, Layer, LoadedModel

__all__ = ["estimate", "extract", "plan_jobs"]

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
TIMING = ("onset", "duration", "parent", "position")  # metadata that travels on the stimulus dim


def extract(models, stimuli: StimulusSet, *, layers="all", streams=None, pooling: str = "mean",
            outputs: Sequence[str] = ("hidden",), store=None, taps: Sequence[str] = ("block",),
            batch_size: int | None = None, device="auto", dtype: str = "float32", storage_dtype: str = "float32",
            random_state: int = 0, progress: bool = True, context: int = 512, zoo=None, on_error: str = "raise",
            projection: Projection = None, shard: tuple[int, int] | None = None) -> FeatureSet:
    """Extract layerwise features of models on stimuli.

    The features of a stimulus do not depend on its batch, and what the store holds already is not computed again:
    asking for more layers or streams adds them, and a run that was killed goes on at its last finished shard.

    Parameters
    ----------
    models : str, LoadedModel, or sequence of them
        Zoo ids (``"minilm"``), random twins (``"minilm@random.3"``), runs of one modality (``"flava@text"``), local
        folders, hub ids, or loaded models; a loaded one stays on its device and in its dtype.
    stimuli : StimulusSet
    layers : ``"all"``, str or sequence of str
        Names of layers (module paths) or patterns (``"encoder.layer.*"``).
    streams : sequence of str, optional
        ``text``, ``image`` (real tokens of the modality), ``special`` (CLS and the like), ``all`` (everything but
        padding), or ``word``: one row a word, in the context of its passage. Default: the first stream of each
        layer, that is the tokens of the modality; for a set of words (with a ``parent`` column) ``word``.
    pooling : {"mean", "max", "cls", "last", "flatten", "none"}
        How the tokens of a stream become one row. ``cls`` takes the first special token, ``flatten`` lays all
        positions side by side (feature maps). The tokens of a word take ``mean``, ``max`` or ``last``. ``none``
        gives one row a token: ids ``stimulus#k``, coords ``parent`` and ``position``, and ``attrs["offsets"]``:
        stimulus i has the rows ``offsets[i]`` to ``offsets[i + 1]``.
    outputs : sequence of {"hidden", "surprisal", "entropy"}
        Surprisal (bits, summed over the tokens of a word, given all that precedes it in its window) and entropy
        (bits, of the prediction of the word's first token) need a causal language model; spaces
        ``MODEL:surprisal:word`` and ``MODEL:entropy:word``.
    store : path or FeatureStore, optional
        Default: ``features`` in the folder of ``NEUROALIGN_HOME``.
    taps : sequence of {"block", "attention", "mlp", "norm"}
        Which places of a block count as layers; ``block`` is the residual stream after it.
    batch_size : int, optional
        Default: found from the lengths and the memory; halved when memory runs out.
    device, dtype
        Where and in what the models compute (``"float32"``, ``"bfloat16"``, ``"float16"``).
    storage_dtype : {"float32", "float16", "bfloat16"}
        bfloat16 has the range of float32 and 8 bits of precision; it reads back as float32, decoded part by part
        as it is read.
    random_state : int
        Seeds random twins, and pins what a forward draws.
    context : int
        Tokens of context window for words.
    zoo : path, optional
        A YAML file with zoo entries of your own.
    on_error : {"raise", "skip"}
        ``skip``: rows of stimuli that cannot be used are NaN, and a warning names them.
    projection : int, ``"pca:K"`` or PCA, optional
        Project rows that are wider than this many components, for flattened feature maps. A number: sparse random
        projection, seeded, which keeps distances in expectation. ``"pca:50"``: principal components of all the
        stimuli; ``PCA(50, fit_on=ids)``: of named ones, which those that an encoding model is tested on should not
        be among. The components are fitted once and kept in the store.
    shard : (i, n), optional
        Compute only every n-th shard from the i-th on (job arrays on one store). The result lists the spaces
        that are complete.

    Returns
    -------
    FeatureSet
        Mapping of space ids ``model:layer:stream`` to (stimulus, feature) arrays over memory maps.

    Raises
    ------
    FileNotFoundError, BadStimuli
        Naming the stimuli: a missing file, an absent modality, an empty or too long text; before any forward.
    ValueError
        Unknown layer, stream, pooling or output, with the nearest names.

    Examples
    --------
    ``features = na.extract(["minilm", "minilm@random"], na.StimulusSet.from_texts(["a cat", "two dogs"]))``
    """
    models = [models] if isinstance(models, (str, LoadedModel)) or not isinstance(models, Sequence) else list(models)
    _check_options(models, stimuli, pooling, outputs, taps, dtype, storage_dtype, on_error, batch_size, shard)
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    stimuli.check_files()
    features = FeatureSet([])
    for name in models:
        model = _load(name, device, dtype, random_state, zoo)
        jobs = plan_jobs(model, stimuli, store=store, layers=layers, streams=streams, pooling=pooling,
                         outputs=outputs, taps=taps, batch_size=batch_size, storage_dtype=storage_dtype,
                         random_state=random_state, context=context, on_error=on_error, projection=projection)
        for job in jobs:
            fill(job, storage_dtype=storage_dtype, progress=progress, only=shard)
            features |= _open(job)
        del model, jobs
        if len(models) > 1:
            gc.collect()  # the next model needs the memory
    return features


def estimate(models, stimuli: StimulusSet, *, device="auto", dtype: str = "float32", random_state: int = 0, zoo=None,
             storage_dtype: str = "float32", **options) -> pd.DataFrame:
    """Say what `extract` would make, at the price of one forward a model; nothing is stored.

    Parameters
    ----------
    models, stimuli, device, dtype, random_state, zoo, storage_dtype
        As in `extract`.
    **options
        layers, streams, pooling, outputs, taps, context, on_error, projection of `extract`.

    Returns
    -------
    DataFrame
        One row a space: space_id, n_rows, n_features, disk_mb, and of its model weights_mb and memory_mb: the
        weights, and the most that tensors take at once in a first batch of the longest stimuli, as counted in a
        forward of one. The libraries themselves (about 500 MB), and what fused operations take inside, come on top;
        on a GPU batches grow from there while less than half of its memory is in use.
    """
    models = [models] if isinstance(models, (str, LoadedModel)) or not isinstance(models, Sequence) else list(models)
    chosen = {"pooling": "mean", "outputs": ("hidden",), "taps": ("block",), "on_error": "raise", **options}
    _check_options(models, stimuli, chosen["pooling"], chosen["outputs"], chosen["taps"], dtype, storage_dtype,
                   chosen["on_error"], None, None)
    stimuli.check_files()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            model = _load(name, device, dtype, random_state, zoo)
            weights = sum(p.numel() * p.element_size() for p in model.module.parameters()) / 1e6
            for job in plan_jobs(model, stimuli, store=FeatureStore(folder), batch_size=1, **options):
                with count_tensors(model.module) as peak:
                    _, values = next(iter(job.compute(*job.shards()[0], [s.name for s in job.spaces])))
                batch = _budget(model).batch_of(job.lengths())
                for space in job.spaces:
                    n, width = len(job.stimuli), values[space.name].shape[1]
                    width = min(width, getattr(job.projection, "n_components", job.projection) or width)
                    rows.append([space_id(model.id, space.layer, space.stream), n, width,
                                 n * width * disk_dtype(storage_dtype).itemsize / 1e6, weights,
                                 weights + batch * peak.peak / 1e6])
    return pd.DataFrame(rows, columns=["space_id", "n_rows", "n_features", "disk_mb", "weights_mb", "memory_mb"])


def plan_jobs(model: LoadedModel, stimuli: StimulusSet, *, store: FeatureStore, layers="all", streams=None,
              pooling="mean", outputs=("hidden",), taps=("block",), batch_size=None, storage_dtype="float32",
              random_state=0, context=512, on_error="raise", projection=None) -> list[Job]:
    """Return what has to be computed for one model, having checked all that can be checked before a forward."""
    found = _choose_layers(model, layers, taps) if "hidden" in outputs else []
    wanted = None if streams is None else [streams] if isinstance(streams, str) else list(dict.fromkeys(streams))
    if wanted is None and "parent" in stimuli.table.columns and hasattr(model.processors.get("text"), "tokenize"):
        wanted = ["word"]
    by_word = [s for s in outputs if s != "hidden"]
    plain = _plain_spaces(model, found, wanted, pooling)
    words = [Space(s, "word", np.nan) for s in by_word]
    if wanted is not None and "word" in wanted:
        words = [Space(x.name, "word", x.depth, x) for x in found if x.tower == "text" and x.masked] + words
    choices = {"pooling": pooling, "storage_dtype": storage_dtype, "random_state": random_state}
    projection = parse_projection(projection)
    if isinstance(projection, PCA):
        rows_to_fit(projection, stimuli.ids, stimuli.table.get("parent"))
        choices["projection"] = projection.describe()
    elif projection is not None:
        choices["projection"] = projection
    budget, skip = _budget(model, batch_size), on_error == "skip"
    jobs: list[Job] = []
    if plain:
        plain, rows, bad = _check_stimuli(model, stimuli, plain, layers == "all", skip)
        if pooling == "none":
            def make_entry(tokens, group, offsets):
                chosen = {"rows": "tokens", "tokens": group, **choices}
                return _entry(store, model, stimuli, chosen, ids=tokens.ids, about={"offsets": offsets})

            jobs += plan_token_jobs(model, stimuli, plain, rows, bad, make_entry, budget, random_state, skip,
                                    projection)
        else:
            entry = _entry(store, model, stimuli, {"rows": "stimuli", **choices})
            jobs.append(StimulusJob(model, entry, stimuli, plain, budget, random_state, skip, projection,
                                    pooling=pooling, rows=rows, bad=bad))
    if words or (wanted is not None and "word" in wanted):
        _check_words(model, words, by_word, pooling)
        derived = stimuli.words()
        entry = _entry(store, model, derived, {"rows": "words", "context": context, **choices})
        jobs.append(WordJob(model, entry, derived, words, budget, random_state, skip, projection, pooling=pooling,
                            context=context))
    return jobs


def _check_options(models, stimuli, pooling, outputs, taps, dtype, storage_dtype, on_error, batch_size, shard):
    if not isinstance(stimuli, StimulusSet):
        raise TypeError(f"stimuli: got {type(stimuli).__name__}, expected a StimulusSet. Make one with "
                        "StimulusSet.from_texts, from_folder or from_table, or na.load_stimuli(name).")
    if not models:
        raise ValueError("models: got none, expected at least one name or LoadedModel.")
    names = [m.id if isinstance(m, LoadedModel) else str(m) for m in models]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"models: {list_ids(twice)} are asked for more than once; their spaces would share ids.")
    check_option("pooling", pooling, (*POOLINGS, "none"))
    check_option("dtype", dtype, COMPUTE_DTYPES)
    check_option("storage_dtype", storage_dtype, STORAGE_DTYPES)
    check_option("on_error", on_error, ("raise", "skip"))
    for name, got, allowed in (("outputs", outputs, OUTPUTS), ("taps", taps, TAPS)):
        if isinstance(got, str) or not got:
            raise ValueError(f"{name}: got {got!r}, expected a sequence of {', '.join(map(repr, allowed))}.")
        for one in got:
            check_option(name, one, allowed)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1, or None to find it.")
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard: got {shard}, expected (i, n) with 0 <= i < n.")


def _load(name, device, dtype, random_state, zoo) -> LoadedModel:
    if isinstance(name, LoadedModel):
        return name
    from neuroalign.models import load_model

    return load_model(name, device=device, dtype=dtype, random_state=random_state, zoo=zoo)


def _choose_layers(model: LoadedModel, layers, taps) -> list[Layer]:
    known = model.adapter.layers(model, tuple(taps))
    if isinstance(layers, str) and layers == "all":
        return known
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = [x.name for x in known]
    for pattern in patterns:
        if not any(n == pattern or fnmatchcase(n, str(pattern)) for n in names):
            hint = suggest(pattern, names) or f" It has {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}."
            raise ValueError(f"layers: model {model.id!r} has no layer {pattern!r} among its {len(names)}.{hint}")
    return [x for x in known if any(x.name == p or fnmatchcase(x.name, str(p)) for p in patterns)]


def _plain_spaces(model, layers: Sequence[Layer], wanted, pooling) -> list[Space]:
    """Return the spaces with one row a stimulus."""
    if not layers:
        return []
    known = list(dict.fromkeys(s for x in layers for s in x.streams))
    for stream in wanted or ():
        if stream not in known and stream != "word":
            names = [*known, "word"]
            raise ValueError(f"streams: model {model.id!r} has no stream {stream!r}, only {', '.join(names)}."
                             f"{suggest(stream, names)}")
    if pooling == "cls":
        if wanted not in (None, ["special"]):
            raise ValueError("pooling='cls' takes the first special token: leave streams out, or give ['special'].")
        without = [x.name for x in layers if "special" not in x.streams]
        if without:
            raise ValueError(f"pooling='cls': model {model.id!r} has no special token at {list_ids(without)}. "
                             "Use pooling='mean', or leave these layers out.")
        wanted = ["special"]
    return [Space(x.name, s, x.depth, x) for x in layers
            for s in (x.default_streams if wanted is None else [s for s in x.streams if s in wanted])]


def _check_stimuli(model, stimuli, spaces, all_layers, skip):
    """Return the spaces that the stimuli allow, what the model is given of each stimulus, and who is left out."""
    adapter = model.adapter
    towers = {s.source.tower for s in spaces}
    reads = set(model.reads)
    if {x.tower for x in adapter.layers(model)} <= set(MODALITIES):
        reads &= towers  # towers do not meet: a text tower alone needs no images
    columns = [m for m in MODALITIES if m in reads and m in stimuli.table.columns]
    if not columns:
        raise BadStimuli(f"no {' or '.join(sorted(reads))}, and model {model.id!r} reads it; the set has "
                         f"{', '.join(stimuli.modalities)}.", stimuli.ids, "Use another model, or add the column.")
    rows = [{"stimulus_id": i, **{k: str(v) for k, v in row.items() if _is_given(k, v)}}
            for i, row in zip(stimuli.ids, stimuli.table[columns].to_dict("records"))]
    bad: set[str] = set()
    try:
        adapter.check(model, rows)
    except BadStimuli as error:
        bad.update(error.ids)
        while skip:
            left = [r for r in rows if r["stimulus_id"] not in bad]
            if not left:
                raise
            try:
                adapter.check(model, left)
                break
            except BadStimuli as more:
                bad.update(more.ids)
        if not skip:
            raise
    fine = [r for r in rows if r["stimulus_id"] not in bad]
    runs = {r["stimulus_id"]: set(adapter.towers(model, r)) for r in fine}
    if all_layers:
        towers &= set().union(*runs.values())
    lacking = [i for i, t in runs.items() if not towers <= t]
    if lacking and not skip:
        needed = ", ".join(sorted(towers))
        raise BadStimuli(f"lacks a modality that the layers of {needed} of model {model.id!r} need.", lacking,
                         "Name the layers of one tower in layers=, or select the stimuli that have both.")
    bad.update(lacking)
    spaces = [s for s in spaces if s.source.tower in towers]
    return _with_tokens(model, spaces, [r for r in rows if r["stimulus_id"] not in bad]), rows, frozenset(bad)


def _with_tokens(model, spaces: Sequence[Space], rows: Sequence[dict]) -> list[Space]:
    """Leave out the streams of a modality that no stimulus has, where layers have several of them."""
    def fused(space):
        return space.source.masked and space.stream in MODALITIES and len(space.source.default_streams) > 1

    ids = {m: [r["stimulus_id"] for r in rows if m not in r] for m in MODALITIES}
    for modality in {s.stream for s in spaces if fused(s)}:
        if 0 < len(ids[modality]) < len(rows):
            raise BadStimuli(f"no {modality}, which other stimuli have, so a stream {modality!r} of model {model.id!r} "
                             "would be empty for them.", ids[modality],
                             f"Extract them by themselves, or name streams= other than {modality!r}.")
    kept = [s for s in spaces if not fused(s) or len(ids[s.stream]) < len(rows)]
    if spaces and not kept:
        raise BadStimuli(f"none has what the streams asked for of model {model.id!r} hold "
                         f"({', '.join(sorted({s.stream for s in spaces}))}).", [r["stimulus_id"] for r in rows],
                         "Name other streams=, or add the column.")
    return kept


def _is_given(modality: str, value) -> bool:
    # an empty text is a mistake that the adapter names; an empty path means that there is no file
    return isinstance(value, str | PathLike) and (modality == "text" or str(value) != "")


def _budget(model: LoadedModel, batch_size: int | None = None) -> Budget:
    only_text = tuple(model.reads) == ("text",) and hasattr(model.processors.get("text"), "tokenize")
    return Budget(model.device, batch_size, only_text)


def _check_words(model, spaces, outputs, pooling) -> None:
    if not hasattr(model.processors.get("text"), "tokenize"):
        raise ValueError(f"streams: model {model.id!r} has no tokenizer (it reads "
                         f"{' and '.join(model.adapter.modalities)}), so it has no 'word' stream.")
    if outputs and not is_causal(model):
        raise ValueError(f"outputs: model {model.id!r} ({model.adapter.family}) does not predict the next word, so "
                         f"it has no {' or '.join(outputs)}. Use a causal language model.")
    if any(s.source for s in spaces):
        check_option("pooling (of the tokens of a word)", pooling, WORD_POOLINGS)


def _entry(store: FeatureStore, model: LoadedModel, stimuli: StimulusSet, choices: dict, ids=None, about=None):
    description = {
        "weights": model.weights, "family": model.adapter.family, "version": model.adapter.version,
        "preprocessing": model.preprocessing, "attention": model.attention,
        "compute_dtype": str(model.dtype).removeprefix("torch."), "stimuli": stimuli.fingerprint, **choices,
    }
    if model.run is not None:
        description["run"] = model.run
    about = {**(about or {}), "stimuli": stimuli.name, "device": str(model.device),
             "versions": {p: _version(p) for p in ("neuroalign", "torch", "transformers", "numpy")}}
    return store.entry(model.id, description, stimuli.ids if ids is None else ids, about)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _open(job: Job) -> FeatureSet:
    """Return the complete spaces of a job, in its order, with the metadata of its stimuli."""
    table = job.stimuli.table
    coords = {c: table[c].to_numpy() for c in TIMING if c in table.columns}
    coords = {k: v.astype(str) if v.dtype == object else v for k, v in coords.items()}
    return FeatureSet.from_entry(job.entry, [s.name for s in job.spaces], coords)

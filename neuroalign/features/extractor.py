"""`extract`: stimuli and models in, feature spaces out, from the store where they are there already."""

import gc
import tempfile
from collections.abc import Sequence

import pandas as pd

from neuroalign.data import StimulusSet, space_id
from neuroalign.errors import check_option, list_ids
from neuroalign.features.featureset import FeatureSet
from neuroalign.features.jobs import Job, fill
from neuroalign.features.memory import count_tensors
from neuroalign.features.planning import make_budget, plan_jobs
from neuroalign.features.pooling import POOLINGS
from neuroalign.features.projection import Projection
from neuroalign.features.storage import STORAGE_DTYPES, disk_dtype
from neuroalign.features.store import Entry, FeatureStore, covered
from neuroalign.features.words import OUTPUTS
from neuroalign.models.adapter import TAPS, LoadedModel

__all__ = ["estimate", "extract"]

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
TIMING = ("onset", "duration", "run", "since", "parent", "position")  # metadata that travels on the stimulus dim


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
        layer, that is the tokens of the modality; for a set of words (with a ``parent`` column) ``word``. ``last``
        is the last token of a sequence with text, special ones included. Any column of the set that holds a part of
        each text, or the (start, stop) of its characters, names a span: its tokens are a stream of that name.
    pooling : {"mean", "max", "cls", "last", "flatten", "none", "moment"}
        How the tokens of a stream become one row. ``cls`` takes the first special token, ``flatten`` lays all
        positions side by side (feature maps). The tokens of a word take ``mean``, ``max`` or ``last``. ``none``
        gives one row a token: ids ``stimulus#k``, coords ``parent`` and ``position``, and ``attrs["offsets"]``:
        stimulus i has the rows ``offsets[i]`` to ``offsets[i + 1]``. ``moment`` gives one row a moment of a sound or
        video, the mean over the tokens of that moment: the patches of a frame, or of the frames that go together.
        The tokens of sounds and videos (streams ``audio`` and ``video``) and moments carry their ``duration``, their
        place ``since`` the start of the stimulus and, where the stimuli have an onset, their own ``onset``.
    outputs : sequence of {"hidden", "surprisal", "entropy"}
        Surprisal (bits, summed over the tokens of a word, given all that precedes it in its window) and entropy
        (bits, of the prediction of the word's first token) need a causal language model; spaces
        ``MODEL:surprisal:word`` and ``MODEL:entropy:word``.
    store : path or FeatureStore, optional
        Default: ``features`` in the folder of ``NEUROALIGN_HOME``.
    taps : sequence of {"block", "attention", "router", "mlp", "norm"}
        Which places of a block count as layers; ``block`` is the residual stream after it, ``router`` the logits of
        the experts in mixtures of experts.
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
        ``skip``: rows of stimuli that cannot be used (a missing or damaged file, an empty text) are NaN, and a warning
        names them.
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
    if on_error == "raise":
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
             storage_dtype: str = "float32", store=None, **options) -> pd.DataFrame:
    """Say what `extract` would make, at the price of one forward a model; nothing is stored.

    Parameters
    ----------
    models, stimuli, device, dtype, random_state, zoo, storage_dtype, store
        As in `extract`; what the store holds already is counted, and nothing is written there.
    **options
        layers, streams, pooling, outputs, taps, context, on_error, projection of `extract`.

    Returns
    -------
    DataFrame
        One row a space: space_id, n_rows, n_features, disk_mb, done (part of the rows that are in the store already),
        and of its model weights_mb and memory_mb: the weights, and the most that tensors take at once in a first
        batch of the longest stimuli, as counted in a forward of one. The libraries themselves (about 500 MB), and
        what fused operations take inside, come on top; on a GPU batches grow from there while less than half of its
        memory is in use.
    """
    models = [models] if isinstance(models, (str, LoadedModel)) or not isinstance(models, Sequence) else list(models)
    chosen = {"pooling": "mean", "outputs": ("hidden",), "taps": ("block",), "on_error": "raise", **options}
    _check_options(models, stimuli, chosen["pooling"], chosen["outputs"], chosen["taps"], dtype, storage_dtype,
                   chosen["on_error"], None, None)
    if chosen["on_error"] == "raise":
        stimuli.check_files()
    rows, known = [], store if isinstance(store, FeatureStore) else FeatureStore(store)
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            model = _load(name, device, dtype, random_state, zoo)
            weights = sum(p.numel() * p.element_size() for p in model.module.parameters()) / 1e6
            for job in plan_jobs(model, stimuli, store=FeatureStore(folder), batch_size=1, storage_dtype=storage_dtype,
                                 random_state=random_state, **options):
                with count_tensors(model.module) as peak:
                    _, values = next(iter(job.compute(*job.shards()[0], [s.name for s in job.spaces])))
                batch = make_budget(model).batch_of(job.lengths())
                there = Entry(known.path / job.entry.folder.relative_to(folder)).ledger()
                for space in job.spaces:
                    n, width = len(job.stimuli), values[space.name].shape[1]
                    width = min(width, getattr(job.projection, "n_components", job.projection) or width)
                    rows.append([space_id(model.id, space.layer, space.stream), n, width,
                                 n * width * disk_dtype(storage_dtype).itemsize / 1e6,
                                 covered(there.get(space.name, {}), n), weights,
                                 weights + batch * peak.peak / 1e6])
    return pd.DataFrame(rows, columns=["space_id", "n_rows", "n_features", "disk_mb", "done", "weights_mb",
                                       "memory_mb"])


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
    check_option("pooling", pooling, (*POOLINGS, "none", "moment"))
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


def _open(job: Job) -> FeatureSet:
    """Return the complete spaces of a job, in its order, with the metadata of its stimuli."""
    table = job.stimuli.table
    coords = {c: table[c].to_numpy() for c in TIMING if c in table.columns}
    coords = {k: v.astype(str) if v.dtype == object else v for k, v in coords.items()}
    return FeatureSet.from_entry(job.entry, [s.name for s in job.spaces], coords)

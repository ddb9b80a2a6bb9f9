"""Planning: which spaces of which rows a model has to make, and what can be checked before a forward."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from os import PathLike

import numpy as np

from neuroalign.data import MODALITIES, StimulusSet
from neuroalign.data.stimuli import CLIP_COLUMNS
from neuroalign.errors import check_option, list_ids, suggest
from neuroalign.features.batching import Budget
from neuroalign.features.jobs import Job, Space, StimulusJob
from neuroalign.features.moment_rows import plan_moment_jobs
from neuroalign.features.projection import PCA, parse_projection, rows_to_fit
from neuroalign.features.spans import LAST, find_spans, span_streams, spans_identity
from neuroalign.features.store import FeatureStore
from neuroalign.features.tokens import plan_token_jobs
from neuroalign.features.whole_words import WholeWordJob, count_words
from neuroalign.features.words import WORD_POOLINGS, WordJob, is_causal
from neuroalign.models.adapter import TAPS, BadStimuli, Layer, LoadedModel

__all__ = ["make_budget", "plan_jobs"]

KNOWN = (*MODALITIES, "special", "all", "word", LAST)


def plan_jobs(model: LoadedModel, stimuli: StimulusSet, *, store: FeatureStore, layers="all", streams=None,
              pooling="mean", outputs=("hidden",), taps=("block",), batch_size=None, storage_dtype="float32",
              random_state=0, context=512, on_error="raise", projection=None) -> list[Job]:
    """Return what has to be computed for one model, having checked all that can be checked before a forward."""
    found = _choose_layers(model, layers, taps) if "hidden" in outputs else []
    wanted = None if streams is None else [streams] if isinstance(streams, str) else list(dict.fromkeys(streams))
    if wanted is None and "parent" in stimuli.table.columns and hasattr(model.processors.get("text"), "tokenize"):
        wanted = ["word"]
    by_word = [s for s in outputs if s != "hidden"]
    spans = [s for s in wanted or () if s in stimuli.table.columns and s not in KNOWN]
    plain = _plain_spaces(model, found, wanted, pooling, spans)
    words = [Space(s, "word", np.nan) for s in by_word]
    whole = hasattr(model.adapter, "routes")  # modalities meet: a stimulus goes through the model whole
    if wanted is not None and "word" in wanted:
        words = [Space(x.name, "word", x.depth, x) for x in found
                 if span_streams(x) and (whole or x.tower == "text")] + words
    choices = {"pooling": pooling, "storage_dtype": storage_dtype, "random_state": random_state}
    projection = parse_projection(projection)
    if isinstance(projection, PCA):
        rows_to_fit(projection, stimuli.ids, stimuli.table.get("parent"))
        choices["projection"] = projection.describe()
    elif projection is not None:
        choices["projection"] = projection
    budget, skip = make_budget(model, batch_size), on_error == "skip"
    jobs: list[Job] = []
    if plain:
        plain, rows, bad = _check_stimuli(model, stimuli, plain, layers == "all", skip)
        if spans:
            found_spans = find_spans(stimuli, spans)
            choices["spans"] = spans_identity(found_spans)
            rows = [{**r, "spans": found_spans[r["stimulus_id"]]} for r in rows]
        if pooling in ("none", "moment"):
            def make_entry(tokens, group, offsets):
                chosen = {"rows": "tokens" if pooling == "none" else "moments", "tokens": group, **choices}
                return _entry(store, model, stimuli, chosen, ids=tokens.ids, about={"offsets": offsets})

            plan = plan_token_jobs if pooling == "none" else plan_moment_jobs
            jobs += plan(model, stimuli, plain, rows, bad, make_entry, budget, random_state, skip, projection)
        else:
            entry = _entry(store, model, stimuli, {"rows": "stimuli", **choices})
            jobs.append(StimulusJob(model, entry, stimuli, plain, budget, random_state, skip, projection,
                                    pooling=pooling, rows=rows, bad=bad))
    if words or (wanted is not None and "word" in wanted):
        _check_words(model, words, by_word, pooling, stimuli)
        derived = stimuli.words()
        choices.pop("spans", None)
        if whole:
            words, rows, bad = _check_stimuli(model, stimuli, words, layers == "all", skip)
            entry = _entry(store, model, stimuli, {"rows": "words of whole stimuli", **choices}, ids=derived.ids)
            jobs.append(WholeWordJob(model, entry, derived, words, budget, random_state, skip, projection, rows=rows,
                                     counts=count_words(stimuli), left_out=bad, pooling=pooling))
        else:
            entry = _entry(store, model, derived, {"rows": "words", "context": context, **choices})
            jobs.append(WordJob(model, entry, derived, words, budget, random_state, skip, projection, pooling=pooling,
                                context=context))
    return jobs


def _choose_layers(model: LoadedModel, layers, taps) -> list[Layer]:
    known = model.adapter.layers(model, tuple(taps))
    lacking = [tap for tap in taps if not model.adapter.layers(model, (tap,))]
    if lacking:
        have = [tap for tap in TAPS if model.adapter.layers(model, (tap,))]
        raise ValueError(f"taps: model {model.id!r} has no {list_ids(lacking)}, only {', '.join(have)}.")
    if isinstance(layers, str) and layers == "all":
        return known
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = [x.name for x in known]
    for pattern in patterns:
        if not any(n == pattern or fnmatchcase(n, str(pattern)) for n in names):
            hint = suggest(pattern, names) or f" It has {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}."
            raise ValueError(f"layers: model {model.id!r} has no layer {pattern!r} among its {len(names)}.{hint}")
    return [x for x in known if any(x.name == p or fnmatchcase(x.name, str(p)) for p in patterns)]


def _plain_spaces(model, layers: Sequence[Layer], wanted, pooling, spans) -> list[Space]:
    """Return the spaces with one row a stimulus."""
    if not layers:
        return []
    of_text = [LAST, *spans] if any(map(span_streams, layers)) else []
    known = list(dict.fromkeys([*(s for x in layers for s in x.streams), *of_text]))
    for stream in wanted or ():
        if stream not in known and stream != "word":
            names = [*known, "word"]
            spare = " A column of the stimuli that holds a part of each text is a stream too." if of_text else ""
            raise ValueError(f"streams: model {model.id!r} has no stream {stream!r}, only {', '.join(names)}."
                             f"{suggest(stream, names)}{spare}")
    if pooling == "cls":
        if wanted not in (None, ["special"]):
            raise ValueError("pooling='cls' takes the first special token: leave streams out, or give ['special'].")
        without = [x.name for x in layers if "special" not in x.streams]
        if without:
            raise ValueError(f"pooling='cls': model {model.id!r} has no special token at {list_ids(without)}. "
                             "Use pooling='mean', or leave these layers out.")
        wanted = ["special"]
    return [Space(x.name, s, x.depth, x) for x in layers
            for s in (x.default_streams if wanted is None else [s for s in known if s in wanted])
            if s in x.streams or (s in of_text and span_streams(x))]


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
    clips = [c for c in CLIP_COLUMNS if c in stimuli.table.columns]
    if clips and {"audio", "video"} & set(columns):
        rows = [row | clip for row, clip in zip(rows, stimuli.table[clips].to_dict("records"))]
    bad = {i for m, ids in stimuli.lost_files().items() if m in columns for i in ids} if skip else set()
    if len(bad) == len(rows):
        stimuli.check_files()
    while True:
        fine = [r for r in rows if r["stimulus_id"] not in bad]
        try:
            adapter.check(model, fine)
            break
        except BadStimuli as error:
            bad.update(error.ids)
            if not skip or len(bad) == len(rows):
                raise
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


def make_budget(model: LoadedModel, batch_size: int | None = None) -> Budget:
    """Return how much goes in a batch of a model."""
    only_text = tuple(model.reads) == ("text",) and hasattr(model.processors.get("text"), "tokenize")
    return Budget(model.device, batch_size, only_text)


def _check_words(model, spaces, outputs, pooling, stimuli) -> None:
    if not hasattr(model.processors.get("text"), "tokenize"):
        raise ValueError(f"streams: model {model.id!r} has no tokenizer (it reads "
                         f"{' and '.join(model.adapter.modalities)}), so it has no 'word' stream.")
    if outputs and not is_causal(model):
        raise ValueError(f"outputs: model {model.id!r} ({model.adapter.family}) does not predict the next word, so "
                         f"it has no {' or '.join(outputs)}. Use a causal language model.")
    if hasattr(model.adapter, "routes") and "parent" in stimuli.table.columns:
        parents = list_ids(stimuli.table.parent.unique())
        raise ValueError(f"model {model.id!r} reads stimuli whole, and these are words of {parents}. Give it the "
                         "passages, one row each; their words are found.")
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

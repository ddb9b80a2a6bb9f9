"""Stimuli through a multimodal model, batch by batch, in no order that counts."""

from collections.abc import Callable, Sequence

from neuroalign.data import StimulusSet
from neuroalign.errors import list_ids
from neuroalign.features.batching import Item, run_batches
from neuroalign.features.planning import make_budget
from neuroalign.features.spans import prepare
from neuroalign.models.adapter import BadStimuli, Layer, LoadedModel, check_loaded

__all__ = ["each_forward", "meeting_layers"]


def meeting_layers(model: LoadedModel, streams: Sequence[str], taps: Sequence[str] = ("block",)) -> list[Layer]:
    """Return the layers whose tokens are of all the named streams: where the modalities meet, the last tower of such.

    Raises
    ------
    ValueError
        The model has no such layers.
    """
    check_loaded(model)
    found = [x for x in model.adapter.layers(model, tuple(taps)) if x.masked and set(streams) <= set(x.streams)]
    if not found:
        known = sorted({s for x in model.adapter.layers(model) for s in x.streams})
        raise ValueError(f"model {model.id!r} ({model.adapter.family}): no layer has tokens of "
                         f"{' and '.join(map(repr, streams))}; its streams are {list_ids(known)}. This needs a model "
                         "where modalities meet in one sequence (LLaVA, SmolVLM, Qwen-VL, BLIP-2, ViLT, FLAVA ...).")
    return [x for x in found if x.tower == found[-1].tower]


def each_forward(model: LoadedModel, stimuli: StimulusSet, tower: str, use: Callable, *,
                 batch_size: int | None = None) -> None:
    """Prepare all stimuli in batches and let `use` run them.

    Parameters
    ----------
    tower : str
        That every stimulus must run through.
    use : callable
        ``use(places, inputs)`` with the places of the batch among the stimuli; ``inputs`` have the stream ``last``.

    Raises
    ------
    BadStimuli
        Naming stimuli that do not run through the tower.
    """
    given = stimuli.table.drop(columns=[m for m in stimuli.modalities if m not in model.reads])
    rows = [{"stimulus_id": i, **row} for i, row in zip(stimuli.ids, given.to_dict("records"))]
    model.adapter.check(model, rows)
    items = [Item(i, model.adapter.length(model, row), model.adapter.towers(model, row), row)
             for i, row in enumerate(rows)]
    mute = [i.content["stimulus_id"] for i in items if tower not in i.group]
    if mute:
        raise BadStimuli(f"they do not run through the tower {tower!r} of model {model.id!r}.", mute,
                         "Give each all the modalities.")

    def read(batch):
        return batch, prepare(model, [i.content for i in batch])

    def forward(batch, inputs):
        use([i.position for i in batch], inputs)

    for _ in run_batches(items, read, forward, make_budget(model, batch_size)):
        pass

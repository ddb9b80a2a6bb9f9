"""Twins: what a model is compared with on the same stimuli."""

from neuroalign.models.adapter import LoadedModel
from neuroalign.models.families import FAMILIES, single_runs
from neuroalign.models.zoo import get_entry

__all__ = ["list_twins"]


def list_twins(model: str | LoadedModel, zoo=None) -> list[str]:
    """Return the names of the twins of a model, as `load_model` and `neuroalign.extract` take them.

    First the runs of one modality of a model where modalities meet (the same weights, given the text or the picture
    alone), then what its zoo entry declares (its unimodal towers, models that differ in one thing), then the same
    architecture with random weights.

    Parameters
    ----------
    model : str or LoadedModel
        A zoo id, or any loaded model.
    zoo : path, optional
        A YAML file with zoo entries of your own.

    Raises
    ------
    KeyError
        Not in the zoo; names the nearest.

    Examples
    --------
    >>> list_twins("llava-1.5-7b")
    ['llava-1.5-7b@image', 'llava-1.5-7b@text', 'clip-vit-large-patch14', 'llava-1.5-7b@random']
    """
    if isinstance(model, LoadedModel):
        name, entry, adapter = model.id, model.entry, model.adapter
    else:
        name, entry = model, get_entry(model, zoo)
        adapter = FAMILIES.get(entry.family)
    meets = getattr(adapter, "routes", None) is not None
    runs = [f"{name}@{m}" for m in single_runs(adapter)] if meets and "@" not in name else []
    declared = list(entry.twins) if entry is not None else []
    return [*runs, *declared, *([] if "@random" in name else [f"{name}@random"])]

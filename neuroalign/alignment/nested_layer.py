"""The best layer of a model, chosen for each target within the training rows of each fold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr

from neuroalign.alignment.designs import Design
from neuroalign.alignment.ridge import RidgePlan
from neuroalign.alignment.table import Table
from neuroalign.data import space_id
from neuroalign.errors import list_ids, suggest

__all__ = ["LayerDesigns", "LayerPlans", "LayerTables", "group_layers"]


@dataclass(frozen=True)
class LayerTables:
    """The designs of several layers on the same rows."""

    tables: tuple[Table, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and features of all layers together."""
        return len(self.tables[0]), sum(t.shape[1] for t in self.tables)


@dataclass(frozen=True)
class LayerDesigns:
    """The designs of several layers; permuted together."""

    designs: tuple[Design, ...]

    @property
    def joint(self) -> LayerTables:
        """Nuisance and features of each layer side by side."""
        return LayerTables(tuple(d.joint for d in self.designs))

    @property
    def nuisance(self) -> np.ndarray:
        """The nuisance columns, which all layers share."""
        return self.designs[0].nuisance

    @property
    def events(self):
        """The events of the first layer, where there are any: those of all layers are as many."""
        return self.designs[0].events

    def permuted(self, order: np.ndarray, residuals=None) -> "LayerDesigns":
        """Take the features of all layers in another order."""
        return LayerDesigns(tuple(d.permuted(order, residuals) for d in self.designs))


@dataclass(frozen=True)
class LayerPlans:
    """The decompositions of several layers for one outer fold; each target is predicted from the best of them.

    The best layer is the one with the least error over the inner folds, at its own best penalty.
    """

    plans: tuple[RidgePlan, ...]

    @property
    def solver(self) -> str:
        """How the layers were decomposed."""
        return "; ".join(dict.fromkeys(p.solver for p in self.plans))

    @property
    def limits(self) -> tuple[float, float]:
        """Penalties beyond which nothing changes in any layer."""
        low, high = zip(*(p.limits for p in self.plans))
        return max(low), min(high)

    def predict(self, Y, rows=None) -> tuple[np.ndarray, np.ndarray]:
        """Fit the targets and predict the test rows, each target from its best layer; see `RidgePlan.predict`."""
        prediction, best_alpha, least = self.plans[0].predict_with_loss(Y, rows)
        for plan in self.plans[1:]:
            other, alpha, loss = plan.predict_with_loss(Y, rows)
            better = loss < least
            prediction[:, better], best_alpha[better], least[better] = other[:, better], alpha[better], loss[better]
        return prediction, best_alpha

    def choose(self, Y, rows=None) -> np.ndarray:
        """Return the number of the best layer of each target."""
        return np.argmin([plan.predict_with_loss(Y, rows)[2] for plan in self.plans], axis=0)


def group_layers(spaces: Mapping[str, xr.DataArray], makers: Mapping[str, Callable[[], Design]], layer):
    """Put the layers of each model and stream together, or the spaces of named groups.

    Parameters
    ----------
    layer : "nested" or mapping of str to sequence of str
        Groups of space ids, or patterns of them.

    Returns
    -------
    makers : dict of str to callable
        ``MODEL:nested:STREAM`` -> a function that makes its `LayerDesigns`.
    members : dict of str to list of str
        ``MODEL:nested:STREAM`` -> its spaces.

    Raises
    ------
    ValueError
        A space does not say its model, no model has several layers, or a pattern fits no space.
    """
    members = {} if layer == "nested" else _named_groups(spaces, layer)
    if members:
        return {group: _maker([makers[n] for n in names]) for group, names in members.items()}, members
    for name, space in spaces.items():
        if not all(c in space.coords and space[c].ndim == 0 for c in ("model", "layer")):
            raise ValueError(f"layer='nested': space {name!r} does not say its model and layer (coords 'model', "
                             "'layer'); make_features(..., model=, layer=) gives them.")
        stream = str(space["stream"].item()) if "stream" in space.coords else "all"
        members.setdefault(space_id(str(space["model"].item()), "nested", stream), []).append(name)
    if max(map(len, members.values())) < 2:
        raise ValueError(f"layer='nested': there is one layer a model ({', '.join(spaces)}), nothing to choose from.")
    return {group: _maker([makers[n] for n in names]) for group, names in members.items()}, members


def _named_groups(spaces, groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    members = {}
    for group, patterns in groups.items():
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in patterns:
            if not any(fnmatchcase(s, pattern) for s in spaces):
                raise ValueError(f"layer: group {str(group)!r}: no space {pattern!r}; there are "
                                 f"{list_ids(list(spaces))}.{suggest(pattern, spaces)}")
        members[str(group)] = [s for s in spaces if any(fnmatchcase(s, p) for p in patterns)]
    return members


def _maker(makers: Sequence[Callable[[], Design]]) -> Callable[[], LayerDesigns]:
    return lambda: LayerDesigns(tuple(make() for make in makers))

"""Baselines that need no pretrained model."""

import xarray as xr

from neuroalign.data import StimulusSet, make_features
from neuroalign.errors import check_option

__all__ = ["tfidf"]


def tfidf(stimuli: StimulusSet, *, unit: str = "word") -> xr.DataArray:
    """Term frequency times inverse document frequency of the texts, counted on these texts alone.

    Parameters
    ----------
    stimuli : StimulusSet
        With a ``text`` column.
    unit : {"word", "character"}
        Count words (documents), or character 2- to 4-grams within words (single words, which share no words).

    Returns
    -------
    DataArray (stimulus, feature)
        The space ``tfidf:UNIT:text``, rows of unit length.

    References
    ----------
    Salton and Buckley 1988, Information Processing & Management 24:513.

    Examples
    --------
    >>> tfidf(StimulusSet.from_texts(["a red fox", "a red hat"])).shape
    (2, 3)
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    check_option("unit", unit, ("word", "character"))
    if "text" not in stimuli.table.columns:
        raise ValueError(f"tfidf: stimuli {stimuli.name!r} have no 'text' column.")
    counter = TfidfVectorizer(sublinear_tf=True) if unit == "word" else TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4))
    values = counter.fit_transform(stimuli.table["text"]).toarray().astype("float32")
    return make_features(values, list(stimuli.ids), model="tfidf", layer=unit, stream="text")

"""Praat TextGrid files (the long text format): the intervals of a tier."""

import re
from pathlib import Path

import pandas as pd

from neuroalign.errors import check_option

__all__ = ["read_textgrid"]

FIELD = re.compile(r'^\s*(class|name|xmin|xmax|text)\s*=\s*(?:"((?:[^"]|"")*)"|(\S+))\s*$', re.MULTILINE)


def read_textgrid(path, tier: str | None = None) -> pd.DataFrame:
    """Read the intervals of one tier.

    Parameters
    ----------
    path : str or Path
    tier : str, optional
        Name of an interval tier; may be left out where there is only one.

    Returns
    -------
    DataFrame
        Columns ``start``, ``end`` (seconds) and ``text``, in order of the file; silences included.
    """
    path = Path(path)
    raw = path.read_bytes()
    content = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    if 'Object class = "TextGrid"' not in content or "item [" not in content:
        raise ValueError(f"{path.name}: not a Praat TextGrid in the long text format (Save as text file).")
    tiers = {}
    for block in re.split(r"^\s*item \[\d+\]:", content, flags=re.MULTILINE)[1:]:
        head, *intervals = re.split(r"^\s*intervals \[\d+\]:", block, flags=re.MULTILINE)
        about = _fields(head)
        if about.get("class") == "IntervalTier":
            tiers[about.get("name", "")] = [_fields(i) for i in intervals]
    if tier is None and len(tiers) == 1:
        tier = next(iter(tiers))
    check_option(f"{path.name}: tier", tier, tiers)
    try:
        rows = [(float(i["xmin"]), float(i["xmax"]), i["text"]) for i in tiers[tier]]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path.name}: tier {tier!r} has an interval without xmin, xmax, text: {error}") from None
    return pd.DataFrame(rows, columns=["start", "end", "text"])


def _fields(block: str) -> dict[str, str]:
    return {m[1]: m[3] if m[3] is not None else m[2].replace('""', '"') for m in FIELD.finditer(block)}

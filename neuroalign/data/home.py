"""The folder for what neuroalign keeps: downloads, pictures unpacked from archives, the default feature store."""

import os
from pathlib import Path

import platformdirs

__all__ = ["home"]


def home() -> Path:
    """Return the folder of ``NEUROALIGN_HOME``, or the user's cache folder where it is not set.

    It is the only reader of the variable. The folder is not made here: whoever writes makes it.

    Examples
    --------
    >>> home().is_absolute()
    True
    """
    given = os.environ.get("NEUROALIGN_HOME", "").strip()
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_cache_dir("neuroalign"))

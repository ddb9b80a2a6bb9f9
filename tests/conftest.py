"""Shared settings of the tests: no network, one thread, every cache in a temporary folder."""

import os
import socket
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
if os.environ.get("PYTEST_XDIST_WORKER"):  # workers share the cores: threads of BLAS would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
MIRROR = Path(os.environ.get("NEUROALIGN_MIRROR") or REPOSITORY.parent / "shared" / "data")
torch.set_num_threads(1)  # small tensors gain nothing from threads, and lose much to them on a busy machine


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for name in ("NEUROALIGN_HOME", "NILEARN_DATA", "MNE_DATA"):
        os.environ[name] = str(folder / name.lower())
    os.environ.pop("NEUROALIGN_DEVICE", None)
    os.environ.pop("NEUROALIGN_MIRROR", None)


@pytest.fixture(autouse=True)
def _one_thread():
    """A test may take more threads; the next one has a single thread again."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def only_local(self, address, *args):
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address, *args)
        raise OSError(f"tests use no network: refused {address}")

    monkeypatch.setattr(socket.socket, "connect", only_local)


@pytest.fixture
def mirror(monkeypatch) -> Path:
    """Folder with the published originals; the test is skipped where it is absent."""
    if not (MIRROR / "originals" / "originals.tsv").is_file():
        pytest.skip("the mirror of published data is absent (set NEUROALIGN_MIRROR)")
    monkeypatch.setenv("NEUROALIGN_MIRROR", str(MIRROR))
    return MIRROR

"""Devices, memory and threads."""

import numpy as np
import pytest
import torch

from neuroalign.linalg import (
    free_cores,
    free_memory,
    resolve,
    rows_per_chunk,
    thread_limit,
    threads,
    to_numpy,
    to_tensor,
)


def test_auto_obeys_the_environment(monkeypatch):
    monkeypatch.setenv("NEUROALIGN_DEVICE", "cpu")
    assert resolve() == torch.device("cpu") and resolve("auto").type == "cpu"
    monkeypatch.setenv("NEUROALIGN_DEVICE", "abacus")
    assert resolve("cpu").type == "cpu"
    with pytest.raises(ValueError, match="got 'abacus', expected 'auto'"):
        resolve()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_absent_device_is_an_error():
    with pytest.raises(ValueError, match="not available on this machine"):
        resolve("cuda")


def test_read_only_and_strided_arrays_are_copied(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for view in (mapped, array.T, array[:, ::2]):
        tensor = to_tensor(view, torch.device("cpu"))
        np.testing.assert_array_equal(to_numpy(tensor), view)
        tensor += 1
    np.testing.assert_array_equal(array, np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("make", [
    lambda a: a.astype(">f8"), lambda a: a.astype(">i2"), lambda a: torch.tensor(a, requires_grad=True),
])
def test_other_byte_orders_and_gradients_are_no_obstacle(make):
    array = np.arange(12.0).reshape(3, 4)
    tensor = to_tensor(make(array), torch.device("cpu"), torch.float64)
    assert not tensor.requires_grad
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_complex_numbers_do_not_lose_a_part(make):
    with pytest.raises(ValueError, match="got values of type complex128, expected real numbers"):
        to_tensor(make(np.ones((3, 2)) * 1j), torch.device("cpu"))


def test_chunks_fit_the_budget():
    cpu = torch.device("cpu")
    assert free_memory(cpu) > 2**20
    assert rows_per_chunk(1e18, cpu) == 1
    assert rows_per_chunk(2**10, cpu, limit=2**20) == 2**10
    assert rows_per_chunk(1, cpu, share=1e-3) <= free_memory(cpu)


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_small_work_takes_one_thread_and_gives_the_others_back(four_threads):
    with pytest.raises(KeyError), thread_limit(1e6):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 4


def test_large_work_takes_the_free_cores_and_no_more(four_threads, monkeypatch):
    monkeypatch.setattr(threads, "free_cores", lambda: 3)
    with thread_limit(1e12):
        assert torch.get_num_threads() == 3
    monkeypatch.setattr(threads, "free_cores", lambda: 64)
    with thread_limit(1e12):
        assert torch.get_num_threads() == 4


def test_cores_of_others_are_not_free(monkeypatch):
    monkeypatch.setattr(threads, "_last", {})
    monkeypatch.setattr(threads.psutil, "getloadavg", lambda: (1000.0, 0, 0))
    assert free_cores() == 1
    monkeypatch.setattr(threads, "_last", {})
    monkeypatch.setattr(threads.psutil, "getloadavg", lambda: (0.0, 0, 0))
    assert free_cores() >= 1

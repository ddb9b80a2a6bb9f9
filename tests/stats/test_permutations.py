"""Permutation indices: what they keep, that they are distinct, and that they run out honestly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.stats import block_permutations, permutation_p, row_permutations, shift_permutations


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 200), b=st.integers(1, 50), share=st.floats(0.01, 0.4), seed=st.integers(0, 99))
def test_shifts_are_distinct_circular_and_far_enough(n, b, share, seed):
    orders = shift_permutations(n, b, min_shift=share, random_state=seed)
    least = max(1, int(np.ceil(share * n)))
    assert len(orders) == min(b, n - 2 * least + 1)
    shifts = orders[:, 0]
    assert len(set(shifts.tolist())) == len(orders)
    assert ((shifts >= least) & (shifts <= n - least)).all()
    np.testing.assert_array_equal(orders, (np.arange(n) + shifts[:, None]) % n)


def test_each_run_is_shifted_in_itself_by_its_own_amount():
    runs = np.repeat(["a", "b", "c"], [20, 30, 10])
    orders = shift_permutations(60, 50, runs=runs, random_state=1)
    assert len(orders) == 50 and len({o.tobytes() for o in orders}) == 50
    assert (runs[orders] == runs).all()
    first, second = orders[:, 0], orders[:, 20] - 20
    assert np.corrcoef(first, second)[0, 1] < 0.5


def test_all_shifts_come_once_if_more_are_asked_for():
    assert sorted(shift_permutations(10, 10**6, min_shift=0.2)[:, 0].tolist()) == list(range(2, 9))
    pairs = shift_permutations(8, 10**6, min_shift=1, runs=[0] * 4 + [1] * 4)
    assert len({o.tobytes() for o in pairs}) == len(pairs) == 9


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 120), block=st.integers(1, 40), b=st.integers(1, 40), seed=st.integers(0, 99))
def test_blocks_stay_whole(n, block, b, seed):
    if n // block < 2:
        return
    orders = block_permutations(n, b, block=block, random_state=seed)
    assert (np.sort(orders, 1) == np.arange(n)).all()
    assert not (orders == np.arange(n)).all(1).any()
    breaks = (np.diff(orders, axis=1) != 1).sum(1)
    assert (breaks < n // block).all()


def test_groups_move_whole_and_keep_their_inner_order():
    groups = np.array(["x", "y", "z", "x", "y", "z"])
    orders = block_permutations(6, 100, groups=groups)
    assert len({tuple(groups[order]) for order in orders}) == len(orders) == 5  # 3! - 1
    assert all((groups[order[:3]] == groups[order[3:]]).all() and (order[:3] < 3).all() for order in orders)


def test_groups_change_places_with_groups_of_their_size():
    groups = np.repeat(np.arange(30), np.random.default_rng(0).permutation([1, 2, 3] * 10))
    orders = block_permutations(60, 50, groups=groups)
    assert (np.sort(orders, 1) == np.arange(60)).all() and len({o.tobytes() for o in orders}) == 50
    for order in orders:
        pairs = set(zip(groups.tolist(), groups[order].tolist()))
        assert len(pairs) == 30  # one group, and all of it, for each
    few = block_permutations(9, 100, groups=list("xxxxyyyzz"))  # too few of a size: all three among themselves
    assert len({o.tobytes() for o in few}) == len(few) == 5 and (np.sort(few, 1) == np.arange(9)).all()
    assert few[[o[0] == 4 and o[7] == 7 for o in few]].tolist() == [[4, 5, 6, 3, 0, 1, 2, 7, 8]]  # x and y


@pytest.mark.parametrize("sizes", [[1, 2, 3, 4, 5] * 15, [1] * 40 + [5] * 20])
def test_p_holds_its_level_where_groups_are_unequal(sizes):
    # Features and responses are alike within a group. One group behind another gave .08 to .09.
    below = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        own = np.repeat(np.arange(len(sizes)), rng.permutation(sizes))
        x, y = rng.standard_normal(len(sizes))[own], rng.standard_normal((len(sizes), 20))[own]
        x, y = x - x.mean(), y + rng.standard_normal(y.shape)
        orders = block_permutations(len(own), 99, groups=own, random_state=seed)
        below.append((permutation_p(x @ y, np.stack([x @ y[order] for order in orders])) <= 0.05).mean())
    assert np.mean(below) == pytest.approx(0.05, abs=0.016)


def test_blocks_end_where_a_run_ends():
    runs = np.repeat([0, 1], [10, 14])
    for order in block_permutations(24, 20, block=5, runs=runs):
        jumps = np.flatnonzero(np.diff(order) != 1)
        pieces = np.split(order, jumps + 1)
        # Neighbours may join again after a permutation, but never two runs within one piece of a block.
        assert all(len(piece) >= 5 for piece in pieces)


@pytest.mark.parametrize(("n", "expected"), [(2, 1), (3, 5), (4, 23)])
def test_rows_run_out(n, expected):
    orders = row_permutations(n, 1000)
    assert len({o.tobytes() for o in orders}) == len(orders) == expected


def test_permutations_depend_on_the_seed_alone():
    for make in (row_permutations, shift_permutations, lambda n, b, **k: block_permutations(n, b, block=5, **k)):
        a, b, c = make(100, 9, random_state=3), make(100, 9, random_state=3), make(100, 9, random_state=4)
        assert a.dtype == np.int32 and (a == b).all() and not (a == c).all()


def test_small_sets_of_orders_are_drawn_without_repeats():
    orders = row_permutations(5, 100)
    assert len(orders) == 100 and len({o.tobytes() for o in orders}) == 100
    assert not (orders == np.arange(5)).all(1).any()


@pytest.mark.parametrize(("call", "words"), [
    (lambda: shift_permutations(10, 0), "n_permutations"),
    (lambda: shift_permutations(10, 5, min_shift=6), "no shift of at least 6 exists in a run of 10"),
    (lambda: block_permutations(10, 5), "either block"),
    (lambda: block_permutations(10, 5, block=11), "expected 1 to 10"),
    (lambda: block_permutations(10, 5, block=8), "cannot be permuted"),
])
def test_impossible_permutations_are_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()

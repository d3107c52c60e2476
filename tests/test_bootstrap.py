"""Bootstrap and subsets: against loops in Python integers, an explicit multinomial bootstrap, and known coverage."""

import hashlib

import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tffjax.studies.ffrs.bootstrap import (
    _mix,
    image_keys,
    intervals,
    near_cut,
    poisson_weights,
    ranks,
    subset_level,
    topk_overlap,
)

KEYS = image_keys([f"progan/cat/1_fake/{i:05d}.png" for i in range(20_000)])

key_arrays = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20).map(lambda keys: np.array(keys, np.uint64))


# Keys and weights


def test_keys_are_the_head_of_the_sha256():
    names = ["a.png", "progan/1_fake/ü.png"]
    expected = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    assert image_keys(names).tolist() == expected
    assert image_keys([]).shape == (0,)


def test_the_generator_is_splitmix64():
    """Against the outputs that its authors' C code gives for the seed 1234567."""
    steps = np.arange(1, 6, dtype=np.uint64) * np.array([0x9E3779B97F4A7C15], np.uint64)
    assert _mix(np.array([1234567], np.uint64) + steps).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def slow_mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def slow_poisson(uniform: float) -> int:
    count = 0
    while stats.poisson.cdf(count, 1) <= uniform:
        count += 1
    return count


@settings(max_examples=40, deadline=None, derandomize=True)
@given(key_arrays, st.integers(0, 5), st.integers(-(2**63), 2**64))
def test_weights_against_a_loop_over_python_integers(keys, replicates, seed):
    expected = np.empty((replicates, len(keys)))
    for s, key in enumerate(keys.tolist()):
        state = slow_mix(key ^ slow_mix(seed % 2**64))
        for b in range(replicates):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            expected[b, s] = slow_poisson((slow_mix(state) >> 11) / 2**53)
    np.testing.assert_array_equal(poisson_weights(keys, replicates, seed), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(key_arrays, st.integers(1, 30), st.randoms(use_true_random=False))
def test_weights_and_levels_depend_on_the_image_only(keys, replicates, random):
    """Neither on the order of the images nor on the batch they are in; fewer replicates are the first ones."""
    weights, levels = poisson_weights(keys, replicates, 7), subset_level(keys, 6)
    order = random.sample(range(len(keys)), len(keys))
    cut = random.randint(0, len(keys))
    parts = [keys[order[:cut]], keys[order[cut:]]]
    np.testing.assert_array_equal(
        np.concatenate([poisson_weights(part, replicates, 7) for part in parts], axis=1), weights[:, order]
    )
    np.testing.assert_array_equal(np.concatenate([subset_level(part, 6) for part in parts]), levels[order])
    np.testing.assert_array_equal(poisson_weights(keys, replicates // 2, 7), weights[: replicates // 2])


def test_weights_are_poisson():
    """A chi-squared test over 2 million weights; the p-value is fixed, because the weights are."""
    weights = poisson_weights(KEYS, 100, seed=0)
    observed = np.bincount(np.minimum(weights, 8).astype(int).ravel(), minlength=9)
    expected = np.append(stats.poisson.pmf(np.arange(8), 1), stats.poisson.sf(7, 1)) * weights.size
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("other", ["replicate", "image", "seed", "level"])
def test_weights_are_independent(other):
    """Between replicates, neighboring images, seeds, and of the subsets: correlations as small as chance makes them."""
    first = poisson_weights(KEYS, 50, seed=0)
    second = {
        "replicate": np.roll(first, 1, axis=0),
        "image": np.roll(first, 1, axis=1),
        "seed": poisson_weights(KEYS, 50, seed=1),
        "level": np.broadcast_to(subset_level(KEYS, 10), first.shape),
    }[other]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(KEYS))
    assert np.abs(np.mean(correlation)) < 4.5 / np.sqrt(len(KEYS) * 50)


@pytest.mark.parametrize("step", [1, 2**32, 2**63])
def test_keys_that_differ_in_one_bit_give_unrelated_weights(step):
    keys = np.arange(20_000, dtype=np.uint64) * np.array([2], np.uint64)
    first, second = (poisson_weights(k, 1, seed=0)[0] for k in (keys, keys ^ np.array([step], np.uint64)))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(keys))


def test_subsets_halve():
    levels = subset_level(KEYS, 6)
    assert set(levels.tolist()) == set(range(6))
    for level in range(6):
        share = 0.5**level
        count = (levels >= level).sum()
        assert abs(count - share * len(KEYS)) <= 4.5 * np.sqrt(len(KEYS) * share * (1 - share))
    assert not subset_level(KEYS, 1).any()


# Intervals


def multinomial_replicates(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    n = len(values)
    return rng.multinomial(n, np.full(n, 1 / n), size=count) @ values / n


def poisson_replicates(values: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    weights = poisson_weights(KEYS[: len(values)], count, seed)
    return weights @ values / weights.sum(axis=1, keepdims=True)


def test_poisson_and_multinomial_bootstrap_agree(rng):
    """On skewed relevances of 400 images, with channels so close that the cut at k = 5 is open."""
    values = rng.gamma(2, rng.uniform(0.8, 1.2, 20), size=(400, 20))
    error = values.std(axis=0) / np.sqrt(len(values))
    ours = intervals(poisson_replicates(values, 20_000), k=5)
    theirs = intervals(multinomial_replicates(values, 20_000, rng), k=5)
    for name in ("low", "high"):
        difference = (getattr(ours, name) - getattr(theirs, name)) / error
        assert np.abs(difference).max() < tolerances.BOOTSTRAP_QUANTILE
    np.testing.assert_allclose(ours.in_top, theirs.in_top, atol=tolerances.BOOTSTRAP_PROBABILITY)
    assert ((ours.in_top > 0.1) & (ours.in_top < 0.9)).sum() >= 3  # else the line above says little
    for name in ("rank_low", "rank_high"):
        assert np.abs(getattr(ours, name) - getattr(theirs, name)).max() <= 1


def test_intervals_cover_the_truth(rng):
    """Means of 80 exponential values, 2000 times: percentile intervals for skewed samples cover a little under 95 %."""
    values = rng.exponential(size=(80, 2000))
    found = intervals(poisson_replicates(values, 500), k=1)
    covered = ((found.low <= 1) & (found.high >= 1)).mean()
    assert 0.91 < covered < 0.96
    narrow = intervals(poisson_replicates(values, 500), k=1, confidence=0.5)
    assert 0.45 < ((narrow.low <= 1) & (narrow.high >= 1)).mean() < 0.53


def test_intervals_by_hand():
    replicates = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    found = intervals(replicates, k=1, confidence=1.0)
    assert found.low.tolist() == [2, 1, 1]
    assert found.high.tolist() == [3, 3, 2]
    assert found.rank_low.tolist() == [1, 1, 2]
    assert found.rank_high.tolist() == [2, 3, 3]
    assert found.in_top.tolist() == [0.8, 0.2, 0]


def test_rank_intervals_end_at_ranks_that_occurred():
    """Where a quantile falls between two ranks, the interval takes the outer one."""
    replicates = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [3.0, 2.0, 1.0]])
    found = intervals(replicates, k=1, confidence=0.5)  # the quantiles of 4 ranks fall three quarters between two
    assert found.rank_low.tolist() == [1, 1, 2]
    assert found.rank_high.tolist() == [2, 3, 3]


def test_replicates_without_images_are_left_out_and_dead_sites_come_last():
    """With few images a replicate may have none (all weights 0), or none that is valid at a site."""
    nan = np.nan
    replicates = np.array([[nan, nan, nan], [1.0, 2.0, nan], [1.0, 2.0, nan], [nan, 2.0, nan]])
    found = intervals(replicates, k=1)
    np.testing.assert_array_equal(found.low, [1, 2, nan])
    np.testing.assert_array_equal(found.high, [1, 2, nan])
    assert found.in_top.tolist() == [0, 1, 0]
    assert found.rank_low.tolist() == [2, 1, 3]
    with pytest.raises(ValueError, match="no replicate"):
        intervals(replicates[:1], k=1)


# Ranks and cuts


omegas = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12).map(np.array)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(omegas)
def test_ranks_are_stable(omega):
    """Against Python's sort, which keeps ties in order as the released code does (SPEC section 4)."""
    order = sorted(range(len(omega)), key=lambda c: omega[c], reverse=True)
    assert [order.index(c) + 1 for c in range(len(omega))] == ranks(omega).tolist()
    np.testing.assert_array_equal(ranks(np.stack([omega, -omega]))[0], ranks(omega))


def test_nan_ranks_last():
    assert ranks(np.array([np.nan, 0.0, 1.0, np.nan])).tolist() == [3, 2, 1, 4]


def test_near_cut_is_the_margin_and_the_uncertain():
    omega = np.arange(100.0)[::-1]
    in_top = np.where(np.arange(100) < 30, 1.0, 0.0)
    in_top[[5, 80]] = 0.5
    in_top[90] = 0.01  # not more than chance
    found = near_cut(omega, in_top, k=30, margin=3)
    assert np.flatnonzero(found).tolist() == [5, 27, 28, 29, 30, 31, 32, 80]


def test_overlap_of_subsets():
    omega = np.array([[4.0, 3, 2, 1], [4, 2, 3, 1], [1, 2, 3, 4], [np.nan] * 4])
    np.testing.assert_array_equal(topk_overlap(omega, 2), [1, 0.5, 0, np.nan])
    np.testing.assert_array_equal(topk_overlap(omega, 9), [1, 1, 1, np.nan])  # k beyond the channels is all of them


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_overlap_of_subsets_against_sets(k, rows, seed):
    omega = np.random.default_rng(seed).integers(0, 4, (rows, 8)) / 4
    tops = [set(sorted(range(8), key=lambda c: -row[c])[:k]) for row in omega]
    np.testing.assert_array_equal(topk_overlap(omega, k), [len(top & tops[0]) / k for top in tops])

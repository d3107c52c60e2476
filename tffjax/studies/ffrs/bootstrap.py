"""How sure a ranking is: a Poisson bootstrap over images, and nested random subsets of the images.

Bootstrap (Chamandy et al. 2012, "Estimating uncertainty for massive data streams"): in replicate b every image s counts
w[b, s] ~ Poisson(1) times, independently, so that replicates of a mean,
omega[b] = sum_s w[b, s] r[s] / sum_s w[b, s] valid[s], are sums that can be streamed. Weights and subsets depend on the
name of an image and on nothing else: not on the batch that it is in, the device, or a resume.

Ranks start at 1: omega descending, ties by channel order, NaN last (SPEC section 4).
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt64

UNCERTAIN = (0.01, 0.99)
"""A channel whose probability to be in the top-k is between these may or may not be in it."""

_GOLDEN = 0x9E3779B97F4A7C15
_SUBSETS = 0x7375627365747321  # an arbitrary seed that keeps subsets independent of weights
_POISSON = np.exp(-1) * np.cumsum([1 / math.factorial(count) for count in range(20)])  # cumulative, mean 1


class Intervals(NamedTuple):
    """What a bootstrap says about every channel, arrays of shape (channels,).

    Attributes:
        low: lower end of the percentile interval of omega; NaN where no replicate has a value.
        high: its upper end.
        rank_low: lower end (best rank) of the percentile interval of the rank, from 1.
        rank_high: its upper end.
        in_top: share of the replicates in which the channel is in the top-k, 0 to 1.
    """

    low: Float64[np.ndarray, " c"]
    high: Float64[np.ndarray, " c"]
    rank_low: Int[np.ndarray, " c"]
    rank_high: Int[np.ndarray, " c"]
    in_top: Float64[np.ndarray, " c"]


def image_keys(names: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """The first 8 bytes of the SHA-256 of each name; names are paths below the data folder, separated by `/`."""
    digests = (hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def poisson_weights(keys: UInt64[np.ndarray, " n"], replicates: int, seed: int) -> Float64[np.ndarray, "b n"]:
    """How often each image counts in each replicate: Poisson(1), the same for the same key, replicate and seed.

    Column s holds the first outputs of the generator SplitMix64 (Steele et al. 2014) started at a hash of key and seed,
    turned into Poisson numbers by the inverse of their distribution function. Fewer replicates are the first rows.
    """
    start = _mix(keys ^ _mix(np.array([seed % 2**64], np.uint64)))
    steps = np.arange(1, replicates + 1, dtype=np.uint64) * np.array([_GOLDEN], np.uint64)
    uniform = (_mix(start[None, :] + steps[:, None]) >> 11) * 2.0**-53
    return np.searchsorted(_POISSON, uniform, side="right").astype(np.float64)


def subset_level(keys: UInt64[np.ndarray, " n"], levels: int) -> Int[np.ndarray, " n"]:
    """The smallest of `levels` nested random subsets that an image is in, 0 to levels - 1.

    An image of level v is in the subsets 0 to v. Subset j holds a share 2^-j of the images, subset 0 all of them.
    """
    uniform = (_mix(keys ^ np.array([_SUBSETS], np.uint64)) >> 11) * 2.0**-53
    bounds = 0.5 ** np.arange(levels - 1, 0, -1)
    return levels - 1 - np.searchsorted(bounds, uniform, side="right")


def ranks(omega: Float[np.ndarray, "*b c"]) -> Int[np.ndarray, "*b c"]:
    """The rank of every channel, from 1, along the last axis."""
    order = np.argsort(-omega, axis=-1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, omega.shape[-1] + 1), axis=-1)
    return ranks


def intervals(replicates: Float[np.ndarray, "b c"], k: int, confidence: float = 0.95) -> Intervals:
    """Percentile intervals of omega and of the rank, and the probability to be in the top-k.

    They say how far the ranking would move if as many images were drawn again from the same source. Ends of rank
    intervals are ranks that occurred. Replicates without any value (all weights zero) are left out.

    Args:
        replicates: omega in each replicate, NaN where a site has no valid image.
        k: length of the list of top channels.
        confidence: share of the replicates inside the interval.

    Raises:
        ValueError: no replicate has a value.
    """
    replicates = replicates[~np.isnan(replicates).all(axis=1)]
    if not len(replicates):
        raise ValueError("no replicate has a value")
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    known = ~np.isnan(replicates).all(axis=0)
    ends = np.full((2, replicates.shape[1]), np.nan)
    quantile = np.nanquantile if np.isnan(replicates).any() else np.quantile  # the former is much slower
    ends[:, known] = quantile(replicates[:, known], tails, axis=0)
    rank = ranks(replicates)
    rank_low = np.quantile(rank, tails[0], axis=0, method="lower")
    rank_high = np.quantile(rank, tails[1], axis=0, method="higher")
    return Intervals(*ends, rank_low, rank_high, (rank <= k).mean(axis=0))


def near_cut(
    omega: Float[np.ndarray, " c"], in_top: Float[np.ndarray, " c"], k: int, margin: int = 10
) -> Bool[np.ndarray, " c"]:
    """Channels for which it is open whether they are in the top-k (`UNCERTAIN`), and `margin` ranks around the cut."""
    low, high = UNCERTAIN
    rank = ranks(omega)
    return ((in_top > low) & (in_top < high)) | ((rank > k - margin) & (rank <= k + margin))


def topk_overlap(subsets: Float[np.ndarray, "l c"], k: int) -> Float64[np.ndarray, " l"]:
    """Share of the top-k of the first row that is in the top-k of each row; NaN for a subset without images."""
    top = ranks(subsets) <= k
    share = (top & top[0]).sum(axis=1) / top[0].sum()
    return np.where(np.isnan(subsets).all(axis=1), np.nan, share)


def _mix(x: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """The output function of SplitMix64, a bijection of 64-bit numbers that scatters them."""
    x = (x ^ (x >> 30)) * np.array([0xBF58476D1CE4E5B9], np.uint64)
    x = (x ^ (x >> 27)) * np.array([0x94D049BB133111EB], np.uint64)
    return x ^ (x >> 31)

"""FF-RS, the forensic feature relevance statistic (SPEC 4): one pass over a batch, and sums over any number of images.

For image s and site l let T = sum over (h, w, c) of |R|. The share of channel c is

    r(s, l, c) = sum over (h, w) of max(R, 0) / T          in [0, 1]
    omega(l, c) = mean of r over the images kept

R explains the label: +f for fake images, -f for real ones. All LRP rules are linear in the relevance, so R(-f) = -R(f)
exactly and one backward pass gives both. Of a network with several outputs, R explains one of them: the largest of each
image, or a class; all images are one group then, which takes the place of the label. Arrays over all channels are in
the order of the sites, then of the channels.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int64, UInt64

from tffjax.data import LABELS
from tffjax.errors import InputError
from tffjax.lrp.composites import Composite
from tffjax.lrp.explain import relevance
from tffjax.lrp.prepare import resolve
from tffjax.lrp.targets import Target
from tffjax.nn.model import Model
from tffjax.studies.ffrs.bootstrap import poisson_weights, subset_level


class Shares(NamedTuple):
    """What one pass says about a batch.

    Attributes:
        logits: of the (canonized) network.
        shares: r, in [0, 1]; 0 at a site that no relevance reaches.
        totals: T of every site, 0 where no relevance reaches it.
    """

    logits: Float[Array, "n outputs"]
    shares: Float[Array, "n channels"]
    totals: Float[Array, "n sites"]


def relevance_shares(
    model: Model,
    images: Float[Array, "n h w c"],
    signs: Int[Array, " n"],
    composite: str | Composite | None = None,
    precision: str | None = None,
    micro_batch: int | None = None,
    target: Target = "logit",
) -> Shares:
    """Relevance shares of every channel; `signs` is 1 to explain f, -1 to explain -f, where f is the `target`.

    Target, composite, precision and micro_batch as in `tffjax.relevance`.

    Raises:
        InputError: as `tffjax.relevance`; or the explanation is not linear in the relevance.
    """
    if not resolve(model, composite)[0].linear:
        raise InputError("shares of relevance need a composite that is linear in the relevance, see `Composite.linear`")
    found = relevance(
        model, images, target=target, composite=composite, sites=True, precision=precision, micro_batch=micro_batch
    )
    return shares_of(found.logits, found.sites, signs > 0)


def shares_of(
    logits: Float[Array, "n outputs"], sites: dict[str, Float[Array, "n 2 _"]], positive: Bool[Array, " n"]
) -> Shares:
    """Shares from the sums of the positive and of the negated negative relevance at every site, in their order.

    `positive` says which of both is relevance that speaks for the label.
    """
    totals = jnp.stack([sums.sum(axis=(1, 2)) for sums in sites.values()], axis=1)
    shares = [
        jnp.where(positive[:, None], sums[:, 0], sums[:, 1]) / jnp.where(total > 0, total, 1)[:, None]
        for sums, total in zip(sites.values(), totals.T, strict=True)
    ]
    return Shares(logits, jnp.concatenate(shares, axis=1), totals)


def is_confident(
    probability: Float[np.ndarray, " n"], fake: Bool[np.ndarray, " n"], confidence: float
) -> Bool[np.ndarray, " n"]:
    """The images that the statistic keeps: p >= confidence of the fake ones, p <= 1 - confidence of the real ones.

    `probability` is that of being fake. The released code uses 0.9; 0 keeps all.
    """
    return np.where(fake, probability, 1 - probability) >= confidence


@dataclasses.dataclass(frozen=True)
class Design:
    """Which sums are kept, one row each; a row is a weighted sum over images.

    Attributes:
        site_channels: number of channels of each site.
        groups: (generator, category) of the breakdown; category "" takes all of a generator.
        levels: number of nested random subsets, halving from one to the next.
        replicates: number of bootstrap replicates.
        seed: of the replicates.
        labels: names of what is explained, each with sums of its own: the labels or, of a network with several outputs,
            the one target.
    """

    site_channels: tuple[int, ...]
    groups: tuple[tuple[str, str], ...]
    levels: int
    replicates: int
    seed: int
    labels: tuple[str, ...] = LABELS

    @property
    def parts(self) -> tuple[slice, slice, slice]:
        """The rows of the groups, subsets and replicates; row 0 is the plain sum."""
        subsets = 1 + len(self.groups)
        replicates = subsets + self.levels
        return slice(1, subsets), slice(subsets, replicates), slice(replicates, replicates + self.replicates)

    def weights(
        self, generators: list[str], categories: list[str], keys: UInt64[np.ndarray, " n"]
    ) -> Float[np.ndarray, "rows n"]:
        """How much every image counts in every row."""
        images = list(zip(generators, categories, strict=True))
        of_group = [[float(g == group and c in ("", cat)) for group, cat in images] for g, c in self.groups]
        level = subset_level(keys, self.levels)
        return np.concatenate(
            [
                np.ones((1, len(keys))),
                np.array(of_group, np.float64).reshape(len(self.groups), len(keys)),
                (level >= np.arange(self.levels)[:, None]).astype(np.float64),
                poisson_weights(keys, self.replicates, self.seed),
            ]
        )


UNIT = 2.0**-36
"""Shares are rounded to multiples of it before they are summed up, so that sums over 10^8 images are exact."""

_EXACT = 2**53  # up to here every whole number is a float64


@dataclasses.dataclass(frozen=True)
class Totals:
    """Exact sums over images: their size does not depend on the number of images, nor a bit of them on their order.

    The first axis is the label, or the target, see `Design.labels`. With r rounded to multiples of 2^-36 (`UNIT`), in
    these units:

    Attributes:
        sums: sum of w r.
        squares: sum of r^2, each rounded to whole units.
        counts: sum of w over the images whose relevance reaches the site.
        images: number of images (all, then by group): kept, dropped by the confidence filter.
    """

    sums: Int64[np.ndarray, "labels rows channels"]
    squares: Int64[np.ndarray, "labels channels"]
    counts: Int64[np.ndarray, "labels rows sites"]
    images: Int64[np.ndarray, "labels counted 2"]

    @classmethod
    def zero(cls, design: Design) -> "Totals":
        """No images."""
        rows, channels, sites = design.parts[-1].stop, sum(design.site_channels), len(design.site_channels)
        n = len(design.labels)
        shapes = (n, rows, channels), (n, channels), (n, rows, sites), (n, 1 + len(design.groups), 2)
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def add(
        self,
        shares: Float[np.ndarray, "n channels"],
        totals: Float[np.ndarray, "n sites"],
        weights: Float[np.ndarray, "rows n"],
        labels: Int[np.ndarray, " n"] | Bool[np.ndarray, " n"],
        kept: Bool[np.ndarray, " n"],
    ) -> None:
        """Add a batch, in place. `labels` are places in `Design.labels`. Images with `kept` off count as dropped only.

        Raises:
            ValueError: the batch is so large that its sums would not be exact.
            InputError: there are so many images that the sums overflow.
        """
        if weights.sum(axis=1).max(initial=0) / UNIT >= _EXACT:
            raise ValueError(f"a batch of {len(shares)} images is too large for exact sums")
        counted = weights[: self.images.shape[1]]
        for label in range(len(self.images)):
            ours = labels == label
            self.images[label, :, 0] += counted[:, ours & kept].sum(axis=1).astype(np.int64)
            self.images[label, :, 1] += counted[:, ours & ~kept].sum(axis=1).astype(np.int64)
            rows = np.flatnonzero(ours & kept)
            if len(rows):
                values = np.rint(shares[rows].astype(np.float64) / UNIT)
                self.sums[label] += (weights[:, rows] @ values).astype(np.int64)
                self.squares[label] += np.rint((values * UNIT) ** 2 / UNIT).sum(axis=0).astype(np.int64)
                self.counts[label] += (weights[:, rows] @ (totals[rows] > 0).astype(np.float64)).astype(np.int64)
        self._check()

    def merge(self, other: "Totals") -> "Totals":
        """The sums over both sets of images.

        Raises:
            InputError: there are so many images that the sums overflow.
        """
        merged = Totals(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))
        merged._check()
        return merged

    def _check(self) -> None:
        if (self.sums < 0).any():  # all terms are positive, and none exceeds 2^53
            raise InputError("the sums over so many images overflow; rank them in several runs")


def omega(totals: Totals, design: Design, label: int, rows: slice = slice(0, 1)) -> Float[np.ndarray, "rows channels"]:
    """omega of the given rows; NaN where a row has no image."""
    counts = np.repeat(totals.counts[label, rows], design.site_channels, axis=1)
    with np.errstate(invalid="ignore"):
        return totals.sums[label, rows] * UNIT / counts


def standard_error(totals: Totals, design: Design, label: int) -> Float[np.ndarray, " channels"]:
    """sqrt(sample variance / number of images) of omega; NaN for fewer than two images."""
    count = np.repeat(totals.counts[label, 0], design.site_channels)
    mean = omega(totals, design, label)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(totals.squares[label] * UNIT / count - mean**2, 0) * count / (count - 1)
        return np.where(count > 1, np.sqrt(variance / count), np.nan)


def order(values: Float[np.ndarray, " channels"]) -> Int[np.ndarray, " channels"]:
    """Channel indices by omega, descending; ties by site order, then channel index (SPEC 4); NaN last."""
    return np.argsort(-values, kind="stable")

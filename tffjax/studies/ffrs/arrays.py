"""FF-RS of images in memory."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from tffjax.errors import InputError
from tffjax.lrp.composites import Composite
from tffjax.nn.model import Model
from tffjax.studies.ffrs.statistic import order, relevance_shares
from tffjax.studies.rankings import Channel, Ranking, all_channels


@dataclasses.dataclass(frozen=True, repr=False)
class FFRS:
    """The statistic of some images.

    Attributes:
        channels: all channels of the network, in the order of its sites.
        fake: which images were explained as fake.
        logits: of the (canonized) network.
        shares: r of every image and channel, in [0, 1].
    """

    channels: tuple[Channel, ...]
    fake: Bool[np.ndarray, " n"]
    logits: Float[np.ndarray, "n outputs"]
    shares: Float[np.ndarray, "n channels"]

    def ranking(self, label: Literal["fake", "real"] = "fake") -> Ranking:
        """Channels by omega, the mean of r over the fake (or real) images, best first.

        Raises:
            InputError: there are no such images.
        """
        members = self.fake == (label == "fake")
        if not members.any():
            raise InputError(f"none of the {len(self.fake)} images is {label}")
        omega = self.shares[members].mean(axis=0, dtype=np.float64)
        best = order(omega)
        return Ranking(tuple(self.channels[index] for index in best), omega[best])

    def __repr__(self) -> str:
        return f"FFRS({len(self.fake)} images, {self.fake.sum()} of them fake, {len(self.channels)} channels)"


def ffrs(
    model: Model,
    images: Float[np.ndarray, "n h w c"] | jnp.ndarray,
    fake: bool | Sequence[bool] | np.ndarray,
    composite: str | Composite | None = None,
    precision: str | None = None,
) -> FFRS:
    """FF-RS of a batch of images in memory (SPEC 4); for folders of any size there is `tffjax.rank`.

        r(s, l, c) = sum over (h, w) of max(R, 0) / sum over (h, w, c) of |R|

    where R is the relevance of +f for fake images and of -f for real ones, at the output of convolution l.

    Args:
        model: a network with one output; for many batches `tffjax.prepare(model, composite)`.
        images: normalized, NHWC.
        fake: which images are fake, or whether all are.
        composite, precision: as of `tffjax.relevance`.

    Raises:
        InputError: as `tffjax.relevance`, or the explanation is not linear in the relevance.
    """
    images = jnp.asarray(images)
    which = np.broadcast_to(np.asarray(fake, bool), len(images))
    high_is_fake = model.card is None or model.card.high_means == "fake"
    signs = jnp.where(which == high_is_fake, 1, -1).astype(jnp.int32)
    found = relevance_shares(model, images, signs, composite, precision)
    channels = all_channels(model, images.shape[1:3])
    return FFRS(channels, which, np.asarray(found.logits), np.asarray(found.shares))

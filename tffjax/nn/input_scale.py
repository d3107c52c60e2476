"""Is the input on the scale that a network was trained with? Its first batch norm remembers."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float

from tffjax.nn.conv_bn import state_of
from tffjax.nn.model import Model
from tffjax.nn.sites import outputs_at, sites_of

LIMIT = 5.0
"""A larger `log_scale`, up or down, is no matter of the images."""


def log_scale(model: Model, images: Float[Any, "n h w c"]) -> float | None:
    """Median over channels of log(variance seen / running variance) behind the first convolution.

    The variance seen is that of the convolution's output, over images and positions; the running variance is what the
    batch norm behind it learned in training. Input that is c times too large adds 2 log c: 11.1 for 0 to 255 in place
    of 0 to 1.

    Measured with three real networks (an ImageNet ResNet-50 of Caffe input, two EfficientNets-B0 of ImageNet's mean and
    deviation) on 13 sets of real and generated images, 1, 4 or 16 at once:

    - right normalization: -2.0 to 0.9 (four images and more: -1.8 to 0.6); noise and checkerboards up to 1.5;
      photographs at an eighth of their brightness -4.5 to -3.0
    - networks of 0 to 1, or of ImageNet's deviation, given 0 to 255 with or without means: 6.1 to 9.0
    - a network of 0 to 255 given 0 to 1, -1 to 1, or ImageNet's deviation: -12.4 to -7.4
    - a network of ImageNet's deviation given 0 to 1: -4.9 to -2.1; -1 to 1: -3.6 to -0.7

    So `LIMIT` finds what is wrong by a factor like 255, and not what is wrong by less: dark and smooth images look like
    it, and the mean's shift (0.0 to 1.0 deviations for right, 0.0 to 0.7 for wrong ones) does not tell them apart.

    Args:
        model: as trained.
        images: normalized.

    Returns:
        None where it cannot be said: there is no batch norm with statistics behind the first convolution, or the
        images are all of one color.
    """
    pairs = dict(model.module.batch_norm_pairs()) if hasattr(model.module, "batch_norm_pairs") else {}
    first = sites_of(model, images.shape[1:])[0].name
    if first not in pairs or state_of(model.module) != "statistics":
        return None
    trained = np.asarray(flatten_dict(model.variables["batch_stats"], sep=".")[f"{pairs[first]}.var"], np.float64)
    (outputs,) = outputs_at(model, images, (first,))
    seen = np.asarray(outputs, np.float64).var(axis=(0, 1, 2))
    alive = (seen > 0) & (trained > 0)
    return float(np.median(np.log(seen[alive] / trained[alive]))) if alive.any() else None


def scale_warning(model: Model, images: Float[Any, "n h w c"]) -> str | None:
    """A line where `log_scale` is beyond `LIMIT`; None where nothing is to be said."""
    found = log_scale(model, images)
    if found is None or abs(found) <= LIMIT:
        return None
    factor, word = np.exp(abs(found) / 2), "larger" if found > 0 else "smaller"
    return (
        f"the input scale looks wrong: behind the first convolution values spread about {factor:,.0f} times "
        f"{word} than in training; convert again with another --normalization (or these images are nearly of one color)"
    )

"""LRP of the PyTorch twin and ours on the same pixels, site by site."""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from tffjax.conversion import twin, twin_lrp

from tffjax.lrp.explain import relevance
from tffjax.nn import Model
from tffjax.nn.card import Normalization
from tffjax.nn.graph import layers_of

TOLERANCES = {
    # The same real numbers, summed in another order.
    "float64": 1e-8,
    # Rounding decides whether a unit of 1e-7 is active, and the residual sum's rule jumps there: single maps of float32
    # differ by up to a few percent, in PyTorch against itself as well.
    "float32": 1e-1,
}
TOP = 20


@dataclasses.dataclass(frozen=True)
class LrpDifference:
    """How far the relevances at one place are apart, over all images.

    Attributes:
        place: a site, or `input`.
        dtype: `float32` or `float64`.
        relative: |ours - twin| / |twin|, Euclidean norms of the maps, the worst image.
        rank_correlation: Spearman, of the channels' sums of positive relevance, the worst image; None for the input.
        overlap: share of the twin's `TOP` channels (or all, if fewer) that are among ours, the worst image.
    """

    place: str
    dtype: str
    relative: float
    rank_correlation: float | None
    overlap: float

    @property
    def ok(self) -> bool:
        """Whether the relative difference is within tolerance (NaN is not)."""
        return self.relative <= TOLERANCES[self.dtype]


def verify_lrp(
    model: Model,
    net: twin.Twin,
    images: list[Float[np.ndarray, "n h w 3"]],
    composite: str = "beta0",
    busy: Callable[[str], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> tuple[LrpDifference, ...]:
    """Explain the largest output of every image with both, in float32 and float64, and compare every site's map.

    Args:
        model: ours, as trained.
        net: the twin with the same weights.
        images: float32 NHWC batches, one for each size; explained one image at a time.
        composite: a name that both know.
        busy: entered around every step, with what is going on.
    """
    bounds = (model.card.normalization if model.card else Normalization()).bounds
    differences = []
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            typed, typed_net = model.astype(dtype), net.to(getattr(torch, dtype))
            pairs = []
            for batch in images:
                for i in range(len(batch)):
                    compiling = "" if i else "compiling and "
                    with busy(f"{compiling}explaining an image of {batch.shape[1]}x{batch.shape[2]} in {dtype}"):
                        image = batch[i : i + 1].astype(dtype)
                        pairs.append(_explain(typed, typed_net, image, composite, bounds))
        differences += [_difference(place, dtype, [(a[place], b[place]) for a, b in pairs]) for place in pairs[0][0]]
    net.float()
    return tuple(differences)


def _explain(
    model: Model, net: twin.Twin, image: np.ndarray, composite: str, bounds: tuple[float, float]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Relevance maps (h, w, c) of one image by place, ours and the twin's."""
    names = tuple(layer.name for layer in layers_of(model, image) if layer.is_site)
    ours = relevance(model, jnp.asarray(image), target="top", composite=composite, maps=names)
    x = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous()
    top = int(ours.logits.argmax())
    _, received, maps = twin_lrp.explain(net, x, composite, output=top, bounds=bounds)
    theirs = {**maps, "input": received}
    return (
        {**{site: np.asarray(ours.maps[site])[0] for site in names}, "input": np.asarray(ours.input)[0]},
        {place: value[0].permute(1, 2, 0).numpy() for place, value in theirs.items()},
    )


def _difference(place: str, dtype: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> LrpDifference:
    relative, correlation, overlap = zip(*(_compare(a, b) for a, b in pairs), strict=True)
    worst_correlation = None if place == "input" else float(np.min(correlation))
    return LrpDifference(place, dtype, float(np.max(relative)), worst_correlation, min(overlap))


def _compare(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    scale = np.linalg.norm(theirs)
    distance = float(np.linalg.norm(ours - theirs))
    a, b = (np.maximum(r, 0).sum(axis=(0, 1)) for r in (ours, theirs))
    top = min(TOP, len(a))
    both = set(np.argsort(-a, kind="stable")[:top]) & set(np.argsort(-b, kind="stable")[:top])
    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    correlation = 1.0 if constant else float(spearmanr(a, b).statistic)
    return (distance / float(scale) if scale else distance), correlation, len(both) / top

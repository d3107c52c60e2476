"""The PyTorch twin and the JAX network on the same pixels, site by site."""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float
from tffjax.conversion import twin

from tffjax.compile.passes import Pass
from tffjax.nn import Model
from tffjax.nn.sites import site_outputs

TOLERANCES = {
    # Both sides compute the same real number; what is left is rounding of 53 layers in double precision.
    "float64": 1e-10,
    # Rounding of 6e-8 per operation, amplified up to a few hundred times from the first to the last block.
    "float32": 1e-3,
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """Largest difference between the two networks at one place.

    Attributes:
        place: a site, or `logits`.
        dtype: `float32` or `float64`.
        absolute: max |ours - twin|.
        relative: that, divided by max |twin|.
    """

    place: str
    dtype: str
    absolute: float
    relative: float

    @property
    def ok(self) -> bool:
        """Whether the relative difference is within the tolerance of its precision (NaN is not)."""
        return self.relative <= TOLERANCES[self.dtype]


@dataclasses.dataclass(frozen=True)
class Verification:
    """Differences of all places in both precisions, and the logits of both networks by precision, (images, outputs)."""

    differences: tuple[Difference, ...]
    ours: dict[str, np.ndarray]
    theirs: dict[str, np.ndarray]

    @property
    def ok(self) -> bool:
        """Whether every difference is within tolerance."""
        return all(difference.ok for difference in self.differences)


def verify_forward(
    model: Model,
    net: twin.Twin,
    images: list[Float[np.ndarray, "n h w 3"]],
    busy: Callable[[str], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Verification:
    """Run both networks on normalized images in float32 and float64 and compare every site and the logits.

    Args:
        model: ours, as trained (batch norms not folded).
        net: the twin with the same weights.
        images: float32 NHWC batches, one for each size.
        busy: entered around every step, with what is going on.
    """
    differences, ours, theirs = [], {}, {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            typed, typed_net = model.astype(dtype), net.to(getattr(torch, dtype))
            pairs = []
            for batch in images:
                what = f"{len(batch)} images of {batch.shape[1]}x{batch.shape[2]} in {dtype}"
                with busy(f"compiling and running the JAX network on {what}"):
                    logits, outputs = _site_outputs(typed, jnp.asarray(batch, dtype))
                    here = {**_numpy(outputs), "logits": np.asarray(logits)}
                with busy(f"running the PyTorch network on {what}"):
                    x = torch.from_numpy(batch.astype(dtype)).permute(0, 3, 1, 2).contiguous()
                    logits, outputs = twin.site_outputs(typed_net, x)
                    pairs.append((here, {**_nhwc(outputs), "logits": logits.numpy()}))
        differences += [difference(place, dtype, pairs) for place in pairs[0][1]]
        ours[dtype] = np.concatenate([a["logits"] for a, _ in pairs])
        theirs[dtype] = np.concatenate([b["logits"] for _, b in pairs])
    net.float()
    return Verification(tuple(differences), ours, theirs)


_site_outputs = Pass(site_outputs)


def _numpy(outputs: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {site: np.asarray(y) for site, y in outputs.items()}


def _nhwc(outputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {site: y.permute(0, 2, 3, 1).numpy() for site, y in outputs.items()}


def difference(place: str, dtype: str, pairs: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]) -> Difference:
    """The difference at one place, of (ours, the twin's) arrays by place."""
    absolute = float(np.max([np.max(np.abs(a[place] - b[place])) for a, b in pairs]))  # NaN stays NaN
    scale = max(float(np.max(np.abs(b[place]))) for _, b in pairs)
    return Difference(place, dtype, absolute, absolute / scale if scale else absolute)

"""The rules of layer-wise relevance propagation, as functions of arrays.

Every rule is the generic step of `tffjax.lrp.redistribution` on modified inputs and kernels. A rule takes a `Linear`,
the layer as it was computed, the relevance at its output, and constants; it returns the relevance at the input and what
got lost on the way (`Lost`).
x+ = max(x, 0), x- = min(x, 0). Outputs at which z is zero hand nothing on, unless epsilon makes something of it.

The bias takes part in the denominators of `epsilon` and `gamma`, and keeps its share; in those of `z_plus`,
`alpha_beta` and `w_square` only with `bias=True`. Constants are those of Chandrasegaran et al. 2022. Sources:

- Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by LRP, PLOS ONE 2015
- Montavon et al., Explaining Nonlinear Classification Decisions with Deep Taylor Decomposition, 2017
- Lapuschkin et al., Unmasking Clever Hans Predictors, Nature Communications 2019
- Montavon et al., Layer-Wise Relevance Propagation: An Overview, in Explainable AI, 2019
- Andeol et al., Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization, 2021
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tffjax.errors import InputError
from tffjax.kernels.precision import widened
from tffjax.lrp.redistribution import (
    Linear,
    Lost,
    Stabilizer,
    for_kinds,
    losses,
    negative,
    positive,
    redistribute,
)

EPSILON = 1e-6
BETA_MAX = 4.5
GAMMA = 0.25


def _unchanged(layer: Linear, **constants: Any) -> tuple[Any, ...]:
    return (layer.kernel,)


def _by_sign(layer: Linear, *, beta: float = 1.0, bias: bool = False, **constants: Any) -> tuple[Any, ...]:
    """w+, w-, b+, b-; None for what is not needed."""
    down = None if layer.nonnegative and beta == 0 else negative(layer.kernel)
    biases = (None, None) if not bias or layer.bias is None else (positive(layer.bias), negative(layer.bias))
    return positive(layer.kernel), down, *biases


def _positive_by_sign(layer: Linear, **constants: Any) -> tuple[Any, ...]:
    return _by_sign(layer, **constants, beta=0.0)


def _check_alpha_beta(*, alpha: float = 2.0, beta: float = 1.0, **constants: Any) -> None:
    if beta < 0 or not math.isclose(alpha - beta, 1):
        raise InputError(
            f"alpha_beta needs alpha - beta = 1 and beta >= 0, not alpha={alpha:g}, beta={beta:g}: other constants "
            "create or destroy relevance"
        )


@for_kinds("conv", "dense", "average_pool", "add", prepare=_unchanged)
def epsilon(layer: Linear, relevance: jax.Array, *, epsilon: float = EPSILON) -> tuple[jax.Array, Lost]:
    """Epsilon rule: z = map(x, w) + b, S = R / (z + epsilon * sign(z)), R_in = x * transpose(S, w); sign(0) = 1.

    With epsilon = 0 (LRP-0) an output that is exactly zero hands nothing on. Bach et al. 2015, eq. 58.
    """
    parts = ((layer.x, *layer.kernels),)
    return redistribute(layer, parts, relevance, Stabilizer(epsilon, epsilon), bias=layer.bias, output=layer.output)


@for_kinds("conv", "dense", prepare=_positive_by_sign)
def z_plus(layer: Linear, relevance: jax.Array, *, bias: bool = False, epsilon: float = 0.0) -> tuple[jax.Array, Lost]:
    """z+ rule: shares of the positive contributions, z = map(x+, w+) + map(x-, w-), with `bias` + b+.

    S = R / (z + epsilon), R_in = x+ * transpose(S, w+) + x- * transpose(S, w-). Montavon et al. 2017; for inputs of
    both signs it is Bach et al. 2015, eq. 60, with alpha = 1, beta = 0.
    """
    return _positive_share(layer, relevance, epsilon)


@for_kinds("conv", "dense", prepare=_by_sign, check=_check_alpha_beta)
def alpha_beta(
    layer: Linear,
    relevance: jax.Array,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    bias: bool = False,
    epsilon: float = 0.0,
) -> tuple[jax.Array, Lost]:
    """Alpha-beta rule: R_in = alpha R+ - beta R-, alpha - beta = 1. Bach et al. 2015, eq. 60.

    R+ is that of `z_plus`; R- shares out over the negative contributions, z = map(x-, w+) + map(x+, w-), with `bias`
    + b-, S = R / (z - epsilon). A composite refuses other alpha and beta.
    """
    for_it = _positive_share(layer, relevance, epsilon)
    if beta == 0:
        return _combined((alpha, for_it))
    up, down, _, bias_down = layer.kernels
    against = redistribute(layer, _pairs(layer, down, up), relevance, Stabilizer(0.0, epsilon), bias=bias_down)
    return _combined((alpha, for_it), (-beta, against))


@for_kinds("conv", "dense", prepare=_by_sign)
def beta_adaptive(layer: Linear, relevance: jax.Array, *, beta_max: float = BETA_MAX) -> tuple[jax.Array, Lost]:
    """(1 + beta) R+ - beta R-, beta = min(-Z- / y, beta_max) at each output y > 0, else 0.

    R+ and R- are those of `alpha_beta`. Z- = map(x-, w+) + map(x+, w-), the sum of the negative contributions, without
    bias; y has the bias. Chandrasegaran et al. 2022, released code.
    """
    up, down, *_ = layer.kernels
    parts, relevance, y = _pairs(layer, down, up), widened(relevance), widened(layer.output)
    z = sum(widened(layer.map(x, kernel)) for x, kernel in parts)
    beta = jnp.where(y > 0, jnp.minimum(-z / jnp.where(y > 0, y, 1), beta_max), 0)
    against = redistribute(layer, parts, relevance * beta, output=z)
    return _combined((1.0, _positive_share(layer, relevance * (1 + beta))), (-1.0, against))


def _box(layer: Linear, *, low: Any, high: Any, **constants: Any) -> tuple[jax.Array, jax.Array]:
    w = layer.kernel
    return w, _bound(low, w) * positive(w) + _bound(high, w) * negative(w)


def _check_box(*, low: Any, high: Any, **constants: Any) -> None:
    if not np.all(np.less(low, high)):
        raise InputError(f"the box of z_box needs low < high, not {low} and {high}")


@for_kinds("conv", "dense", prepare=_box, check=_check_box)
def z_box(
    layer: Linear,
    relevance: jax.Array,
    *,
    low: float | tuple[float, ...],
    high: float | tuple[float, ...],
    epsilon: float = EPSILON,
) -> tuple[jax.Array, Lost]:
    """zB rule (z-box) for inputs in the box low <= x <= high (scalars, or one number for each input channel).

    z = map(x, w) - map(L, w+) - map(H, w-), R_in = x * transpose(S, w) - L * transpose(S, w+) - H * transpose(S, w-);
    L and H are images of the constants, zero-padded like x. They are one map here: of ones with L w+ + H w-.
    Montavon et al. 2017.
    """
    w, box = layer.kernels
    parts = ((layer.x, w), (-jnp.ones_like(layer.x[:1]), box))
    return redistribute(layer, parts, relevance, Stabilizer(epsilon, epsilon))


def _favored(layer: Linear, *, gamma: float = GAMMA, **constants: Any) -> tuple[Any, ...]:
    """w + gamma w+, w + gamma w-, b + gamma b+, b + gamma b-."""
    weights = (layer.kernel, layer.bias)
    return tuple(None if w is None else w + gamma * part(w) for w in weights for part in (positive, negative))


@for_kinds("conv", "dense", prepare=_favored)
def gamma(
    layer: Linear, relevance: jax.Array, *, gamma: float = GAMMA, epsilon: float = EPSILON
) -> tuple[jax.Array, Lost]:
    """Gamma rule: contributions with the sign of the output y, the bias's too, count 1 + gamma times; 0 is positive.

    Where y >= 0: z = map(x+, w + gamma w+) + map(x-, w + gamma w-) + b + gamma b+; where y < 0, w+ and w- are exchanged
    and b- replaces b+. So |z| >= |y|. S = R / (z + epsilon * sign(z)); R_in shares out as z adds up.

    Montavon et al. 2019 (for x >= 0 and y >= 0); Andeol et al. 2021 (generalized gamma).
    """
    up, down, bias_up, bias_down = layer.kernels
    y, stabilizer = widened(layer.output), Stabilizer(0.0, epsilon)
    for_parts, against_parts = _pairs(layer, up, down), _pairs(layer, down, up)
    z = sum(widened(layer.map(x, kernel)) for x, kernel in for_parts) + (0 if bias_up is None else bias_up)
    for_it, against = jnp.where(y < 0, 0, widened(relevance)), jnp.where(y < 0, widened(relevance), 0)
    # The denominators of both branches add up to (2 + gamma) y, which saves the maps of one.
    return _combined(
        (1.0, redistribute(layer, for_parts, for_it, stabilizer, bias=bias_up, output=z)),
        (1.0, redistribute(layer, against_parts, against, stabilizer, bias=bias_down, output=(2 + gamma) * y - z)),
    )


def _squared(layer: Linear, *, bias: bool = False, **constants: Any) -> tuple[Any, ...]:
    return layer.kernel**2, layer.bias**2 if bias and layer.bias is not None else None


@for_kinds("conv", "dense", prepare=_squared)
def w_square(
    layer: Linear, relevance: jax.Array, *, bias: bool = False, epsilon: float = 0.0
) -> tuple[jax.Array, Lost]:
    """w^2 rule: z = map(1, w^2), with `bias` + b^2, S = R / (z + epsilon), R_in = transpose(S, w^2).

    Montavon et al. 2017.
    """
    kernel, bias_squared = layer.kernels
    parts = ((jnp.ones_like(layer.x[:1]), kernel),)
    return redistribute(layer, parts, relevance, Stabilizer(0.0, epsilon), bias=bias_squared)


@for_kinds("conv", "dense", prepare=lambda layer, **constants: (jnp.ones_like(layer.kernel),))
def flat(layer: Linear, relevance: jax.Array, *, epsilon: float = 0.0) -> tuple[jax.Array, Lost]:
    """Flat rule: every input of an output gets an equal share, z = map(1, 1), S = R / (z + epsilon).

    Lapuschkin et al. 2019.
    """
    return redistribute(layer, ((jnp.ones_like(layer.x[:1]), *layer.kernels),), relevance, Stabilizer(0.0, epsilon))


@for_kinds("add")
def sum_epsilon(
    a: jax.Array, b: jax.Array, relevance: jax.Array, *, epsilon: float = EPSILON
) -> tuple[jax.Array, jax.Array, Lost]:
    """Epsilon rule of a residual sum z = a + b: S = R / (z + epsilon * sign(z)), R_a = a * S, R_b = b * S; sign(0) = 1.

    It is what `epsilon` means there. With epsilon = 0 a sum that is exactly zero hands nothing on.
    """
    a, b, relevance = widened(a), widened(b), widened(relevance)
    z, stabilizer = a + b, Stabilizer(epsilon, epsilon)
    s = stabilizer.share(relevance, z)
    return a * s, b * s, losses(relevance, s, z, stabilizer)


def _positive_share(layer: Linear, relevance: jax.Array, epsilon: float = 0.0) -> tuple[jax.Array, Lost]:
    """What `z_plus` hands on."""
    up, down, bias, _ = layer.kernels
    z = None if layer.nonnegative else layer.map.positive(layer.x, layer.kernel, up, down)
    z = z if z is None or bias is None else z + bias
    return redistribute(layer, _pairs(layer, up, down), relevance, Stabilizer(0.0, epsilon), bias=bias, output=z)


def _pairs(layer: Linear, for_positive: Any, for_negative: Any) -> tuple[tuple[jax.Array, Any], ...]:
    """Inputs by sign, each with its kernel."""
    if layer.nonnegative:
        return ((layer.x, for_positive),)
    return (positive(layer.x), for_positive), (negative(layer.x), for_negative)


def _bound(bound: float | tuple[float, ...], kernel: jax.Array) -> jax.Array:
    """The bound of the input channel that each entry of a kernel (..., inputs of a group, outputs) meets."""
    per_group, outputs = kernel.shape[-2:]
    values = jnp.asarray(bound, kernel.dtype).reshape(-1, per_group if isinstance(bound, tuple) else 1)
    return jnp.repeat(jnp.broadcast_to(values, (len(values), per_group)), outputs // len(values), axis=0).T


def _combined(*terms: tuple[float, tuple[jax.Array, Lost]]) -> tuple[jax.Array, Lost]:
    """A weighted sum of what rules return."""
    received = sum(x if factor == 1 else factor * x for factor, (x, _) in terms)
    return received, Lost(*(sum(f * part for (f, _), part in zip(terms, parts, strict=True))
                            for parts in zip(*(lost for _, (_, lost) in terms), strict=True)))  # fmt: skip

"""The rules of layer-wise relevance propagation, as functions of arrays.

Every rule is the same generic step (`redistribute`) on modified inputs and kernels: with z = map(x', w'),

    S = R / stabilize(z)        R_in = x' * transpose(S, w')

so input i gets from output j the share x'_i w'_ij / z_j. A rule takes

    (linear, x, kernel, bias, output, relevance)

the layer's linear map (`tffjax.lrp.linear`), its input, parameters and output (bias included) and the relevance at the
output (of which some may be bfloat16), and returns the relevance at the input and what got lost on the way (`Lost`).
x+ = max(x, 0), x- = min(x, 0).

Sources: Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2017 and 2019 (z+, zB, w2, flat, gamma);
Chandrasegaran et al. 2022 for the constants. The bias takes part in the denominators of `epsilon` and `gamma` only: it
keeps its share.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tffjax.kernels.precision import widened

AT_ZERO = 1e-12
EPSILON = 1e-6
BETA_MAX = 4.5


class Stabilizer(NamedTuple):
    """Keeps a denominator from vanishing: z + at_zero * [z == 0] + epsilon * sign(z), with sign(0) = 0."""

    at_zero: float = AT_ZERO
    epsilon: float = 0.0

    def __call__(self, z: jax.Array) -> jax.Array:
        """The stabilized denominator."""
        if self.epsilon:
            z = z + self.epsilon * jnp.sign(z)
        return jnp.where(z == 0, jnp.asarray(self.at_zero, z.dtype), z)


class Lost(NamedTuple):
    """Relevance of each image, (n,), that a layer took in and did not hand on.

    Attributes:
        bias: the bias's share.
        stabilizer: what the stabilizer swallowed.
        zero: relevance at outputs whose denominator is exactly zero.
    """

    bias: jax.Array
    stabilizer: jax.Array
    zero: jax.Array


def nothing_lost(relevance: jax.Array) -> Lost:
    """The `Lost` of a layer that hands everything on."""
    zero = jnp.zeros(relevance.shape[0], widened(relevance).dtype)
    return Lost(zero, zero, zero)


def per_image(relevance: jax.Array) -> jax.Array:
    """Sum over all axes but the first."""
    return jnp.sum(widened(relevance), axis=tuple(range(1, relevance.ndim)))


def redistribute(
    linear: Any,
    parts: tuple[tuple[jax.Array, jax.Array | None], ...],
    relevance: jax.Array,
    stabilizer: Stabilizer,
    *,
    bias: jax.Array | None = None,
    output: jax.Array | None = None,
) -> tuple[jax.Array, Lost]:
    """The generic step: R_in = sum_k x_k * transpose(S, w_k), S = R / stabilizer(sum_k linear(x_k, w_k) + bias).

    Args:
        linear: the linear map.
        parts: modified inputs and kernels (x_k, w_k); an input of batch size 1 stands for every image.
        relevance: R, at the outputs.
        stabilizer: of the denominator.
        bias: takes its share of the relevance; broadcasts against the outputs.
        output: the denominator before the stabilizer, where it is known already.
    """
    z = output
    if z is None:
        z = sum(widened(linear(x, kernel)) for x, kernel in parts)
        z = z if bias is None else z + bias
    relevance, z = widened(relevance), widened(z)
    denominator = stabilizer(z)
    s = relevance / denominator
    if not stabilizer.epsilon:
        # All contributions are zero where z is, since they have one sign. So is what they hand on; but 1e12 R beside
        # other numbers would be felt by convolutions that are not summed term by term.
        s = jnp.where(z == 0, 0, s)
    shares = linear.transposes(s, [kernel for _, kernel in parts], parts[0][0])
    received = sum(widened(x) * widened(share) for (x, _), share in zip(parts, shares, strict=True))
    # Unless somebody asks for them, XLA drops these sums.
    zero = z == 0
    return received, Lost(
        bias=jnp.zeros(relevance.shape[0], s.dtype) if bias is None else per_image(s * bias),
        stabilizer=per_image(jnp.where(zero, 0, s * (denominator - z))),
        zero=per_image(jnp.where(zero, relevance, 0)),
    )


def positive(x: jax.Array) -> jax.Array:
    """x+ = max(x, 0)."""
    return jnp.maximum(x, 0)


def negative(x: jax.Array) -> jax.Array:
    """x- = min(x, 0)."""
    return jnp.minimum(x, 0)


def epsilon(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array | None,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    epsilon: float = EPSILON,
) -> tuple[jax.Array, Lost]:
    """Epsilon rule: z = map(x, w) + bias, S = R / (z + epsilon * sign(z)), R_in = x * transpose(S, w)."""
    stabilizer = Stabilizer(epsilon, epsilon)
    return redistribute(linear, ((x, kernel),), relevance, stabilizer, bias=bias, output=output)


def beta(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    beta: float = 0.0,
    nonnegative: bool = False,
) -> tuple[jax.Array, Lost]:
    """Beta rule R_in = (1 + beta) R+ - beta R-: z+ for beta = 0, alpha-beta with alpha = 1 + beta otherwise.

    R+ shares out over the positive contributions, z = map(x+, w+) + map(x-, w-); R- over the negative ones,
    z = map(x-, w+) + map(x+, w-). The bias takes no part. `nonnegative` says that x >= 0, which halves the work and
    changes nothing.
    """
    return alpha_beta(linear, x, kernel, bias, output, relevance, alpha=1.0 + beta, beta=beta, nonnegative=nonnegative)


def alpha_beta(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    nonnegative: bool = False,
) -> tuple[jax.Array, Lost]:
    """Alpha-beta rule R_in = alpha R+ - beta R-, see `beta`; alpha - beta = 1 conserves relevance."""
    for_it, lost = _positive_share(linear, x, kernel, relevance, nonnegative)
    if beta == 0:
        return (for_it, lost) if alpha == 1 else (alpha * for_it, _scale(alpha, lost))
    against, lost_too = redistribute(linear, _negative_parts(x, kernel, nonnegative), relevance, Stabilizer(-AT_ZERO))
    return alpha * for_it - beta * against, _add(_scale(alpha, lost), _scale(-beta, lost_too))


def beta_adaptive(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    beta_max: float = BETA_MAX,
    nonnegative: bool = False,
) -> tuple[jax.Array, Lost]:
    """Beta rule with its own beta for every output: min(-Z- / y, beta_max) where the output y > 0, else 0.

    Z- = map(x-, w+) + map(x+, w-), the sum of the negative contributions, without bias; y has the bias.
    """
    parts = _negative_parts(x, kernel, nonnegative)
    z = sum(widened(linear(x, kernel)) for x, kernel in parts)
    output, relevance = widened(output), widened(relevance)
    active = output > 0
    factor = jnp.where(active, jnp.minimum(-z / jnp.where(active, output, 1), beta_max), 0)
    for_it, lost = _positive_share(linear, x, kernel, relevance * (1 + factor), nonnegative)
    against, lost_too = redistribute(linear, parts, relevance * factor, Stabilizer(AT_ZERO), output=z)
    return for_it - against, _add(lost, _scale(-1.0, lost_too))


def zb(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    low: float | tuple[float, ...],
    high: float | tuple[float, ...],
    epsilon: float = EPSILON,
) -> tuple[jax.Array, Lost]:
    """zB rule for inputs in the box low <= x <= high (scalars, or one number for each input channel).

    z = map(x, w) - map(L, w+) - map(H, w-), R_in = x * transpose(S, w) - L * transpose(S, w+) - H * transpose(S, w-);
    L and H are images of the constants, zero-padded like x. They are one map here: of ones with L w+ + H w-.
    """
    box = _bound(low, x, kernel) * positive(kernel) + _bound(high, x, kernel) * negative(kernel)
    parts = ((x, kernel), (-jnp.ones_like(x[:1]), box))
    return redistribute(linear, parts, relevance, Stabilizer(epsilon, epsilon))


def gamma(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
    *,
    gamma: float = 0.25,
    epsilon: float = EPSILON,
    nonnegative: bool = False,
) -> tuple[jax.Array, Lost]:
    """Gamma rule: positive contributions count 1 + gamma times, in the numerator and (with the bias's) the denominator.

    For x >= 0 that is w -> w + gamma w+; where x < 0, w + gamma w-.
    """
    bias = None if bias is None else bias + gamma * positive(bias)
    parts = ((x, kernel + gamma * positive(kernel)),)
    if not nonnegative:
        parts = (
            (positive(x), kernel + gamma * positive(kernel)),
            (negative(x), kernel + gamma * negative(kernel)),
        )
    return redistribute(linear, parts, relevance, Stabilizer(epsilon, epsilon), bias=bias)


def w2(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
) -> tuple[jax.Array, Lost]:
    """w2 rule: shares w^2 / sum w^2, whatever the input."""
    return redistribute(linear, ((jnp.ones_like(x[:1]), kernel**2),), relevance, Stabilizer())


def flat(
    linear: Any,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    output: jax.Array,
    relevance: jax.Array,
) -> tuple[jax.Array, Lost]:
    """Flat rule: every input of an output gets an equal share."""
    return redistribute(linear, ((jnp.ones_like(x[:1]), jnp.ones_like(kernel)),), relevance, Stabilizer())


def sum_epsilon(
    a: jax.Array, b: jax.Array, relevance: jax.Array, *, epsilon: float = EPSILON
) -> tuple[jax.Array, jax.Array, Lost]:
    """Epsilon rule of a residual sum z = a + b: S = R / (z + epsilon * sign(z)), R_a = a * S, R_b = b * S."""
    a, b, relevance = widened(a), widened(b), widened(relevance)
    z = a + b
    denominator = Stabilizer(epsilon, epsilon)(z)
    s = relevance / denominator
    zero = z == 0
    lost = nothing_lost(relevance)._replace(
        stabilizer=per_image(jnp.where(zero, 0, s * (denominator - z))),
        zero=per_image(jnp.where(zero, relevance, 0)),
    )
    return a * s, b * s, lost


def _positive_share(
    linear: Any, x: jax.Array, kernel: jax.Array, relevance: jax.Array, nonnegative: bool
) -> tuple[jax.Array, Lost]:
    if nonnegative:
        return redistribute(linear, ((x, positive(kernel)),), relevance, Stabilizer(AT_ZERO))
    parts = ((positive(x), positive(kernel)), (negative(x), negative(kernel)))
    return redistribute(linear, parts, relevance, Stabilizer(AT_ZERO), output=linear.positive(x, kernel))


def _negative_parts(x: jax.Array, kernel: jax.Array, nonnegative: bool) -> tuple[tuple[jax.Array, jax.Array], ...]:
    if nonnegative:
        return ((x, negative(kernel)),)
    return ((negative(x), positive(kernel)), (positive(x), negative(kernel)))


def _bound(bound: float | tuple[float, ...], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The bound of the input channel that each entry of a kernel (..., inputs of a group, outputs) meets."""
    channels, per_group, outputs = x.shape[-1], *kernel.shape[-2:]
    values = jnp.broadcast_to(jnp.asarray(bound, kernel.dtype), (channels,)).reshape(-1, per_group)
    return jnp.repeat(values, outputs // len(values), axis=0).T


def _scale(factor: float, lost: Lost) -> Lost:
    return Lost(*(factor * part for part in lost))


def _add(a: Lost, b: Lost) -> Lost:
    return Lost(*(p + q for p, q in zip(a, b, strict=True)))

"""The rules of layer-wise relevance propagation, as functions of arrays.

Every rule is the same generic step (`redistribute`) on modified inputs and kernels: with z = map(x', w'),

    S = R / stabilize(z)        R_in = x' * transpose(S, w')

so input i gets from output j the share x'_i w'_ij / z_j. A rule takes a `Linear`, the layer as it was computed, the
relevance at its output, and constants; it returns the relevance at the input and what got lost on the way (`Lost`).
x+ = max(x, 0), x- = min(x, 0).

Sources: Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2017 and 2019 (z+, zB, w2, flat, gamma);
Chandrasegaran et al. 2022 for the constants. The bias takes part in the denominators of `epsilon` and `gamma` only: it
keeps its share.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from tffjax.kernels.precision import widened

AT_ZERO = 1e-12
EPSILON = 1e-6
BETA_MAX = 4.5
GAMMA = 0.25

_Function = TypeVar("_Function", bound=Callable[..., Any])


class LinearMap:
    """The linear map of a layer (`tffjax.lrp.linear`); your own inherits from it and has the first two methods."""

    def __call__(self, x: jax.Array, kernel: Any) -> jax.Array:
        """map(x, kernel), exactly zero where all contributions are: the denominators."""
        raise NotImplementedError

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        """For each kernel, the gradient of sum(s * map(x, kernel)) with respect to an x of the shape of `like`.

        The batch size of `like` may be 1.
        """
        raise NotImplementedError

    def values(self, x: jax.Array, kernel: Any, transformed: Any) -> jax.Array:
        """The values of the layer: the map as fast as possible. `transformed` is `transform(kernel)` or None."""
        return self(x, kernel)

    def transform(self, kernel: Any) -> Any:
        """What `values` takes beside the kernel and is known before x is; None if nothing."""

    def prepare(self, kernel: Any) -> Any:
        """A kernel as the map and its transposes take it fastest; they take kernels as they are, too."""
        return kernel

    def positive(self, x: jax.Array, kernel: Any, up: Any, down: Any) -> jax.Array:
        """The sum of the positive contributions, map(x+, up) + map(x-, down); up is w+, down is w-, prepared."""
        return widened(self(positive(x), up)) + widened(self(negative(x), down))


class Linear(NamedTuple):
    """A linear layer as it was computed; some of its arrays may be bfloat16.

    Attributes:
        map: its linear map.
        x: its input.
        kernel, bias: its parameters, None where it has none.
        output: map(x, kernel) + bias.
        nonnegative: x is known to be >= 0, which halves the work of some rules and changes nothing.
        kernels: what the rule makes of the kernel (see `for_kinds`), prepared for the map; None before that.
    """

    map: LinearMap
    x: jax.Array | None
    kernel: Any = None
    bias: jax.Array | None = None
    output: jax.Array | None = None
    nonnegative: bool = False
    kernels: tuple[Any, ...] | None = None


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


def for_kinds(
    *kinds: str, prepare: Callable[..., tuple[Any, ...]] = lambda layer, **constants: ()
) -> Callable[[_Function], _Function]:
    """Declare what a composite has to know of a rule.

    Args:
        kinds: the kinds of layers that it is for (see `tffjax.nn.graph.Layer`).
        prepare: what it makes of the weights, once a model: a function of a `Linear` without input and output, and of
            the rule's constants, to a tuple of kernels. `Linear.kernels` holds them when the rule is called.
    """

    def declare(function: _Function) -> _Function:
        function.kinds, function.prepare = kinds, prepare
        return function

    return declare


def kinds_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The kinds of layers that a rule is for; one that does not say is for layers with a kernel."""
    return getattr(function, "kinds", ("conv", "dense"))


def per_image(relevance: jax.Array) -> jax.Array:
    """Sum over all axes but the first."""
    return jnp.sum(widened(relevance), axis=tuple(range(1, relevance.ndim)))


def redistribute(
    layer: Linear,
    parts: tuple[tuple[jax.Array, Any], ...],
    relevance: jax.Array,
    stabilizer: Stabilizer = Stabilizer(),
    *,
    bias: jax.Array | None = None,
    output: jax.Array | None = None,
) -> tuple[jax.Array, Lost]:
    """The generic step: R_in = sum_k x_k * transpose(S, w_k), S = R / stabilizer(sum_k map(x_k, w_k) + bias).

    Args:
        layer: whose map it is.
        parts: modified inputs and kernels (x_k, w_k); an input of batch size 1 stands for every image.
        relevance: R, at the outputs.
        stabilizer: of the denominator.
        bias: takes its share of the relevance; broadcasts against the outputs.
        output: the denominator before the stabilizer, where it is known already.
    """
    z = output
    if z is None:
        z = sum(widened(layer.map(x, kernel)) for x, kernel in parts)
        z = z if bias is None else z + bias
    relevance, z = widened(relevance), widened(z)
    denominator = stabilizer(z)
    s = relevance / denominator
    if not stabilizer.epsilon:
        # All contributions are zero where z is, since they have one sign. So is what they hand on; but 1e12 R beside
        # other numbers would be felt by convolutions that are not summed term by term.
        s = jnp.where(z == 0, 0, s)
    shares = layer.map.transposes(s, [kernel for _, kernel in parts], parts[0][0])
    received = sum(widened(x) * widened(share) for (x, _), share in zip(parts, shares, strict=True))
    return received, _lost(relevance, s, z, denominator, bias)


def positive(x: jax.Array) -> jax.Array:
    """x+ = max(x, 0)."""
    return jnp.maximum(x, 0)


def negative(x: jax.Array) -> jax.Array:
    """x- = min(x, 0)."""
    return jnp.minimum(x, 0)


def _unchanged(layer: Linear, **constants: Any) -> tuple[Any, ...]:
    return (layer.kernel,)


def _by_sign(layer: Linear, *, beta: float = 1.0, **constants: Any) -> tuple[jax.Array, ...]:
    """w+ and w-; w+ alone where nothing else is needed."""
    up = positive(layer.kernel)
    return (up,) if layer.nonnegative and beta == 0 else (up, negative(layer.kernel))


@for_kinds("conv", "dense", "average_pool", "add", prepare=_unchanged)
def epsilon(layer: Linear, relevance: jax.Array, *, epsilon: float = EPSILON) -> tuple[jax.Array, Lost]:
    """Epsilon rule: z = map(x, w) + bias, S = R / (z + epsilon * sign(z)), R_in = x * transpose(S, w)."""
    parts = ((layer.x, *layer.kernels),)
    return redistribute(layer, parts, relevance, Stabilizer(epsilon, epsilon), bias=layer.bias, output=layer.output)


@for_kinds("conv", "dense", prepare=_by_sign)
def beta(layer: Linear, relevance: jax.Array, *, beta: float = 0.0) -> tuple[jax.Array, Lost]:
    """Beta rule R_in = (1 + beta) R+ - beta R-: z+ for beta = 0, alpha-beta with alpha = 1 + beta otherwise.

    R+ shares out over the positive contributions, z = map(x+, w+) + map(x-, w-); R- over the negative ones,
    z = map(x-, w+) + map(x+, w-). The bias takes no part.
    """
    return alpha_beta(layer, relevance, alpha=1.0 + beta, beta=beta)


@for_kinds("conv", "dense", prepare=_by_sign)
def alpha_beta(layer: Linear, relevance: jax.Array, *, alpha: float = 2.0, beta: float = 1.0) -> tuple[jax.Array, Lost]:
    """Alpha-beta rule R_in = alpha R+ - beta R-, see `beta`; alpha - beta = 1 conserves relevance."""
    for_it = _positive_share(layer, relevance)
    if beta == 0:
        return _combined((alpha, for_it))
    against = redistribute(layer, _negative_parts(layer), relevance, Stabilizer(-AT_ZERO))
    return _combined((alpha, for_it), (-beta, against))


@for_kinds("conv", "dense", prepare=_by_sign)
def beta_adaptive(layer: Linear, relevance: jax.Array, *, beta_max: float = BETA_MAX) -> tuple[jax.Array, Lost]:
    """Beta rule with its own beta for every output: min(-Z- / y, beta_max) where the output y > 0, else 0.

    Z- = map(x-, w+) + map(x+, w-), the sum of the negative contributions, without bias; y has the bias.
    """
    parts, relevance, y = _negative_parts(layer), widened(relevance), widened(layer.output)
    z = sum(widened(layer.map(x, kernel)) for x, kernel in parts)
    beta = jnp.where(y > 0, jnp.minimum(-z / jnp.where(y > 0, y, 1), beta_max), 0)
    against = redistribute(layer, parts, relevance * beta, output=z)
    return _combined((1.0, _positive_share(layer, relevance * (1 + beta))), (-1.0, against))


def _box(layer: Linear, *, low: Any, high: Any, **constants: Any) -> tuple[jax.Array, jax.Array]:
    w = layer.kernel
    return w, _bound(low, w) * positive(w) + _bound(high, w) * negative(w)


@for_kinds("conv", "dense", prepare=_box)
def zb(
    layer: Linear,
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
    w, box = layer.kernels
    parts = ((layer.x, w), (-jnp.ones_like(layer.x[:1]), box))
    return redistribute(layer, parts, relevance, Stabilizer(epsilon, epsilon))


def _favored(layer: Linear, *, gamma: float = GAMMA, **constants: Any) -> tuple[jax.Array, ...]:
    up, down = (layer.kernel + gamma * part(layer.kernel) for part in (positive, negative))
    return (up,) if layer.nonnegative else (up, down)


@for_kinds("conv", "dense", prepare=_favored)
def gamma(
    layer: Linear, relevance: jax.Array, *, gamma: float = GAMMA, epsilon: float = EPSILON
) -> tuple[jax.Array, Lost]:
    """Gamma rule: positive contributions count 1 + gamma times, in the numerator and (with the bias's) the denominator.

    For x >= 0 that is w -> w + gamma w+; where x < 0, w + gamma w-.
    """
    bias = None if layer.bias is None else layer.bias + gamma * positive(layer.bias)
    inputs = (layer.x,) if layer.nonnegative else (positive(layer.x), negative(layer.x))
    parts = tuple(zip(inputs, layer.kernels, strict=True))
    return redistribute(layer, parts, relevance, Stabilizer(epsilon, epsilon), bias=bias)


@for_kinds("conv", "dense", prepare=lambda layer: (layer.kernel**2,))
def w2(layer: Linear, relevance: jax.Array) -> tuple[jax.Array, Lost]:
    """w2 rule: shares w^2 / sum w^2, whatever the input."""
    return redistribute(layer, ((jnp.ones_like(layer.x[:1]), *layer.kernels),), relevance)


@for_kinds("conv", "dense", prepare=lambda layer: (jnp.ones_like(layer.kernel),))
def flat(layer: Linear, relevance: jax.Array) -> tuple[jax.Array, Lost]:
    """Flat rule: every input of an output gets an equal share."""
    return redistribute(layer, ((jnp.ones_like(layer.x[:1]), *layer.kernels),), relevance)


@for_kinds("add")
def sum_epsilon(
    a: jax.Array, b: jax.Array, relevance: jax.Array, *, epsilon: float = EPSILON
) -> tuple[jax.Array, jax.Array, Lost]:
    """Epsilon rule of a residual sum z = a + b: S = R / (z + epsilon * sign(z)), R_a = a * S, R_b = b * S.

    It is what `epsilon` means there.
    """
    a, b, relevance = widened(a), widened(b), widened(relevance)
    z = a + b
    denominator = Stabilizer(epsilon, epsilon)(z)
    s = relevance / denominator
    return a * s, b * s, _lost(relevance, s, z, denominator)


def _positive_share(layer: Linear, relevance: jax.Array) -> tuple[jax.Array, Lost]:
    """R+, see `beta`."""
    x, up = layer.x, layer.kernels[0]
    if layer.nonnegative:
        return redistribute(layer, ((x, up),), relevance)
    parts = ((positive(x), up), (negative(x), layer.kernels[1]))
    return redistribute(layer, parts, relevance, output=layer.map.positive(x, layer.kernel, *layer.kernels))


def _negative_parts(layer: Linear) -> tuple[tuple[jax.Array, Any], ...]:
    x, (up, down) = layer.x, layer.kernels
    return ((x, down),) if layer.nonnegative else ((negative(x), up), (positive(x), down))


def _bound(bound: float | tuple[float, ...], kernel: jax.Array) -> jax.Array:
    """The bound of the input channel that each entry of a kernel (..., inputs of a group, outputs) meets."""
    per_group, outputs = kernel.shape[-2:]
    values = jnp.asarray(bound, kernel.dtype).reshape(-1, per_group if isinstance(bound, tuple) else 1)
    return jnp.repeat(jnp.broadcast_to(values, (len(values), per_group)), outputs // len(values), axis=0).T


def _lost(
    relevance: jax.Array, s: jax.Array, z: jax.Array, denominator: jax.Array, bias: jax.Array | None = None
) -> Lost:
    """Unless somebody asks for these sums, XLA drops them."""
    return Lost(
        bias=jnp.zeros(relevance.shape[0], s.dtype) if bias is None else per_image(s * bias),
        stabilizer=per_image(jnp.where(z == 0, 0, s * (denominator - z))),
        zero=per_image(jnp.where(z == 0, relevance, 0)),
    )


def _combined(*terms: tuple[float, tuple[jax.Array, Lost]]) -> tuple[jax.Array, Lost]:
    """A weighted sum of what rules return."""
    received = sum(x if factor == 1 else factor * x for factor, (x, _) in terms)
    return received, Lost(*(sum(f * part for (f, _), part in zip(terms, parts, strict=True))
                            for parts in zip(*(lost for _, (_, lost) in terms), strict=True)))  # fmt: skip

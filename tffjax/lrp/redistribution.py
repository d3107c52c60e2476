"""The generic step of layer-wise relevance propagation: a linear layer hands relevance from its outputs to its inputs.

With z = map(x', w') of modified inputs and kernels,

    S = R / stabilize(z)        R_in = x' * transpose(S, w')

so input i gets from output j the share x'_i w'_ij / z_j. The rules (`tffjax.lrp.rules`) say what x' and w' are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from tffjax.kernels.precision import widened

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
        kernels: what the rule makes of the weights (see `for_kinds`), prepared for the map; None before that.
    """

    map: LinearMap
    x: jax.Array | None
    kernel: Any = None
    bias: jax.Array | None = None
    output: jax.Array | None = None
    nonnegative: bool = False
    kernels: tuple[Any, ...] | None = None


class Stabilizer(NamedTuple):
    """Keeps a denominator from vanishing: z + at_zero * [z == 0] + epsilon * sign(z), with sign(0) = 0.

    With at_zero = 0, an output whose z is zero hands nothing on. Contributions of one sign are all zero there.
    """

    at_zero: float = 0.0
    epsilon: float = 0.0

    def __call__(self, z: jax.Array) -> jax.Array:
        """The stabilized denominator; 1 where it would be zero."""
        if self.epsilon:
            z = z + self.epsilon * jnp.sign(z)
        return jnp.where(z == 0, jnp.asarray(self.at_zero or 1, z.dtype), z)

    def share(self, relevance: jax.Array, z: jax.Array) -> jax.Array:
        """S = R / z, stabilized; 0 where z = 0 and at_zero = 0."""
        s = relevance / self(z)
        # Dividing by something tiny instead, and multiplying by contributions that are zero, would be felt by
        # convolutions that are not summed term by term.
        return s if self.at_zero else jnp.where(z == 0, 0, s)


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
    *kinds: str,
    prepare: Callable[..., tuple[Any, ...]] = lambda layer, **constants: (),
    check: Callable[..., None] = lambda **constants: None,
) -> Callable[[_Function], _Function]:
    """Declare what a composite has to know of a rule.

    Args:
        kinds: the kinds of layers that it is for (see `tffjax.nn.graph.Layer`).
        prepare: what it makes of the weights, once a model: a function of a `Linear` without input and output, and of
            the rule's constants, to a tuple of kernels, biases and Nones. `Linear.kernels` holds them when the rule is
            called.
        check: raises an `InputError` for constants, of those given, that make no sense.
    """

    def declare(function: _Function) -> _Function:
        function.kinds, function.prepare, function.check = kinds, prepare, check
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
        output: the denominator with bias, before the stabilizer, where it is known already.
    """
    z = output
    if z is None:
        z = sum(widened(layer.map(x, kernel)) for x, kernel in parts)
        z = z if bias is None else z + bias
    relevance, z = widened(relevance), widened(z)
    s = stabilizer.share(relevance, z)
    shares = layer.map.transposes(s, [kernel for _, kernel in parts], parts[0][0])
    received = sum(widened(x) * widened(share) for (x, _), share in zip(parts, shares, strict=True))
    return received, losses(relevance, s, z, stabilizer, bias)


def positive(x: jax.Array) -> jax.Array:
    """x+ = max(x, 0)."""
    return jnp.maximum(x, 0)


def negative(x: jax.Array) -> jax.Array:
    """x- = min(x, 0)."""
    return jnp.minimum(x, 0)


def losses(
    relevance: jax.Array, s: jax.Array, z: jax.Array, stabilizer: Stabilizer, bias: jax.Array | None = None
) -> Lost:
    """What got lost of R, with S as in `redistribute`. Unless somebody asks for these sums, XLA drops them."""
    return Lost(
        bias=jnp.zeros(relevance.shape[0], s.dtype) if bias is None else per_image(s * bias),
        stabilizer=per_image(jnp.where(z == 0, 0, s * (stabilizer(z) - z))),
        zero=per_image(jnp.where(z == 0, relevance, 0)),
    )

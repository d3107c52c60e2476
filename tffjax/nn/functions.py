"""Activations and normalizations as functions of arrays, for `Plain.activation` and the norms of `tffjax.nn.ops`.

JAX's own functions are activations, too (`jnp.tanh`, `jax.nn.softplus`). Here is what networks of ours use, and what
JAX has with another default.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0)."""
    return jnp.maximum(x, 0)


def leaky_relu(x: jax.Array, slope: float) -> jax.Array:
    """x where x >= 0, slope * x elsewhere."""
    return jnp.where(x >= 0, x, slope * x)


def silu(x: jax.Array) -> jax.Array:
    """x * sigmoid(x)."""
    return x * jax.nn.sigmoid(x)


def gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x), Phi the normal distribution function: PyTorch's default, while JAX's is an approximation."""
    return jax.nn.gelu(x, approximate=False)


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x)


NONNEGATIVE = frozenset(
    {relu, sigmoid, jax.nn.relu, jax.nn.relu6, jax.nn.sigmoid, jax.nn.softplus, jax.nn.softmax, jnp.abs, jnp.square}
)
"""Activations that are never negative: behind them, half of the z+ rule is multiplied by zero."""


def pixel_norm(x: Float[Array, "*n c"], epsilon: float) -> Float[Array, "*n c"]:
    """x / sqrt(mean(x^2) + epsilon), the mean over the channels (Karras et al. 2018)."""
    return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)


def layer_norm(x: Float[Array, "*n c"], epsilon: float) -> Float[Array, "*n c"]:
    """(x - mean) / sqrt(var + epsilon), both over the channels (Ba et al. 2016)."""
    return _standardized(x, (-1,), epsilon)


def group_norm(x: Float[Array, "n h w c"], groups: int, epsilon: float) -> Float[Array, "n h w c"]:
    """(x - mean) / sqrt(var + epsilon), both over positions and a group of adjacent channels (Wu and He 2018)."""
    n, h, w, c = x.shape
    return _standardized(x.reshape(n, h, w, groups, c // groups), (1, 2, 4), epsilon).reshape(x.shape)


def _standardized(x: jax.Array, axes: tuple[int, ...], epsilon: float) -> jax.Array:
    centered = x - jnp.mean(x, axis=axes, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(jnp.square(centered), axis=axes, keepdims=True) + epsilon)

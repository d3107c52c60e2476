"""Gradient explanations to compare LRP with: SmoothGrad and integrated gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tffjax.compile.passes import Pass
from tffjax.errors import InputError
from tffjax.lrp.explain import check_types
from tffjax.lrp.targets import Target, resolve_target, start_relevance
from tffjax.nn.model import Model


def smooth_grad(
    model: Model,
    images: Float[Array, "n h w c"],
    target: Target = "top",
    *,
    samples: int = 16,
    noise: float = 0.15,
    seed: int = 0,
) -> Float[Array, "n h w c"]:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient at noisy copies of an image.

        mean over k of d f(x + e_k) / dx,   e_k normal with deviation noise * (max x - min x)

    Args:
        model, images, target: as for `tffjax.relevance`, but no `Neuron`; `top` is the largest output of each copy.
        samples: number of copies.
        noise: in units of the range of each image.
        seed: of the noise.

    Raises:
        InputError: as `tffjax.relevance`; no samples.
    """
    if samples < 1:
        raise InputError(f"SmoothGrad needs at least 1 sample, got {samples}")
    check_types(model, images)
    target, word = resolve_target(target, model, images)
    return _smooth_grad(model, images, target, noise, jax.random.key(seed), word=word, samples=samples)


def integrated_gradients(
    model: Model,
    images: Float[Array, "n h w c"],
    target: Target = "logit",
    *,
    baseline: Float[Array, "*#n #h #w c"] | float = 0.0,
    steps: int = 32,
) -> Float[Array, "n h w c"]:
    """Integrated gradients (Sundararajan et al. 2017), by the midpoint rule.

        (x - b) * mean over k of d f(b + (k + 1/2) / steps * (x - b)) / dx

    The sum over an image is close to f(x) - f(b).

    Args:
        model, images, target: as for `tffjax.relevance`, but no `Neuron` and not `top`, which may change on the way.
        baseline: b, that broadcasts against the images; 0 is the mean color of the normalization.
        steps: number of gradients.

    Raises:
        InputError: as `tffjax.relevance`; no steps, the target `top`.
    """
    if steps < 1:
        raise InputError(f"integrated gradients need at least 1 step, got {steps}")
    if isinstance(target, str) and target == "top":
        raise InputError("the largest output may change on the way from the baseline: give an output index")
    check_types(model, images)
    target, word = resolve_target(target, model, images)
    return _integrated(model, images, target, jnp.asarray(baseline, images.dtype), word=word, steps=steps)


def _gradient(model: Model, images: jax.Array, target: jax.Array | None, word: str) -> jax.Array:
    logits, pullback = jax.vjp(model, images)
    return pullback(start_relevance(logits, target, word))[0]


@functools.partial(Pass, static_argnames=("word", "samples"))
def _smooth_grad(
    model: Model, images: jax.Array, target: jax.Array | None, noise: Any, key: jax.Array, word: str, samples: int
) -> jax.Array:
    axes = (1, 2, 3)
    size = noise * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))

    def one(key: jax.Array) -> jax.Array:
        noisy = images + size * jax.random.normal(key, images.shape, images.dtype)
        return _gradient(model, noisy, target, word)

    return jax.lax.map(one, jax.random.split(key, samples)).mean(axis=0)


@functools.partial(Pass, static_argnames=("word", "steps"))
def _integrated(
    model: Model, images: jax.Array, target: jax.Array | None, baseline: jax.Array, word: str, steps: int
) -> jax.Array:
    def one(part: jax.Array) -> jax.Array:
        return _gradient(model, baseline + part * (images - baseline), target, word)

    parts = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps
    return (images - baseline) * jax.lax.map(one, parts).mean(axis=0)

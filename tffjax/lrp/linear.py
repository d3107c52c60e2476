"""Linear maps of layers, each with its transpose: what the rules redistribute relevance over.

A map knows nothing of biases; its kernel is None where it has none. Maps are hashable and hold no arrays, `Inside`
excepted. `tffjax.lrp.rules.LinearMap` says what each has.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tffjax.kernels import convolution, transpose, winograd
from tffjax.kernels.choice import Kernels, kernels_of
from tffjax.kernels.convolution import Geometry
from tffjax.kernels.pooling import average_pool
from tffjax.kernels.precision import dense_precision, factor, widened
from tffjax.kernels.upsampling import bilinear
from tffjax.lrp.redistribution import LinearMap, positive


class PreparedKernel(NamedTuple):
    """A kernel of a convolution, and the transform of it that the transpose takes, if it takes one."""

    kernel: jax.Array
    transposed: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Conv(LinearMap):
    """Convolution, (n, h, w, i) to (n, oh, ow, o), kernel HWIO."""

    geometry: Geometry
    precision: str = "float32"
    kernels: Kernels | None = None

    def __call__(self, x: jax.Array, kernel: Any) -> jax.Array:
        """The convolution."""
        return convolution.conv(x, _unprepared(kernel), self.geometry, self.precision, self.kernels)

    def values(self, x: jax.Array, kernel: jax.Array, transformed: jax.Array | None = None) -> jax.Array:
        """The convolution, zeros up to rounding; see `tffjax.kernels.winograd.conv`."""
        return winograd.conv(x, kernel, self.geometry, self.precision, self.kernels, transformed)

    def transform(self, kernel: jax.Array) -> jax.Array | None:
        """What `values` takes beside the kernel; None if nothing."""
        suits = winograd.suits(kernel, self.geometry, self.precision, self.kernels or kernels_of())
        return winograd.transform(kernel) if suits else None

    def prepare(self, kernel: jax.Array) -> PreparedKernel:
        """The kernel as the map and its transpose take it."""
        kernel = factor(kernel, self.precision)
        kernels = self.kernels or kernels_of()
        return PreparedKernel(kernel, transpose.transform(kernel, self.geometry, self.precision, kernels))

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        """(n, oh, ow, o) to (n, h, w, i) for each kernel."""
        plain, how = [_unprepared(kernel) for kernel in kernels], (self.geometry, like.shape[1:3], self.precision)
        narrow = self.geometry.groups == 1 and plain[0].shape[2] <= transpose.FEW_CHANNELS
        if len(kernels) > 1 and narrow and self.geometry.stride != (1, 1):
            stacked = transpose.conv_transpose(s, jnp.concatenate(plain, axis=2), *how, self.kernels)
            return jnp.split(stacked, len(kernels), axis=3)
        transformed = [getattr(kernel, "transposed", None) for kernel in kernels]
        return [
            transpose.conv_transpose(s, kernel, *how, self.kernels, known)
            for kernel, known in zip(plain, transformed, strict=True)
        ]

    def positive(self, x: jax.Array, kernel: jax.Array, up: Any, down: Any) -> jax.Array:
        """Sum of the positive contributions."""
        kernels = self.kernels or kernels_of()
        if convolution.by_shifts(x.shape[-1], kernel, self.geometry, kernels):
            return convolution.conv(x, kernel, self.geometry, self.precision, kernels, contribution=positive)
        return super().positive(x, kernel, up, down)


@dataclasses.dataclass(frozen=True)
class ConvTranspose(LinearMap):
    """Transposed convolution, (n, h, w, i) to (n, oh, ow, o), kernel HWIO (`tffjax.kernels.transpose`)."""

    geometry: Geometry
    precision: str = "float32"
    kernels: Kernels | None = None

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The transposed convolution."""
        return transpose.transposed_conv(x, kernel, self.geometry, self.precision, self.kernels, exact=True)

    def values(self, x: jax.Array, kernel: jax.Array, transformed: None = None) -> jax.Array:
        """The same, zeros up to rounding."""
        return transpose.transposed_conv(x, kernel, self.geometry, self.precision, self.kernels)

    def prepare(self, kernel: jax.Array) -> jax.Array:
        """The kernel in the type of products."""
        return factor(kernel, self.precision)

    def transposes(self, s: jax.Array, kernels: list[jax.Array], like: jax.Array) -> list[jax.Array]:
        """(n, oh, ow, o) to (n, h, w, i) for each kernel: a convolution."""
        swapped = (transpose.swap_channels(kernel, self.geometry.groups) for kernel in kernels)
        return [convolution.fast(s, kernel, self.geometry, self.precision, self.kernels) for kernel in swapped]


@dataclasses.dataclass(frozen=True)
class Dense(LinearMap):
    """Matrix product, (n, i) to (n, o)."""

    precision: str = "float32"

    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The product with a kernel (i, o)."""
        return jnp.dot(x, kernel, precision=dense_precision(self.precision))

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        """(n, o) to (n, i) for each kernel."""
        return [jnp.dot(s, kernel.T, precision=dense_precision(self.precision)) for kernel in kernels]


@dataclasses.dataclass(frozen=True)
class AveragePool(LinearMap):
    """Average over windows, side by side without a geometry; over the image (to (n, c)) where `window` is None."""

    window: tuple[int, int] | None = None
    geometry: Geometry | None = None
    count_padding: bool = False

    def __call__(self, x: jax.Array, kernel: None) -> jax.Array:
        """The averages of x, (n, h, w, c)."""
        if self.window is None:
            return jnp.mean(widened(x), axis=(1, 2))
        return average_pool(x, self.window, self.geometry, self.count_padding)

    def transposes(self, s: jax.Array, kernels: list[None], like: jax.Array) -> list[jax.Array]:
        """Every input of a window gets an equal share."""
        _, h, w, _ = like.shape
        wv, wh = self.window or (h, w)
        if self.window and self.geometry not in (None, Geometry(self.window)):
            return _transposes(functools.partial(self, kernel=None), s, like) * len(kernels)
        share = s.reshape(s.shape[0], h // wv, w // wh, s.shape[-1]) / (wv * wh)
        x = jnp.repeat(jnp.repeat(share, wv, axis=1), wh, axis=2)
        x = jnp.pad(x, ((0, 0), (0, h % wv), (0, w % wh), (0, 0)))
        return [x] * len(kernels)


@dataclasses.dataclass(frozen=True)
class Bilinear(LinearMap):
    """Bilinear up-sampling, (n, h, w, c) to (n, oh, ow, c)."""

    factor: tuple[int, int]

    def __call__(self, x: jax.Array, kernel: None) -> jax.Array:
        """x up-sampled."""
        return bilinear(x, self.factor)

    def transposes(self, s: jax.Array, kernels: list[None], like: jax.Array) -> list[jax.Array]:
        """Every output gives each of its pixels what it weighs."""
        return _transposes(functools.partial(self, kernel=None), s, like) * len(kernels)


class Inside(LinearMap):
    """A map of images that end where `inside` says (also those that a rule makes up, such as zB's box).

    Values are exact, too: they may be denominators.
    """

    def __init__(self, linear: LinearMap, inside: jax.Array) -> None:
        self.linear, self.inside = linear, inside

    def __call__(self, x: jax.Array, kernel: Any) -> jax.Array:
        """The map of what is inside."""
        return self.linear(jnp.where(self.inside, x, 0), kernel)

    def prepare(self, kernel: Any) -> Any:
        """As the map does."""
        return self.linear.prepare(kernel)

    def transposes(self, s: jax.Array, kernels: list[Any], like: jax.Array) -> list[jax.Array]:
        """What is outside gets nothing."""
        return [jnp.where(self.inside, x, 0) for x in self.linear.transposes(s, kernels, like)]

    def positive(self, x: jax.Array, kernel: Any, up: Any, down: Any) -> jax.Array:
        """Sum of the positive contributions of what is inside."""
        return self.linear.positive(jnp.where(self.inside, x, 0), kernel, up, down)


def _transposes(linear: Callable[[jax.Array], jax.Array], s: jax.Array, like: jax.Array) -> list[jax.Array]:
    """The transpose by JAX, as a list of one."""
    zeros = convolution.zeros_varying_like(s, (len(s), *like.shape[1:]))
    return list(jax.linear_transpose(linear, zeros)(s))


def _unprepared(kernel: Any) -> jax.Array:
    return kernel.kernel if isinstance(kernel, PreparedKernel) else kernel

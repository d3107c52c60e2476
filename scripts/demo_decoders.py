"""Small convolutional autoencoders that redraw photographs: the generators of the demonstration's fake images.

All share one form, code = encoder(image), fake = decoder(code), with a code at a quarter of the image's width and
height. They differ in one thing, how the decoder makes a map twice as wide and high:

    transposed  zeros between the pixels, then a 4x4 convolution (that is a transposed convolution of stride 2)
    nearest     every pixel repeated, then a 3x3 convolution
    bilinear    bilinear interpolation, then a 3x3 convolution
    shuffle     a 3x3 convolution to four times the channels, then pixel shuffle

Images are float32, NHWC, in [0, 1].
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

KINDS = ("transposed", "nearest", "bilinear", "shuffle")
TRAINED_ON = "nearest"
"""The kind whose fakes the detector is trained on; it never sees those of the others."""

PATCH = 48
BATCH = 8
DETAIL_WEIGHT = 2.0


class Up(nn.Module):
    """Twice the width and height, `features` channels, in one of the four `KINDS`."""

    kind: str
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w features"]:
        """Up-sample and convolve."""
        n, h, w, c = x.shape
        if self.kind == "transposed":
            spread = jnp.zeros((n, h, 2, w, 2, c), x.dtype).at[:, :, 0, :, 0].set(x).reshape(n, 2 * h, 2 * w, c)
            return nn.Conv(self.features, (4, 4))(spread)
        if self.kind == "nearest":
            return nn.Conv(self.features, (3, 3))(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))
        if self.kind == "bilinear":
            return nn.Conv(self.features, (3, 3))(jax.image.resize(x, (n, 2 * h, 2 * w, c), "bilinear"))
        return depth_to_space(nn.Conv(4 * self.features, (3, 3))(x), 2)


class Autoencoder(nn.Module):
    """Encoder to a code of `code` channels at a quarter of the size, and a decoder of the given kind."""

    kind: str
    code: int = 24

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """Redraw images; height and width must be multiples of 4. The output may leave [0, 1]."""
        x = nn.Conv(self.code, (1, 1))(space_to_depth(images - 0.5, 4))
        x = nn.leaky_relu(nn.Conv(48, (3, 3))(x), 0.2)
        x = nn.leaky_relu(Up(self.kind, 32)(x), 0.2)
        return Up(self.kind, 3)(x) + 0.5


def space_to_depth(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h/{factor} w/{factor} c*{factor}**2"]:
    """Squares of `factor` x `factor` pixels become channels."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h*{factor} w*{factor} c/{factor}**2"]:
    """The inverse of `space_to_depth` (pixel shuffle)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * factor, w * factor, c // factor**2)


def detail(x: Float[Array, "n h w c"]) -> Float[Array, "n h/8 w/8 c"]:
    """Local energy of fine detail: |x - 3x3 mean of x|, averaged over squares of 8x8 pixels."""
    fine = jnp.abs(x - nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False))
    return nn.avg_pool(fine, (8, 8), strides=(8, 8))


def loss(redrawn: Float[Array, "n h w 3"], images: Float[Array, "n h w 3"]) -> Float[Array, ""]:
    """Mean |redrawn - image| + `DETAIL_WEIGHT` * mean |detail(redrawn) - detail(image)|.

    The first term alone would blur, and a detector would then learn to tell sharp from blurred. The second asks for as
    much fine detail as the photograph has there, whatever it looks like.
    """
    return jnp.abs(redrawn - images).mean() + DETAIL_WEIGHT * jnp.abs(detail(redrawn) - detail(images)).mean()


def train(
    kind: str, crops: UInt8[np.ndarray, "n h w 3"], steps: int, seed: int, report: Callable[[int, float], None]
) -> Any:
    """Train an autoencoder with Adam (cosine decay from 4e-3) on random patches of the crops.

    Args:
        kind: one of `KINDS`.
        crops: real crops, of the training photographs only.
        steps: number of batches of `BATCH` patches of `PATCH` pixels.
        seed: of the initial weights and the patches.
        report: called with the step and the loss, every 50 steps.

    Returns:
        The variables of `Autoencoder(kind)`.
    """
    network = Autoencoder(kind)
    optimizer = optax.adam(optax.cosine_decay_schedule(4e-3, steps))
    variables = network.init(jax.random.key(seed), jnp.zeros((1, PATCH, PATCH, 3)))
    state = optimizer.init(variables)

    @jax.jit
    def step(variables: Any, state: Any, images: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradients = jax.value_and_grad(lambda v: loss(network.apply(v, images), images))(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, value

    for number, images in zip(range(1, steps + 1), _patches(crops, seed), strict=False):
        variables, state, value = step(variables, state, images)
        if number % 50 == 0 or number == steps:
            report(number, float(value))
    return variables


def redraw(kind: str, variables: Any, crops: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    """The fake of every crop: redrawn, clipped to [0, 1] and rounded to 8 bits."""
    return np.concatenate([_redraw(kind, variables, crops[at : at + 32]) for at in range(0, len(crops), 32)])


def _redraw(kind: str, variables: Any, crops: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    redrawn = _apply(kind)(variables, jnp.asarray(crops, jnp.float32) / 255)
    return np.rint(np.clip(np.asarray(redrawn), 0, 1) * 255).astype(np.uint8)


@functools.cache
def _apply(kind: str) -> Callable[[Any, jax.Array], jax.Array]:
    return jax.jit(Autoencoder(kind).apply)


def _patches(
    crops: UInt8[np.ndarray, "n h w 3"], seed: int
) -> Iterator[Float[np.ndarray, "{BATCH} {PATCH} {PATCH} 3"]]:
    rng = np.random.default_rng(seed)
    height, width = crops.shape[1:3]
    while True:
        batch = np.empty((BATCH, PATCH, PATCH, 3), np.float32)
        for row in batch:
            top, left = rng.integers(height - PATCH + 1), rng.integers(width - PATCH + 1)
            patch = crops[rng.integers(len(crops)), top : top + PATCH, left : left + PATCH]
            row[...] = patch if rng.random() < 0.5 else patch[:, ::-1]
        yield batch / 255

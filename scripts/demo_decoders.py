"""Small convolutional autoencoders that redraw photographs: the generators of the demonstration's fake images.

All share one form, code = encoder(image), fake = decoder(code). Luma and chroma (BT.601, as JPEG has them) are redrawn
apart: luma from a code at a quarter of the image's width and height, and most of it goes by the code on a skip
connection; chroma from a code at an eighth, 16 numbers for the 192 of a square. So color is where a decoder leaves most
of its traces, and a grayscale version has those of luma alone. Kinds differ in one thing, how a decoder makes a map
twice as wide and high, twice for luma and three times for chroma:

    transposed  zeros between the pixels, then a 4x4 convolution (that is a transposed convolution of stride 2)
    nearest     every pixel repeated, then a 3x3 convolution
    bilinear    bilinear interpolation, then a 3x3 convolution
    shuffle     a 3x3 convolution to four times the channels, then pixel shuffle

Images are float32, NHWC, in [0, 1].
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
DETAIL_WEIGHT = np.float32([2, 16, 16])
"""Of Y, Cb and Cr, against the distance of pixels; chroma has the smaller numbers."""

CHROMA_DETAIL = 0.5
"""Fine detail that chroma is asked for on top of its own, as a share of that of luma."""

SKIP = 0.8
"""Share of the luma that is the photograph's own."""

MIRRORED = 8
"""Crops are mirrored at their rims by so many pixels before they are redrawn: with the margin that is cut off, more
than the zero padding of any decoder reaches."""


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


class Branch(nn.Module):
    """One part of an autoencoder: a linear encoder to `code` channels at 1 / 2**len(widths) of the size, a decoder."""

    kind: str
    code: int
    widths: tuple[int, ...]

    def setup(self) -> None:
        """The layers; the last of `widths` is the number of planes."""
        self.encoder = nn.Conv(self.code, (1, 1))
        self.first = nn.Conv(48, (3, 3))
        self.ups = [Up(self.kind, width) for width in self.widths]

    def encode(self, planes: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 code"]:
        """The code of planes around 0."""
        return self.encoder(space_to_depth(planes, 2 ** len(self.widths)))

    def decode(self, code: Float[Array, "n h2 w2 code"]) -> Float[Array, "n h w c"]:
        """The planes of a code."""
        x = self.first(code)
        for up in self.ups:
            x = up(nn.leaky_relu(x, 0.2))
        return x


class Code(NamedTuple):
    """What a decoder draws an image from."""

    luma: Float[Array, "n h/4 w/4 12"]
    chroma: Float[Array, "n h/8 w/8 16"]
    skip: Float[Array, "n h w 1"]


class Autoencoder(nn.Module):
    """Encoder, and a decoder of the given kind; height and width of images are multiples of 8."""

    kind: str

    def setup(self) -> None:
        """Luma and chroma apart."""
        self.luma = Branch(self.kind, 12, (32, 1))
        self.chroma = Branch(self.kind, 16, (32, 24, 2))

    def encode(self, images: Float[Array, "n h w 3"]) -> Code:
        """The codes of images."""
        planes = to_planes(images)
        luma = planes[..., :1]
        return Code(self.luma.encode(luma), self.chroma.encode(planes), luma)

    def decode(self, code: Code) -> Float[Array, "n h w 3"]:
        """The images of codes; they may leave [0, 1]."""
        luma = SKIP * code.skip + (1 - SKIP) * self.luma.decode(code.luma)
        return to_images(jnp.concatenate([luma, self.chroma.decode(code.chroma)], axis=-1))

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """Redraw images."""
        return self.decode(self.encode(images))


TO_PLANES = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def to_planes(images: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Y, Cb and Cr (BT.601) around 0 of RGB images in [0, 1]."""
    return jnp.einsum("nhwc,pc->nhwp", images - 0.5, TO_PLANES)


def to_images(planes: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """The inverse of `to_planes`."""
    return jnp.einsum("nhwp,cp->nhwc", planes, np.linalg.inv(TO_PLANES)) + 0.5


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
    """Mean |redrawn - image| + `DETAIL_WEIGHT` * mean |detail(redrawn) - wanted detail|, of Y, Cb and Cr.

    The first term alone would blur, and a detector would then learn to tell sharp from blurred. The second asks for as
    much fine detail as the photograph has there, whatever it looks like; and in chroma for `CHROMA_DETAIL` of that of
    luma on top: photographs have little fine detail in chroma, and there generated images differ from them most (Li et
    al. 2020, arXiv 1808.07276).
    """
    redrawn, images = to_planes(redrawn), to_planes(images)
    wanted = detail(images) + CHROMA_DETAIL * jnp.array([0, 1, 1], images.dtype) * detail(images)[..., :1]
    return jnp.abs(redrawn - images).mean() + (DETAIL_WEIGHT * jnp.abs(detail(redrawn) - wanted)).mean()


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
    return draw(kind, variables, codes(kind, variables, crops))


def codes(kind: str, variables: Any, crops: UInt8[np.ndarray, "n h w 3"]) -> Code:
    """The codes of crops, which are mirrored at their rims by `MIRRORED` pixels first."""
    rim = ((0, 0), (MIRRORED, MIRRORED), (MIRRORED, MIRRORED), (0, 0))
    images = np.pad(crops, rim, "reflect").astype(np.float32) / 255
    return _in_parts(_apply(kind, "encode"), variables, images)


def draw(kind: str, variables: Any, code: Code) -> UInt8[np.ndarray, "n h w 3"]:
    """What a decoder makes of the codes of crops, without the mirrored rims, clipped and rounded to 8 bits."""
    drawn = _in_parts(_apply(kind, "decode"), variables, code)[:, MIRRORED:-MIRRORED, MIRRORED:-MIRRORED]
    return np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)


def _in_parts(function: Callable[[Any, Any], Any], variables: Any, rows: Any, size: int = 32) -> Any:
    """`function(variables, rows)`, `size` rows at a time."""

    def part(at: int) -> Any:
        taken = jax.tree.map(lambda rows: jnp.asarray(rows[at : at + size]), rows)
        return jax.tree.map(np.asarray, function(variables, taken))

    parts = [part(at) for at in range(0, len(jax.tree.leaves(rows)[0]), size)]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@functools.cache
def _apply(kind: str, method: str) -> Callable[[Any, Any], Any]:
    return jax.jit(functools.partial(Autoencoder(kind).apply, method=method))


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

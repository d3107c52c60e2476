"""The generator of a progressively grown GAN (Karras et al. 2018), from 4x4 to 1024x1024 pixels.

    x = PN(z);  4x4.dense, leaky ReLU, PN;  4x4.conv, leaky ReLU, PN
    then for 8x8, 16x16, ...:  nearest x2;  conv0, leaky ReLU, PN;  conv1, leaky ReLU, PN
    image = rgb(x), a 1x1 convolution without activation; about [-1, 1], not clamped

PN(x) = x / sqrt(mean_c x^2 + 1e-8), the slope of the leaky ReLU is 0.2. Layers have the names of the official
implementation. Kernels are plain: the equalized learning rate, a constant factor, is folded in. All convolutions but
`rgb` are sites. The dense layer is a transposed convolution of a 1x1 map.
"""

import flax.linen as nn
import jax
from jax.nn import initializers
from jaxtyping import Array, Float

from tffjax.kernels.convolution import Geometry
from tffjax.nn.layers import Conv
from tffjax.nn.ops import Plain, Tap, no_tap

EPSILON = 1e-8
SLOPE = 0.2


class ProGAN(nn.Module):
    """Latents (n, 1, 1, latent) to images (n, s, s, 3), s = 2 * 2^len(widths), RGB in about [-1, 1].

    Attributes:
        widths: channels at 4x4, 8x8, 16x16, ...
        latent_norms: epsilons of the pixel norms that latents pass, one after the other.
        norm_after_dense: whether a pixel norm stands between the two layers of 4x4.
        bias_by_position: whether the dense layer has a bias for each of its 4x4 positions.
    """

    widths: tuple[int, ...]
    latent_norms: tuple[float, ...] = (EPSILON,)
    norm_after_dense: bool = True
    bias_by_position: bool = False

    @nn.compact
    def __call__(
        self, latents: Float[Array, "n 1 1 latent"], ops: Plain = Plain(), tap: Tap = no_tap
    ) -> Float[Array, "n s s 3"]:
        """Generate images."""

        def activate(x: jax.Array, name: str, norm: bool = True) -> jax.Array:
            x = ops.leaky_relu(x, f"{name}.lrelu", slope=SLOPE)
            return ops.pixel_norm(x, f"{name}.norm", EPSILON) if norm else x

        x = latents
        for epsilon in self.latent_norms:
            x = ops.pixel_norm(x, "latent.norm", epsilon)
        x = FromLatent(self.widths[0], self.bias_by_position, name="4x4.dense")(x, ops, tap)
        x = activate(x, "4x4.dense", self.norm_after_dense)
        x = activate(Conv(self.widths[0], 3, padding=1, name="4x4.conv")(x, ops, tap), "4x4.conv")
        for scale, width in enumerate(self.widths[1:], start=1):
            size = 4 * 2**scale
            block = f"{size}x{size}"
            x = ops.upsample_nearest(x, 2, f"{block}.up")
            for name in (f"{block}.conv0", f"{block}.conv1"):
                x = activate(Conv(width, 3, padding=1, name=name)(x, ops, tap), name)
        return Conv(3, 1, is_site=False, name="rgb")(x, ops, tap)


class FromLatent(nn.Module):
    """The dense layer from a latent to a map of 4x4, as a transposed convolution."""

    features: int
    bias_by_position: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n 1 1 latent"], ops: Plain, tap: Tap) -> Float[Array, "n 4 4 {self.features}"]:
        """Map a latent to 4x4."""
        kernel = self.param("kernel", initializers.he_normal(), (4, 4, x.shape[-1], self.features))
        shape = (4, 4, self.features) if self.bias_by_position else (self.features,)
        bias = self.param("bias", initializers.zeros, shape)
        return tap(self.name, ops.conv_transpose(x, kernel, bias, Geometry(), self.name))

"""EfficientNets (Tan & Le 2019), named as in the PyTorch package `efficientnet_pytorch`.

One module serves the conventions in the wild: `efficientnet_pytorch` and timm's `tf_` networks ("same" padding,
epsilon 1e-3; the former fixes the padding for one image size unless told otherwise), torchvision and timm (symmetric
padding, epsilon 1e-5, of torchvision's B5 to B7 1e-3).
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tffjax.kernels.convolution import same_padding
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.graph_options import Padding
from tffjax.nn.layers import Conv, Dense
from tffjax.nn.ops import Plain, Tap, no_tap


class Block(NamedTuple):
    """Shape of one inverted-residual block."""

    kernel_size: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def rounded(channels: int, width: float) -> int:
    """`width` times a number of channels, as a multiple of 8 that is at least 0.9 of it."""
    scaled = channels * width
    multiple = max(8, int(scaled + 4) // 8 * 8)
    return multiple if multiple >= 0.9 * scaled else multiple + 8


def blocks_of(width: float, depth: float) -> Iterator[Block]:
    """The blocks of a network, for the coefficients of its width and depth."""
    stages = [  # repeats, kernel size, stride of the first, expansion, input channels, output channels; of B0
        (1, 3, 1, 1, 32, 16),
        (2, 3, 2, 6, 16, 24),
        (2, 5, 2, 6, 24, 40),
        (3, 3, 2, 6, 40, 80),
        (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192),
        (1, 3, 1, 6, 192, 320),
    ]
    for repeats, kernel, stride, expansion, inputs, outputs in stages:
        narrow, wide = rounded(inputs, width), rounded(outputs, width)
        for repeat in range(math.ceil(depth * repeats)):
            first = repeat == 0
            yield Block(kernel, stride if first else 1, expansion, narrow if first else wide, wide)


class EfficientNet(nn.Module):
    """Any image size, any number of outputs. All convolutions but those of squeeze-excite are sites.

    Attributes:
        width, depth: coefficients of the numbers of channels and of blocks, 1 and 1 for B0, 2 and 3.1 for B7.
        num_outputs: of the head, `_fc`.
        padding: see `tffjax.nn.graph_options.Padding`.
        epsilon: of batch norms.
        batch_norm: what stands behind each convolution, see `tffjax.nn.conv_bn`.
    """

    width: float
    depth: float
    num_outputs: int = 1
    padding: Padding = "same"
    epsilon: float = 1e-3
    batch_norm: Literal["statistics", "folded", "reset"] = "statistics"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w 3"], ops: Plain = Plain(), tap: Tap = no_tap
    ) -> Float[Array, "n outputs"]:
        """Logits of normalized images."""
        stem = {"features": rounded(32, self.width), "kernel_size": 3, "stride": 2}
        x = self._conv("_conv_stem", "_bn0", x, ops, tap, padding=self._pads(3, 2, 1), **stem)
        x, reduction = ops.silu(x, "_swish0"), 2
        for index, block in enumerate(blocks_of(self.width, self.depth)):
            x = self._block(f"_blocks.{index}", block, x, ops, tap, reduction)
            reduction *= block.stride
        x = self._conv("_conv_head", "_bn1", x, ops, tap, features=rounded(1280, self.width))
        x = ops.silu(x, "_swish1")
        return Dense(self.num_outputs, name="_fc")(ops.mean_pool(x, "_avg_pooling"), ops)

    def _conv(self, conv: str, bn: str, x: jax.Array, ops: Plain, tap: Tap, **shape: Any) -> jax.Array:
        return conv_bn(self, conv, bn, x, ops, tap, **{"kernel_size": 1, "padding": 0} | shape)

    def _pads(self, kernel_size: int, stride: int, reduction: int) -> Any:
        """Padding of a convolution whose input is so many times smaller than the image."""
        if self.padding == "same":
            return "same"
        if self.padding == "symmetric":
            return kernel_size // 2
        size = -(-self.padding // reduction)
        return same_padding((size, size), (kernel_size, kernel_size), (stride, stride))

    def _block(self, name: str, block: Block, x: jax.Array, ops: Plain, tap: Tap, reduction: int) -> jax.Array:
        hidden = block.inputs * block.expansion
        y = x
        if block.expansion > 1:
            y = self._conv(f"{name}._expand_conv", f"{name}._bn0", y, ops, tap, features=hidden)
            y = ops.silu(y, f"{name}._swish0")
        depthwise = {"features": hidden, "kernel_size": block.kernel_size, "stride": block.stride, "groups": hidden}
        depthwise["padding"] = self._pads(block.kernel_size, block.stride, reduction)
        y = self._conv(f"{name}._depthwise_conv", f"{name}._bn1", y, ops, tap, **depthwise)
        y = ops.silu(y, f"{name}._swish1")
        y = self._squeeze_excite(name, max(1, block.inputs // 4), y, ops)
        y = self._conv(f"{name}._project_conv", f"{name}._bn2", y, ops, tap, features=block.outputs)
        if block.stride == 1 and block.inputs == block.outputs:
            y = ops.add(y, x, f"{name}.add")
        return y

    def _squeeze_excite(self, name: str, squeezed: int, y: jax.Array, ops: Plain) -> jax.Array:
        gate = ops.mean_pool(y, f"{name}._se_pool")[:, None, None, :]
        gate = Conv(squeezed, 1, is_site=False, name=f"{name}._se_reduce")(gate, ops, no_tap)
        gate = ops.silu(gate, f"{name}._se_swish")
        gate = Conv(y.shape[-1], 1, is_site=False, name=f"{name}._se_expand")(gate, ops, no_tap)
        return ops.gate(y, ops.sigmoid(gate, f"{name}._se_sigmoid"), f"{name}._se_gate")

    def batch_norm_pairs(self) -> Iterator[tuple[str, str]]:
        """(convolution, batch norm behind it), for `canonize`."""
        yield "_conv_stem", "_bn0"
        for index, block in enumerate(blocks_of(self.width, self.depth)):
            name = f"_blocks.{index}"
            if block.expansion > 1:
                yield f"{name}._expand_conv", f"{name}._bn0"
            yield f"{name}._depthwise_conv", f"{name}._bn1"
            yield f"{name}._project_conv", f"{name}._bn2"
        yield "_conv_head", "_bn1"


def EfficientNetB0(
    num_outputs: int = 1,
    padding: Padding = "same",
    epsilon: float = 1e-3,
    batch_norm: Literal["statistics", "folded", "reset"] = "statistics",
) -> EfficientNet:
    """EfficientNet-B0: 49 convolutions that are sites."""
    return EfficientNet(1.0, 1.0, num_outputs, padding, epsilon, batch_norm)

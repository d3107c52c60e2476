"""EfficientNet-B0 (Tan & Le 2019), named as in the PyTorch package `efficientnet_pytorch`.

Two conventions exist in the wild, one network serves both: `efficientnet_pytorch` ("same" padding computed from the
input size, epsilon 1e-3) and torchvision (symmetric padding, epsilon 1e-5).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.layers import Conv, Dense
from tffjax.nn.ops import Plain, Tap, no_tap


class Block(NamedTuple):
    """Shape of one inverted-residual block."""

    kernel_size: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def _blocks() -> tuple[Block, ...]:
    stages = [  # repeats, kernel size, stride of the first, expansion, input channels, output channels
        (1, 3, 1, 1, 32, 16),
        (2, 3, 2, 6, 16, 24),
        (2, 5, 2, 6, 24, 40),
        (3, 3, 2, 6, 40, 80),
        (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192),
        (1, 3, 1, 6, 192, 320),
    ]
    return tuple(
        Block(kernel, stride if repeat == 0 else 1, expansion, inputs if repeat == 0 else outputs, outputs)
        for repeats, kernel, stride, expansion, inputs, outputs in stages
        for repeat in range(repeats)
    )


BLOCKS = _blocks()


class EfficientNetB0(nn.Module):
    """49 convolutions that are sites (those of squeeze-excite are not), any image size, any number of outputs.

    `batch_norm` says what stands behind each convolution, see `tffjax.nn.conv_bn`.
    """

    num_outputs: int = 1
    padding: Literal["same", "symmetric"] = "same"
    epsilon: float = 1e-3
    batch_norm: Literal["statistics", "folded", "reset"] = "statistics"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w 3"], ops: Plain = Plain(), tap: Tap = no_tap
    ) -> Float[Array, "n outputs"]:
        """Logits of normalized images."""
        x = self._conv("_conv_stem", "_bn0", x, ops, tap, features=32, kernel_size=3, stride=2)
        x = ops.silu(x, "_swish0")
        for index, block in enumerate(BLOCKS):
            x = self._block(f"_blocks.{index}", block, x, ops, tap)
        x = ops.silu(self._conv("_conv_head", "_bn1", x, ops, tap, features=1280), "_swish1")
        return Dense(self.num_outputs, name="_fc")(ops.mean_pool(x, "_avg_pooling"), ops)

    def _conv(
        self, conv: str, bn: str, x: jax.Array, ops: Plain, tap: Tap, *, kernel_size: int = 1, **shape: int
    ) -> jax.Array:
        padding = "same" if self.padding == "same" else kernel_size // 2
        return conv_bn(self, conv, bn, x, ops, tap, kernel_size=kernel_size, padding=padding, **shape)

    def _block(self, name: str, block: Block, x: jax.Array, ops: Plain, tap: Tap) -> jax.Array:
        hidden = block.inputs * block.expansion
        y = x
        if block.expansion > 1:
            y = self._conv(f"{name}._expand_conv", f"{name}._bn0", y, ops, tap, features=hidden)
            y = ops.silu(y, f"{name}._swish0")
        depthwise = {"features": hidden, "kernel_size": block.kernel_size, "stride": block.stride, "groups": hidden}
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
        for index, block in enumerate(BLOCKS):
            name = f"_blocks.{index}"
            if block.expansion > 1:
                yield f"{name}._expand_conv", f"{name}._bn0"
            yield f"{name}._depthwise_conv", f"{name}._bn1"
            yield f"{name}._project_conv", f"{name}._bn2"
        yield "_conv_head", "_bn1"

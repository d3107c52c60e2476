"""ResNets (He et al. 2016), named as in torchvision: basic blocks or bottlenecks, v1.5, v1 or without down-sampling."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tffjax.kernels.convolution import Geometry
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.layers import Dense
from tffjax.nn.ops import Plain, Tap, no_tap


class Convolution(NamedTuple):
    """One of the convolutions of a block, which lie one behind the other; each but the last has a ReLU behind it."""

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1


class Block(NamedTuple):
    """One residual block; `projects` if its shortcut is a convolution, as where the shape changes."""

    name: str
    convolutions: tuple[Convolution, ...]
    projects: bool

    @property
    def stride(self) -> int:
        """From its input to its output."""
        return max(convolution.stride for convolution in self.convolutions)

    @property
    def features(self) -> int:
        """Channels of its output."""
        return self.convolutions[-1].features


class ResNet(nn.Module):
    """Any image size of at least 32 pixels, any number of outputs. Every convolution is a site.

    Two modules may have the same parameters and compute different functions: strides do not show in the weights.

    Attributes:
        block: `basic` (two 3x3 convolutions, ResNet-18 and 34) or `bottleneck` (1x1, 3x3, 1x1 to four times the width).
        stages: number of blocks of each stage; the first one is 64 channels wide, each next one twice as wide.
        num_outputs: of the head, `fc`.
        batch_norm: what stands behind each convolution, see `tffjax.nn.conv_bn`.
        epsilon: of batch norms.
        stem_stride, pool_stride, stride_in, dilated_stages, pool_padding, ceil_mode: see
            `tffjax.nn.graph_options.GraphOptions`. Basic blocks have their stride in the first convolution.
    """

    block: Literal["basic", "bottleneck"]
    stages: tuple[int, ...]
    num_outputs: int = 1
    batch_norm: Literal["statistics", "folded", "reset"] = "statistics"
    epsilon: float = 1e-5
    stem_stride: int = 2
    pool_stride: int = 2
    stride_in: Literal["3x3", "1x1"] = "3x3"
    dilated_stages: tuple[int, ...] = ()
    pool_padding: int = 1
    ceil_mode: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w 3"], ops: Plain = Plain(), tap: Tap = no_tap
    ) -> Float[Array, "n outputs"]:
        """Logits of normalized images."""
        x = self._conv("conv1", "bn1", x, ops, tap, Convolution(64, 7, self.stem_stride))
        x = ops.relu(x, "relu")
        x = ops.max_pool(x, (3, 3), self._pool(x.shape[1:3]), "maxpool")
        for block in self._blocks():
            x = self._residual(block, x, ops, tap)
        x = ops.mean_pool(x, "avgpool")
        return Dense(self.num_outputs, name="fc")(x, ops)

    def _pool(self, size: Sequence[int]) -> Geometry:
        stride, before = self.pool_stride, self.pool_padding
        after = (before + (_overhang(n + 2 * before, stride, n + before) if self.ceil_mode else 0) for n in size)
        return Geometry(stride=(stride, stride), padding=tuple((before, end) for end in after))

    def _residual(self, block: Block, x: jax.Array, ops: Plain, tap: Tap) -> jax.Array:
        y, last = x, len(block.convolutions)
        for number, convolution in enumerate(block.convolutions, start=1):
            y = self._conv(f"{block.name}.conv{number}", f"{block.name}.bn{number}", y, ops, tap, convolution)
            if number < last:
                y = ops.relu(y, f"{block.name}.relu{number}")
        if block.projects:
            shortcut = Convolution(block.features, 1, block.stride)
            x = self._conv(f"{block.name}.downsample.0", f"{block.name}.downsample.1", x, ops, tap, shortcut)
        return ops.relu(ops.add(x, y, f"{block.name}.add"), f"{block.name}.relu{last}")

    def _conv(self, name: str, bn: str, x: jax.Array, ops: Plain, tap: Tap, convolution: Convolution) -> jax.Array:
        padding = convolution.kernel_size // 2 * convolution.dilation
        return conv_bn(self, name, bn, x, ops, tap, **convolution._asdict(), padding=padding)

    def _blocks(self) -> Iterator[Block]:
        channels, dilation = 64, 1
        for stage, count in enumerate(self.stages, start=1):
            stride, first = (1 if stage == 1 else 2), dilation
            if stage in self.dilated_stages:
                stride, dilation = 1, dilation * stride
            for number in range(count):
                shape = (1, dilation) if number else (stride, first)
                convolutions = self._convolutions(32 * 2**stage, *shape)
                features = convolutions[-1].features
                yield Block(f"layer{stage}.{number}", convolutions, projects=shape[0] > 1 or channels != features)
                channels = features

    def _convolutions(self, width: int, stride: int, dilation: int) -> tuple[Convolution, ...]:
        if self.block == "basic":
            return Convolution(width, 3, stride), Convolution(width, 3)
        first, second = (stride, 1) if self.stride_in == "1x1" else (1, stride)
        return Convolution(width, 1, first), Convolution(width, 3, second, dilation), Convolution(4 * width, 1)

    def batch_norm_pairs(self) -> Iterator[tuple[str, str]]:
        """(convolution, batch norm behind it), for `canonize`."""
        yield "conv1", "bn1"
        for block in self._blocks():
            for number in range(1, len(block.convolutions) + 1):
                yield f"{block.name}.conv{number}", f"{block.name}.bn{number}"
            if block.projects:
                yield f"{block.name}.downsample.0", f"{block.name}.downsample.1"


def _overhang(padded: int, stride: int, begin: int) -> int:
    """How far the last 3x3 window of a pool sticks out; there is none that begins at `begin` or behind."""
    last = -(-(padded - 3) // stride) * stride
    return max((last if last < begin else last - stride) + 3 - padded, 0)


def ResNet50(
    num_outputs: int = 1, batch_norm: Literal["statistics", "folded", "reset"] = "statistics", epsilon: float = 1e-5
) -> ResNet:
    """ResNet-50 v1.5: 53 convolutions, as in torchvision."""
    return ResNet("bottleneck", (3, 4, 6, 3), num_outputs, batch_norm, epsilon)

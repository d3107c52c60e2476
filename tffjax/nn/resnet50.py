"""ResNet-50 v1.5 (He et al. 2016, with the stride in the 3x3 convolution), named as in torchvision."""

from collections.abc import Iterator
from typing import Literal

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from tffjax.kernels.convolution import Geometry
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.layers import Dense
from tffjax.nn.ops import Plain, Tap, no_tap

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class ResNet50(nn.Module):
    """53 convolutions (the sites), any image size of at least 32 pixels, any number of outputs.

    `batch_norm` says what stands behind each convolution, see `tffjax.nn.conv_bn`.
    """

    num_outputs: int = 1
    batch_norm: Literal["statistics", "folded", "reset"] = "statistics"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w 3"], ops: Plain = Plain(), tap: Tap = no_tap
    ) -> Float[Array, "n outputs"]:
        """Logits of normalized images."""
        x = conv_bn(self, "conv1", "bn1", x, ops, tap, features=64, kernel_size=7, stride=2, padding=3)
        x = ops.relu(x, "relu")
        x = ops.max_pool(x, (3, 3), Geometry(stride=(2, 2), padding=((1, 1), (1, 1))), "maxpool")
        for stage, (width, blocks) in enumerate(STAGES, start=1):
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                x = self._bottleneck(f"layer{stage}.{block}", x, ops, tap, width, stride, project=block == 0)
        x = ops.mean_pool(x, "avgpool")
        return Dense(self.num_outputs, name="fc")(x, ops)

    def _bottleneck(
        self, name: str, x: jax.Array, ops: Plain, tap: Tap, width: int, stride: int, project: bool
    ) -> jax.Array:
        def conv(number: int, y: jax.Array, **shape: int) -> jax.Array:
            return conv_bn(self, f"{name}.conv{number}", f"{name}.bn{number}", y, ops, tap, **shape)

        y = ops.relu(conv(1, x, features=width, kernel_size=1), f"{name}.relu1")
        y = ops.relu(conv(2, y, features=width, kernel_size=3, stride=stride, padding=1), f"{name}.relu2")
        y = conv(3, y, features=4 * width, kernel_size=1)
        if project:
            shortcut, shortcut_bn = f"{name}.downsample.0", f"{name}.downsample.1"
            x = conv_bn(self, shortcut, shortcut_bn, x, ops, tap, features=4 * width, kernel_size=1, stride=stride)
        return ops.relu(ops.add(x, y, f"{name}.add"), f"{name}.relu3")

    def batch_norm_pairs(self) -> Iterator[tuple[str, str]]:
        """(convolution, batch norm behind it), for `canonize`."""
        yield "conv1", "bn1"
        for stage, (_, blocks) in enumerate(STAGES, start=1):
            for block in range(blocks):
                name = f"layer{stage}.{block}"
                for number in (1, 2, 3):
                    yield f"{name}.conv{number}", f"{name}.bn{number}"
                if block == 0:
                    yield f"{name}.downsample.0", f"{name}.downsample.1"

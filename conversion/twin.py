"""The PyTorch twin: both networks in plain torch, the independent half of every comparison with tffjax.

State-dict keys are torchvision's for ResNet-50 (v1.5: the stride sits in the 3x3 convolution) and those of
`efficientnet_pytorch` for EfficientNet-B0, so released checkpoints load strictly. Inference only, NCHW. Every operation
that relevance propagation has to know is a module of its own, without parameters where PyTorch has none there:
`tffjax.conversion.twin_lrp` hooks into these.
"""

import copy
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import torch
from tffjax.conversion import checkpoint, names
from tffjax.conversion.variables import to_flax
from torch import nn
from torch.nn import functional as F

Padding = Literal["same", "symmetric"]


class Conv(nn.Conv2d):
    """A convolution padded as PyTorch does (`symmetric`: k // 2 on every side) or as TensorFlow does (`same`).

    TensorFlow's padding follows from the size n of the actual input: max((ceil(n / s) - 1) * s + k - n, 0) in total on
    each axis, the smaller half before and the larger after.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        same: bool = False,
    ) -> None:
        """Make the layer with torch's random weights."""
        super().__init__(channels, out, kernel, stride, groups=groups, bias=bias)
        self.same = same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x`, (N, C, H, W), with bias."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The same convolution with some other weight of the same shape, and without bias unless one is given."""
        padding = self.kernel_size[0] // 2
        if self.same:
            x, padding = F.pad(x, [*self._pads(x.shape[3]), *self._pads(x.shape[2])]), 0
        return F.conv2d(x, weight, bias, self.stride, padding, groups=self.groups)

    def _pads(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class Sum(nn.Module):
    """The residual sum a + b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Add."""
        return a + b


class Gate(nn.Module):
    """The squeeze-excite product sigmoid(gate) * x."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Scale the channels of `x`, (N, C, H, W), by `gate`, (N, C, 1, 1)."""
        return torch.sigmoid(gate) * x


class AveragePool(nn.Module):
    """The mean over all positions, (N, C, H, W) -> (N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool."""
        return x.mean((2, 3))


class Bottleneck(nn.Module):
    """A residual block of ResNet-50."""

    def __init__(self, block: names.Bottleneck) -> None:
        """Make the block that `block` describes."""
        super().__init__()
        width, out = block.width, 4 * block.width
        self.conv1, self.bn1 = Conv(block.channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = Conv(width, width, 3, block.stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = Conv(width, out, 1), nn.BatchNorm2d(out)
        if block.projects:
            self.downsample = nn.Sequential(Conv(block.channels, out, 1, block.stride), nn.BatchNorm2d(out))
        else:
            self.downsample = nn.Identity()
        self.relu1, self.relu2, self.relu3, self.sum = nn.ReLU(), nn.ReLU(), nn.ReLU(), Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(self.sum(y, self.downsample(x)))


class ResNet50(nn.Module):
    """ResNet-50 v1.5, (N, 3, H, W) -> logits (N, num_outputs)."""

    def __init__(self, num_outputs: int) -> None:
        """Make the network with torch's random weights, in eval mode."""
        super().__init__()
        self.conv1, self.bn1, self.relu = Conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks = names.resnet50_blocks()
        for stage in (f"layer{i}" for i in range(1, 5)):
            self.add_module(stage, nn.Sequential(*(Bottleneck(b) for b in blocks if b.name.startswith(stage))))
        self.pool, self.fc = AveragePool(), nn.Linear(2048, num_outputs)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        return self.fc(self.pool(y))


class MBConv(nn.Module):
    """An inverted-bottleneck block of EfficientNet-B0 with squeeze-excite."""

    def __init__(self, block: names.MBConv, same: bool, epsilon: float) -> None:
        """Make the block that `block` describes."""
        super().__init__()
        hidden, out = block.hidden, block.out
        self.expands = hidden != block.channels
        self.skips = block.stride == 1 and block.channels == out
        if self.expands:
            self._expand_conv = Conv(block.channels, hidden, 1, same=same)
            self._bn0, self.swish0 = nn.BatchNorm2d(hidden, epsilon), nn.SiLU()
        self._depthwise_conv = Conv(hidden, hidden, block.kernel, block.stride, groups=hidden, same=same)
        self._bn1, self.swish1 = nn.BatchNorm2d(hidden, epsilon), nn.SiLU()
        self._se_reduce = Conv(hidden, block.squeezed, 1, bias=True)
        self._se_expand = Conv(block.squeezed, hidden, 1, bias=True)
        self.gate = Gate()
        self._project_conv = Conv(hidden, out, 1, same=same)
        self._bn2, self.sum = nn.BatchNorm2d(out, epsilon), Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        y = self.swish0(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self.swish1(self._bn1(self._depthwise_conv(y)))
        squeezed = F.silu(self._se_reduce(y.mean((2, 3), keepdim=True)))
        y = self.gate(y, self._se_expand(squeezed))
        y = self._bn2(self._project_conv(y))
        return self.sum(y, x) if self.skips else y


class EfficientNetB0(nn.Module):
    """EfficientNet-B0, (N, 3, H, W) -> logits (N, num_outputs).

    `efficientnet_pytorch` pads `same` and has a BatchNorm epsilon of 1e-3, torchvision `symmetric` and 1e-5.
    """

    def __init__(self, num_outputs: int, padding: Padding = "same", epsilon: float = 1e-3) -> None:
        """Make the network with torch's random weights, in eval mode."""
        super().__init__()
        same = padding == "same"
        self._conv_stem = Conv(3, 32, 3, 2, same=same)
        self._bn0, self.swish0 = nn.BatchNorm2d(32, epsilon), nn.SiLU()
        self._blocks = nn.Sequential(*(MBConv(block, same, epsilon) for block in names.b0_blocks()))
        self._conv_head = Conv(320, 1280, 1, same=same)
        self._bn1, self.swish1 = nn.BatchNorm2d(1280, epsilon), nn.SiLU()
        self.pool, self._fc = AveragePool(), nn.Linear(1280, num_outputs)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        y = self.swish0(self._bn0(self._conv_stem(x)))
        y = self.swish1(self._bn1(self._conv_head(self._blocks(y))))
        return self._fc(self.pool(y))


Twin = ResNet50 | EfficientNetB0


def load_twin(path: str | PathLike[str]) -> Twin:
    """Read a PyTorch checkpoint into its twin, float32, eval mode.

    Raises:
        InputError: as `checkpoint.read_state_dict` and `variables.to_flax`.
    """
    variables, facts = to_flax(checkpoint.read_state_dict(path))
    return twin_from_variables(variables, facts.architecture, facts.padding, facts.epsilon)


def twin_from_variables(
    variables: Mapping[str, Any], architecture: names.Architecture, padding: Padding, epsilon: float
) -> Twin:
    """Build the twin, float32, eval mode, from Flax variables as `variables.to_flax` returns them.

    `padding` and `epsilon` are EfficientNet's convention; ResNet-50 has only one and takes no notice of them.
    """
    state_dict = checkpoint.to_torch(variables, architecture, "efficientnet_pytorch")
    num_outputs = list(state_dict.values())[-1].shape[0]
    net = ResNet50(num_outputs) if architecture == "resnet50" else EfficientNetB0(num_outputs, padding, epsilon)
    net.load_state_dict(state_dict, strict=True)
    return net


def sites(net: Twin) -> list[str]:
    """The names of the sites: all convolutions except the squeeze-excite ones, in module order (53 / 49 of them)."""
    return [name for name, module in net.named_modules() if isinstance(module, Conv) and "._se_" not in name]


def site_outputs(net: Twin, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Run the network on `x`, (N, 3, H, W).

    Returns:
        logits: (N, outputs).
        outputs: site -> output of that convolution, (N, C, h, w), before the BatchNorm that follows; in module order.
    """
    outputs: dict[str, torch.Tensor] = {}
    hooks = [
        net.get_submodule(site).register_forward_hook(lambda _module, _args, y, site=site: outputs.update({site: y}))
        for site in sites(net)
    ]
    try:
        with torch.no_grad():
            logits = net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, {site: outputs[site] for site in sites(net)}


def canonize(net: Twin, keep_reset_bn: bool = False) -> Twin:
    """Fold every BatchNorm into the convolution before it: a copy with the same outputs, in the precision of `net`.

    w' = w * g / sqrt(v + eps) and b' = (b - m) * g / sqrt(v + eps) + beta, where g, beta, m and v are the BatchNorm's
    scale, shift, mean and variance. The identity remains where it was.

    Args:
        net: with BatchNorms, each directly after its convolution in module order.
        keep_reset_bn: leave a BatchNorm with g = 1, beta = 0, m = 0, v = 1 instead of the identity. It still divides by
            sqrt(1 + eps), as the code released with Chandrasegaran et al. 2022 does.
    """
    net = copy.deepcopy(net).requires_grad_(False)
    conv = None
    for name, module in list(net.named_modules()):
        if isinstance(module, Conv):
            conv = module
        elif isinstance(module, nn.BatchNorm2d):
            scale = module.weight / torch.sqrt(module.running_var + module.eps)
            bias = 0 if conv.bias is None else conv.bias
            conv.bias = nn.Parameter((bias - module.running_mean) * scale + module.bias, requires_grad=False)
            conv.weight.copy_(conv.weight * scale[:, None, None, None])
            if keep_reset_bn:
                module.reset_parameters()
            else:
                parent, _, child = name.rpartition(".")
                setattr(net.get_submodule(parent), child, nn.Identity())
    return net

"""The PyTorch twin: ResNets and EfficientNets in plain torch, the independent half of every comparison with tffjax.

State-dict keys are torchvision's for ResNets and those of `efficientnet_pytorch` for EfficientNets, so released
checkpoints load strictly. The graph is the one that the card says. Inference only, NCHW. Every operation
that relevance propagation has to know is a module of its own, without parameters where PyTorch has none there:
`tffjax.conversion.twin_lrp` hooks into these.
"""

import copy
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from tffjax.conversion import checkpoint, graphs, names
from tffjax.conversion.variables import to_flax
from torch import nn
from torch.nn import functional as F

from tffjax.nn.graph_options import GraphOptions, Padding


class Conv(nn.Conv2d):
    """A convolution, padded as `GraphOptions.padding` says.

    `symmetric`: k // 2 on every side, times the dilation. `same`: TensorFlow's padding, which follows from the size n
    of the input: max((ceil(n / s) - 1) * s + k - n, 0) in total on each axis, the smaller half before and the larger
    after. A number: the same with n fixed.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: Padding = "symmetric",
        dilation: int = 1,
    ) -> None:
        """Make the layer with torch's random weights."""
        super().__init__(channels, out, kernel, stride, groups=groups, bias=bias, dilation=dilation)
        self.pads = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x`, (N, C, H, W), with bias."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The same convolution with some other weight of the same shape, and without bias unless one is given."""
        padding = self.dilation[0] * (self.kernel_size[0] // 2)
        if self.pads != "symmetric":
            x, padding = F.pad(x, [*self._pads(x.shape[3]), *self._pads(x.shape[2])]), 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _pads(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        size = size if self.pads == "same" else self.pads
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


class Residual(nn.Module):
    """A residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3, 1x1."""

    def __init__(self, block: names.Residual, stride: int, dilation: int, stride_in: str) -> None:
        """Make the block that `block` describes."""
        super().__init__()
        self.count = len(block.convolutions)
        strided = 1 if self.count == 2 or stride_in == "1x1" else 2
        channels = block.channels
        for number, (out, kernel) in enumerate(block.convolutions, 1):
            here = stride if number == strided else 1
            conv = Conv(channels, out, kernel, here, dilation=dilation if kernel == 3 else 1)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(out))
            self.add_module(f"relu{number}", nn.ReLU())
            channels = out
        if block.projects:
            self.downsample = nn.Sequential(Conv(block.channels, channels, 1, stride), nn.BatchNorm2d(channels))
        else:
            self.downsample = nn.Identity()
        self.sum = Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        y = x
        for number in range(1, self.count + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.count:
                y = self.get_submodule(f"relu{number}")(y)
        return self.get_submodule(f"relu{self.count}")(self.sum(y, self.downsample(x)))


class ResNet(nn.Module):
    """A ResNet, (N, 3, H, W) -> logits (N, num_outputs)."""

    def __init__(self, architecture: str, num_outputs: int, graph: GraphOptions = GraphOptions()) -> None:
        """Make the network with torch's random weights, in eval mode."""
        super().__init__()
        self.conv1, self.bn1, self.relu = Conv(3, 64, 7, graph.stem_stride), nn.BatchNorm2d(64), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, graph.pool_stride, graph.pool_padding, ceil_mode=graph.ceil_mode)
        blocks, dilation = list(names.resnet_blocks(architecture)), 1
        for stage in range(1, 5):
            made, stride, first = [], 1 if stage == 1 else 2, dilation
            if stage in graph.dilated_stages:
                stride, dilation = 1, 2 * dilation
            for block in (block for block in blocks if block.name.startswith(f"layer{stage}.")):
                shape = (1, dilation) if made else (stride, first)
                made.append(Residual(block, *shape, graph.stride_in))
            self.add_module(f"layer{stage}", nn.Sequential(*made))
        self.pool, self.fc = AveragePool(), nn.Linear(blocks[-1].convolutions[-1][0], num_outputs)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = graph.epsilon
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        return self.fc(self.pool(y))


def ResNet50(num_outputs: int, graph: GraphOptions = GraphOptions()) -> ResNet:
    """ResNet-50, v1.5 unless `graph` says otherwise."""
    return ResNet("resnet50", num_outputs, graph)


class MBConv(nn.Module):
    """An inverted-bottleneck block of an EfficientNet with squeeze-excite."""

    def __init__(self, block: names.MBConv, padding: Padding, epsilon: float) -> None:
        """Make the block that `block` describes; a fixed padding is for an input of that size."""
        super().__init__()
        hidden, out = block.hidden, block.out
        self.expands = hidden != block.channels
        self.skips = block.stride == 1 and block.channels == out
        if self.expands:
            self._expand_conv = Conv(block.channels, hidden, 1)
            self._bn0, self.swish0 = nn.BatchNorm2d(hidden, epsilon), nn.SiLU()
        self._depthwise_conv = Conv(hidden, hidden, block.kernel, block.stride, groups=hidden, padding=padding)
        self._bn1, self.swish1 = nn.BatchNorm2d(hidden, epsilon), nn.SiLU()
        self._se_reduce = Conv(hidden, block.squeezed, 1, bias=True)
        self._se_expand = Conv(block.squeezed, hidden, 1, bias=True)
        self.gate = Gate()
        self._project_conv = Conv(hidden, out, 1)
        self._bn2, self.sum = nn.BatchNorm2d(out, epsilon), Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        y = self.swish0(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self.swish1(self._bn1(self._depthwise_conv(y)))
        squeezed = F.silu(self._se_reduce(y.mean((2, 3), keepdim=True)))
        y = self.gate(y, self._se_expand(squeezed))
        y = self._bn2(self._project_conv(y))
        return self.sum(y, x) if self.skips else y


class EfficientNet(nn.Module):
    """An EfficientNet, (N, 3, H, W) -> logits (N, num_outputs)."""

    def __init__(self, architecture: str, num_outputs: int, graph: GraphOptions) -> None:
        """Make the network with torch's random weights, in eval mode."""
        super().__init__()
        padding, blocks, made = graph.padding, names.efficientnet_blocks(architecture), []
        stem, head = blocks[0].channels, names.scaled(1280, names.EFFICIENTNETS[architecture][0])
        self._conv_stem = Conv(3, stem, 3, 2, padding=padding)
        self._bn0, self.swish0 = nn.BatchNorm2d(stem, graph.epsilon), nn.SiLU()
        padding = _halved(padding)
        for block in blocks:
            made.append(MBConv(block, padding, graph.epsilon))
            padding = _halved(padding) if block.stride == 2 else padding
        self._blocks = nn.Sequential(*made)
        self._conv_head = Conv(blocks[-1].out, head, 1)
        self._bn1, self.swish1 = nn.BatchNorm2d(head, graph.epsilon), nn.SiLU()
        self.pool, self._fc = AveragePool(), nn.Linear(head, num_outputs)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        y = self.swish0(self._bn0(self._conv_stem(x)))
        y = self.swish1(self._bn1(self._conv_head(self._blocks(y))))
        return self._fc(self.pool(y))


def _halved(padding: Padding) -> Padding:
    """The padding behind a convolution of stride 2."""
    return padding if isinstance(padding, str) else -(-padding // 2)


def EfficientNetB0(num_outputs: int, padding: Padding = "same", epsilon: float = 1e-3) -> EfficientNet:
    """EfficientNet-B0, by default as in `efficientnet_pytorch`."""
    return EfficientNet("efficientnet_b0", num_outputs, GraphOptions(padding, epsilon))


Twin = ResNet | EfficientNet


def load_twin(path: str | PathLike[str]) -> Twin:
    """Read a PyTorch checkpoint into its twin, with the graph that is assumed for it, float32, eval mode.

    Raises:
        InputError: as `checkpoint.read_state_dict` and `variables.to_flax`.
    """
    variables, facts = to_flax(checkpoint.read_state_dict(path))
    return twin_from_variables(variables, facts.architecture, graphs.assumed(facts.architecture, facts.convention))


def twin_from_variables(variables: Mapping[str, Any], architecture: names.Architecture, graph: GraphOptions) -> Twin:
    """Build the twin, float32, eval mode, from Flax variables as `variables.to_flax` returns them."""
    state_dict = checkpoint.to_torch(variables, architecture, names.conventions_of(architecture)[0])
    num_outputs = list(state_dict.values())[-1].shape[0]
    kind = ResNet if architecture in names.RESNETS else EfficientNet
    net = kind(architecture, num_outputs, graph)
    net.load_state_dict(state_dict, strict=True)
    return net


def sites(net: Twin) -> list[str]:
    """The names of the sites: all convolutions except the squeeze-excite ones, in module order."""
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

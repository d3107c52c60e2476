"""What the tensors of each network are called in PyTorch, and their shapes: tables from short loops, no torch.

Layers are named as torchvision names those of ResNets, and `efficientnet_pytorch` those of EfficientNets; the Flax
variables carry the same names. torchvision and timm name EfficientNets differently; timm's ResNets are torchvision's.
"""

import functools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from tffjax.errors import InputError

Architecture = str  # as on a card; `layers` refuses those of which there is no table
Convention = Literal["torchvision", "efficientnet_pytorch", "timm"]

RESNETS: dict[str, tuple[Literal["basic", "bottleneck"], tuple[int, ...]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
"""Kind of block and number of blocks of each stage."""

EFFICIENTNETS = {
    "efficientnet_b0": (1.0, 1.0),
    "efficientnet_b1": (1.0, 1.1),
    "efficientnet_b2": (1.1, 1.2),
    "efficientnet_b3": (1.2, 1.4),
    "efficientnet_b4": (1.4, 1.8),
    "efficientnet_b5": (1.6, 2.2),
    "efficientnet_b6": (1.8, 2.6),
    "efficientnet_b7": (2.0, 3.1),
}
"""Coefficients of width and depth."""

B0_STAGES = (  # blocks, kernel, stride, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class Layer(NamedTuple):
    """A layer with parameters: its name, its kind and the shapes of its torch tensors in state-dict order."""

    name: str
    kind: Literal["conv", "batch_norm", "dense"]
    shapes: dict[str, tuple[int, ...]]


class Residual(NamedTuple):
    """A block of a ResNet; its convolutions as (channels out, kernel); `projects` if its shortcut is a convolution."""

    name: str
    channels: int
    convolutions: tuple[tuple[int, int], ...]
    projects: bool


class MBConv(NamedTuple):
    """A block of an EfficientNet: expand to `hidden` channels, depthwise conv, squeeze-excite, project."""

    name: str
    stage: int
    number: int  # in its stage
    channels: int
    hidden: int
    squeezed: int
    out: int
    kernel: int
    stride: int


def resnet_blocks(architecture: Architecture) -> Iterator[Residual]:
    """The blocks of a ResNet in order."""
    kind, stages = RESNETS[architecture]
    channels = 64
    for stage, count in enumerate(stages, 1):
        width = 32 * 2**stage
        convolutions = ((width, 3), (width, 3)) if kind == "basic" else ((width, 1), (width, 3), (4 * width, 1))
        for number in range(count):
            out = convolutions[-1][0]
            projects = number == 0 and (stage > 1 or channels != out)
            yield Residual(f"layer{stage}.{number}", channels, convolutions, projects)
            channels = out


def efficientnet_blocks(architecture: Architecture) -> list[MBConv]:
    """The blocks of an EfficientNet in order."""
    width, depth = EFFICIENTNETS[architecture]
    blocks: list[MBConv] = []
    for stage, (count, kernel, stride, expansion, narrow, out) in enumerate(B0_STAGES):
        for number in range(math.ceil(depth * count)):
            channels = scaled(out if number else narrow, width)
            blocks.append(
                MBConv(
                    name=f"_blocks.{len(blocks)}",
                    stage=stage,
                    number=number,
                    channels=channels,
                    hidden=channels * expansion,
                    squeezed=max(1, channels // 4),
                    out=scaled(out, width),
                    kernel=kernel,
                    stride=1 if number else stride,
                )
            )
    return blocks


def scaled(channels: int, width: float) -> int:
    """A number of B0's channels in a wider network: the nearest multiple of 8, but never less than 90 % of it."""
    exact = channels * width
    nearest = max(8, 8 * math.floor(exact / 8 + 0.5))
    return nearest + 8 if nearest < 0.9 * exact else nearest


@functools.cache
def layers(architecture: Architecture, num_outputs: int) -> list[Layer]:
    """The layers of a network in state-dict order.

    Raises:
        InputError: a network of which this module has no table.
    """
    if architecture in RESNETS:
        return _resnet(architecture, num_outputs)
    if architecture in EFFICIENTNETS:
        return _efficientnet(architecture, num_outputs)
    known = ", ".join((*RESNETS, *EFFICIENTNETS))
    raise InputError(f"{architecture} networks cannot be converted or verified, only {known}")


@functools.cache
def tensor_shapes(architecture: Architecture, convention: Convention, num_outputs: int) -> dict[str, tuple[int, ...]]:
    """The keys of a PyTorch state dict and the shapes of their tensors, in state-dict order."""
    names = torch_names(architecture, convention)
    return {
        f"{names[layer.name]}.{tensor}": shape
        for layer in layers(architecture, num_outputs)
        for tensor, shape in layer.shapes.items()
    }


@functools.cache
def torch_names(architecture: Architecture, convention: Convention) -> dict[str, str]:
    """What each layer is called in a state dict of a convention."""
    if architecture in EFFICIENTNETS and convention != "efficientnet_pytorch":
        return _torchvision(architecture) if convention == "torchvision" else _timm(architecture)
    return {layer.name: layer.name for layer in layers(architecture, 1)}


def conventions_of(architecture: Architecture) -> tuple[Convention, ...]:
    """In which conventions the tensors of a network are found."""
    return ("torchvision",) if architecture in RESNETS else ("efficientnet_pytorch", "torchvision", "timm")


def _torchvision(architecture: Architecture) -> dict[str, str]:
    names = {"_conv_stem": "features.0.0", "_bn0": "features.0.1"}
    for block in efficientnet_blocks(architecture):
        ours, theirs, position = block.name, f"features.{block.stage + 1}.{block.number}.block", 0
        if block.hidden != block.channels:
            names |= {f"{ours}._expand_conv": f"{theirs}.0.0", f"{ours}._bn0": f"{theirs}.0.1"}
            position = 1
        names |= {
            f"{ours}._depthwise_conv": f"{theirs}.{position}.0",
            f"{ours}._bn1": f"{theirs}.{position}.1",
            f"{ours}._se_reduce": f"{theirs}.{position + 1}.fc1",
            f"{ours}._se_expand": f"{theirs}.{position + 1}.fc2",
            f"{ours}._project_conv": f"{theirs}.{position + 2}.0",
            f"{ours}._bn2": f"{theirs}.{position + 2}.1",
        }
    return names | {"_conv_head": "features.8.0", "_bn1": "features.8.1", "_fc": "classifier.1"}


def _timm(architecture: Architecture) -> dict[str, str]:
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    for block in efficientnet_blocks(architecture):
        ours, theirs = block.name, f"blocks.{block.stage}.{block.number}"
        expands = block.hidden != block.channels
        if expands:
            names |= {f"{ours}._expand_conv": f"{theirs}.conv_pw", f"{ours}._bn0": f"{theirs}.bn1"}
        names |= {  # without expansion, `conv_pw` is the projection
            f"{ours}._depthwise_conv": f"{theirs}.conv_dw",
            f"{ours}._bn1": f"{theirs}.bn{2 if expands else 1}",
            f"{ours}._se_reduce": f"{theirs}.se.conv_reduce",
            f"{ours}._se_expand": f"{theirs}.se.conv_expand",
            f"{ours}._project_conv": f"{theirs}.{'conv_pwl' if expands else 'conv_pw'}",
            f"{ours}._bn2": f"{theirs}.bn{3 if expands else 2}",
        }
    return names | {"_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def _resnet(architecture: Architecture, num_outputs: int) -> list[Layer]:
    table, channels = [_conv("conv1", 64, 3, 7), _batch_norm("bn1", 64)], 64
    for block in resnet_blocks(architecture):
        channels = block.channels
        for number, (out, kernel) in enumerate(block.convolutions, 1):
            table += [_conv(f"{block.name}.conv{number}", out, channels, kernel)]
            table += [_batch_norm(f"{block.name}.bn{number}", out)]
            channels = out
        if block.projects:
            table += [_conv(f"{block.name}.downsample.0", channels, block.channels, 1)]
            table += [_batch_norm(f"{block.name}.downsample.1", channels)]
    return [*table, _dense("fc", num_outputs, channels)]


def _efficientnet(architecture: Architecture, num_outputs: int) -> list[Layer]:
    width = EFFICIENTNETS[architecture][0]
    blocks, stem, head = efficientnet_blocks(architecture), scaled(32, width), scaled(1280, width)
    table = [_conv("_conv_stem", stem, 3, 3), _batch_norm("_bn0", stem)]
    for block in blocks:
        name, hidden = block.name, block.hidden
        if hidden != block.channels:
            table += [_conv(f"{name}._expand_conv", hidden, block.channels, 1), _batch_norm(f"{name}._bn0", hidden)]
        table += [_conv(f"{name}._depthwise_conv", hidden, 1, block.kernel), _batch_norm(f"{name}._bn1", hidden)]
        table += [_conv(f"{name}._se_reduce", block.squeezed, hidden, 1, bias=True)]
        table += [_conv(f"{name}._se_expand", hidden, block.squeezed, 1, bias=True)]
        table += [_conv(f"{name}._project_conv", block.out, hidden, 1), _batch_norm(f"{name}._bn2", block.out)]
    table += [_conv("_conv_head", head, blocks[-1].out, 1), _batch_norm("_bn1", head)]
    return [*table, _dense("_fc", num_outputs, head)]


def _conv(name: str, out: int, inputs_per_group: int, kernel: int, bias: bool = False) -> Layer:
    shapes: dict[str, tuple[int, ...]] = {"weight": (out, inputs_per_group, kernel, kernel)}
    return Layer(name, "conv", shapes | ({"bias": (out,)} if bias else {}))


def _batch_norm(name: str, channels: int) -> Layer:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return Layer(name, "batch_norm", dict.fromkeys(vectors, (channels,)) | {"num_batches_tracked": ()})


def _dense(name: str, out: int, inputs: int) -> Layer:
    return Layer(name, "dense", {"weight": (out, inputs), "bias": (out,)})

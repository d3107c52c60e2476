"""What the tensors of each architecture are called in PyTorch, and their shapes: tables from short loops, no torch.

Layer names are those of torchvision for ResNet-50 and those of `efficientnet_pytorch` for EfficientNet-B0. The Flax
variables carry the same names. torchvision names EfficientNet-B0 differently; `torchvision_b0_names` maps them.
"""

from typing import Literal, NamedTuple

from tffjax.errors import InputError

Architecture = str  # as on a card; `layers` refuses those of which there is no table
Convention = Literal["torchvision", "efficientnet_pytorch"]

RESNET50_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride
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


class Bottleneck(NamedTuple):
    """A block of ResNet-50: `channels` in, `4 * width` out; its first one in a stage projects the shortcut."""

    name: str
    channels: int
    width: int
    stride: int
    projects: bool


class MBConv(NamedTuple):
    """A block of EfficientNet-B0: expand to `hidden` channels, depthwise conv, squeeze-excite, project."""

    name: str
    torchvision_name: str
    channels: int
    hidden: int
    squeezed: int
    out: int
    kernel: int
    stride: int


def resnet50_blocks() -> list[Bottleneck]:
    """The 16 blocks of ResNet-50 in order."""
    blocks, channels = [], 64
    for stage, (width, count, stride) in enumerate(RESNET50_STAGES, 1):
        for i in range(count):
            first = i == 0
            blocks.append(Bottleneck(f"layer{stage}.{i}", channels, width, stride if first else 1, first))
            channels = 4 * width
    return blocks


def b0_blocks() -> list[MBConv]:
    """The 16 blocks of EfficientNet-B0 in order."""
    blocks: list[MBConv] = []
    for stage, (count, kernel, stride, expansion, channels_in, out) in enumerate(B0_STAGES, 1):
        for i in range(count):
            channels = out if i else channels_in
            blocks.append(
                MBConv(
                    name=f"_blocks.{len(blocks)}",
                    torchvision_name=f"features.{stage}.{i}.block",
                    channels=channels,
                    hidden=channels * expansion,
                    squeezed=channels // 4,
                    out=out,
                    kernel=kernel,
                    stride=1 if i else stride,
                )
            )
    return blocks


def layers(architecture: Architecture, num_outputs: int) -> list[Layer]:
    """The layers of a network in state-dict order.

    Raises:
        InputError: a network of which this module has no table.
    """
    if architecture not in _LAYERS:
        raise InputError(f"{architecture} networks cannot be converted or verified, only {', '.join(_LAYERS)}")
    return _LAYERS[architecture](num_outputs)


def tensor_shapes(architecture: Architecture, convention: Convention, num_outputs: int) -> dict[str, tuple[int, ...]]:
    """The keys of a PyTorch state dict and the shapes of their tensors, in state-dict order."""
    return {
        f"{torch_name(layer.name, architecture, convention)}.{tensor}": shape
        for layer in layers(architecture, num_outputs)
        for tensor, shape in layer.shapes.items()
    }


def torch_name(layer: str, architecture: Architecture, convention: Convention) -> str:
    """What `layer` is called in a state dict of that convention."""
    if architecture == "efficientnet_b0" and convention == "torchvision":
        return torchvision_b0_names()[layer]
    return layer


def torchvision_b0_names() -> dict[str, str]:
    """EfficientNet-B0's layers: `efficientnet_pytorch` name -> torchvision name."""
    names = {"_conv_stem": "features.0.0", "_bn0": "features.0.1"}
    for block in b0_blocks():
        ours, theirs, position = block.name, block.torchvision_name, 0
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


def _resnet50(num_outputs: int) -> list[Layer]:
    table = [_conv("conv1", 64, 3, 7), _batch_norm("bn1", 64)]
    for name, channels, width, _, projects in resnet50_blocks():
        table += [_conv(f"{name}.conv1", width, channels, 1), _batch_norm(f"{name}.bn1", width)]
        table += [_conv(f"{name}.conv2", width, width, 3), _batch_norm(f"{name}.bn2", width)]
        table += [_conv(f"{name}.conv3", 4 * width, width, 1), _batch_norm(f"{name}.bn3", 4 * width)]
        if projects:
            table += [_conv(f"{name}.downsample.0", 4 * width, channels, 1)]
            table += [_batch_norm(f"{name}.downsample.1", 4 * width)]
    return [*table, _dense("fc", num_outputs, 2048)]


def _efficientnet_b0(num_outputs: int) -> list[Layer]:
    table = [_conv("_conv_stem", 32, 3, 3), _batch_norm("_bn0", 32)]
    for block in b0_blocks():
        name, hidden = block.name, block.hidden
        if hidden != block.channels:
            table += [_conv(f"{name}._expand_conv", hidden, block.channels, 1), _batch_norm(f"{name}._bn0", hidden)]
        table += [_conv(f"{name}._depthwise_conv", hidden, 1, block.kernel), _batch_norm(f"{name}._bn1", hidden)]
        table += [_conv(f"{name}._se_reduce", block.squeezed, hidden, 1, bias=True)]
        table += [_conv(f"{name}._se_expand", hidden, block.squeezed, 1, bias=True)]
        table += [_conv(f"{name}._project_conv", block.out, hidden, 1), _batch_norm(f"{name}._bn2", block.out)]
    table += [_conv("_conv_head", 1280, 320, 1), _batch_norm("_bn1", 1280)]
    return [*table, _dense("_fc", num_outputs, 1280)]


def _conv(name: str, out: int, inputs_per_group: int, kernel: int, bias: bool = False) -> Layer:
    shapes: dict[str, tuple[int, ...]] = {"weight": (out, inputs_per_group, kernel, kernel)}
    return Layer(name, "conv", shapes | ({"bias": (out,)} if bias else {}))


def _batch_norm(name: str, channels: int) -> Layer:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return Layer(name, "batch_norm", dict.fromkeys(vectors, (channels,)) | {"num_batches_tracked": ()})


def _dense(name: str, out: int, inputs: int) -> Layer:
    return Layer(name, "dense", {"weight": (out, inputs), "bias": (out,)})


_LAYERS = {"resnet50": _resnet50, "efficientnet_b0": _efficientnet_b0}

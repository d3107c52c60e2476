"""The PyTorch twins of the generators: each public port as it computes, with its own names of tensors.

Inference only, NCHW; latents are (n, latent), images (n, 3, s, s) in about [-1, 1]. Written from what ports compute, in
their order: scales at runtime, fused kernels as transposed convolutions. `Plain` has the folded kernels of a
converted generator.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tffjax.conversion import progan
from torch import nn
from torch.nn import functional as F

from tffjax.errors import InputError
from tffjax.nn.generator import GeneratorCard


def pixel_norm(x: torch.Tensor, epsilon: float = 1e-8) -> torch.Tensor:
    """Divide by the root of the mean square over the channels."""
    return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + epsilon)


def twice(x: torch.Tensor) -> torch.Tensor:
    """Nearest up-sampling."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def lrelu(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU."""
    return F.leaky_relu(x, 0.2)


def _shapes(latent: int, widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(inputs, outputs, kernel) of every layer."""
    before = [latent, widths[0], *(w for width in itertools.pairwise(widths) for w in width)]
    after = [w for width in widths for w in (width, width)]
    return [(i, o, 4 if n == 0 else 3) for n, (i, o) in enumerate(zip(before, after, strict=True))]


class _Scale(nn.Module):
    """x * scale + bias, the bias named as the port has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float, name: str) -> None:
        super().__init__()
        self.scale, self.name = gain / math.sqrt(inputs * kernel * kernel), name
        self.register_parameter(name, nn.Parameter(torch.randn(outputs)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + getattr(self, self.name)[:, None, None]


class _Block(nn.Module):
    """Pixel norm, up-sampling, convolution, scale, activation: GAN Dissection's and interfacegan's."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        bias: str,
        up: bool = False,
        fused: bool = False,
        rgb: bool = False,
    ) -> None:
        super().__init__()
        self.up, self.rgb, self.padding = up, rgb, {4: 3, 3: 1, 1: 0}[kernel]
        if fused:
            self.weight = nn.Parameter(torch.randn(kernel, kernel, inputs, outputs))
        else:
            self.conv = nn.Conv2d(inputs, outputs, kernel, padding=self.padding, bias=False)
            nn.init.normal_(self.conv.weight)
        self.wscale = _Scale(inputs, outputs, kernel, 1.0 if rgb else math.sqrt(2), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = pixel_norm(x)
        if hasattr(self, "conv"):
            x = self.conv(twice(x) if self.up else x)
        else:
            kernel = F.pad(self.weight * self.wscale.scale, (0, 0, 0, 0, 1, 1, 1, 1))
            kernel = kernel[1:, 1:] + kernel[:-1, 1:] + kernel[1:, :-1] + kernel[:-1, :-1]
            x = F.conv_transpose2d(x, kernel.permute(2, 3, 0, 1), stride=2, padding=1) / self.wscale.scale
        x = self.wscale(x)
        return x if self.rgb else lrelu(x)


class Blocks(nn.Module):
    """GAN Dissection's generator in both spellings, and both of interfacegan's.

    Args:
        latent: length of latents.
        widths: channels at 4x4, 8x8, ...
        bias: `b` or `bias`.
        names: of the i-th layer, and of the last one for so many scales.
        fused: up-sampling is part of the kernels.
        all_rgb: RGB layers of every scale are there, and `lod`.
    """

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        bias: str,
        names: tuple[Callable[[int], str], Callable[[int], str]],
        fused: bool = False,
        all_rgb: bool = False,
    ) -> None:
        """Random weights, in eval mode."""
        super().__init__()
        self.paths = []
        for i, (inputs, outputs, kernel) in enumerate(_shapes(latent, widths)):
            up = i > 1 and i % 2 == 0
            self._add(names[0](i), _Block(inputs, outputs, kernel, bias, up, fused and up))
        for scale in range(1 if all_rgb else len(widths), len(widths) + 1):
            last = names[1](scale)
            self._add(last, _Block(widths[scale - 1], 3, 1, bias, rgb=True))
        self.used = [*self.paths[: 2 * len(widths)], last]
        if all_rgb:
            self.lod = nn.Parameter(torch.zeros(()))
        self.eval()

    def _add(self, path: str, block: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        if parent and not hasattr(self, parent):
            self.add_module(parent, nn.Module())
        self.get_submodule(parent).add_module(child, block)
        self.paths.append(path)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generate images."""
        x = z[:, :, None, None]
        for path in self.used:
            x = self.get_submodule(path)(x)
        return x


class _GenforceBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, up: bool, fused: bool, rgb: bool = False) -> None:
        super().__init__()
        self.up, self.fused, self.rgb, self.padding = up, fused, rgb, {4: 3, 3: 1, 1: 0}[kernel]
        shape = (inputs, outputs) if fused else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(*shape, kernel, kernel))
        self.bias = nn.Parameter(torch.randn(outputs))
        self.scale = (1.0 if rgb else math.sqrt(2)) / math.sqrt(inputs * kernel * kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, weight = pixel_norm(x), self.weight * self.scale
        if self.fused:
            weight = F.pad(weight, (1, 1, 1, 1))
            weight = weight[..., 1:, 1:] + weight[..., :-1, 1:] + weight[..., 1:, :-1] + weight[..., :-1, :-1]
            x = F.conv_transpose2d(x, weight, self.bias, stride=2, padding=1)
        else:
            x = F.conv2d(twice(x) if self.up else x, weight, self.bias, padding=self.padding)
        return x if self.rgb else lrelu(x)


class Genforce(nn.Module):
    """The generator of genforce and SeFa; arguments as of `Blocks`."""

    def __init__(self, latent: int, widths: Sequence[int], fused: bool = False) -> None:
        """Random weights, in eval mode."""
        super().__init__()
        self.layers = 2 * len(widths)
        for i, (inputs, outputs, kernel) in enumerate(_shapes(latent, widths)):
            up = i > 1 and i % 2 == 0
            self.add_module(f"layer{i}", _GenforceBlock(inputs, outputs, kernel, up, fused and up))
        for scale, width in enumerate(widths):
            self.add_module(f"output{scale}", _GenforceBlock(width, 3, 1, False, False, rgb=True))
        self.register_buffer("lod", torch.zeros(()))
        self.eval()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generate images."""
        x = (pixel_norm(z) * math.sqrt(z.shape[1]))[:, :, None, None]
        for i in range(self.layers):
            x = self.get_submodule(f"layer{i}")(x)
        return self.get_submodule(f"output{self.layers // 2 - 1}")(x)


class _Constrained(nn.Module):
    """(W x + b) * sqrt(2 / fan in)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
        self.factor = math.sqrt(2 / math.prod(module.weight.shape[1:]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x) * self.factor


class GanZoo(nn.Module):
    """The generator of pytorch_GAN_zoo; arguments as of `Blocks`."""

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        """Random weights, in eval mode."""
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int = 3) -> _Constrained:
            return _Constrained(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))

        self.formatLayer = _Constrained(nn.Linear(latent, 16 * widths[0]))
        self.groupScale0 = nn.ModuleList([conv(widths[0], widths[0])])
        pairs = itertools.pairwise(widths)
        self.scaleLayers = nn.ModuleList(nn.ModuleList([conv(a, b), conv(b, b)]) for a, b in pairs)
        self.toRGBLayers = nn.ModuleList(conv(width, 3, 1) for width in widths)
        self.eval()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generate images."""
        x = lrelu(self.formatLayer(pixel_norm(z)))
        x = pixel_norm(x.view(len(x), -1, 4, 4))
        x = pixel_norm(lrelu(self.groupScale0[0](x)))
        for scale in self.scaleLayers:
            x = twice(x)
            for layer in scale:
                x = pixel_norm(lrelu(layer(x)))
        return self.toRGBLayers[-1](x)


class _Equalized(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, transposed: bool = False) -> None:
        super().__init__()
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.weight, self.bias = nn.Parameter(torch.randn(*shape, kernel, kernel)), nn.Parameter(torch.randn(outputs))
        self.transposed = transposed
        self.scale = math.sqrt(2) / math.sqrt(inputs * (1 if transposed else kernel**2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.transposed:
            return F.conv_transpose2d(x, self.weight * self.scale, self.bias)
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class _Pair(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = first, second


class Akanimax(nn.Module):
    """The generator of pro_gan_pytorch 3; arguments as of `Blocks`."""

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        """Random weights, in eval mode."""
        super().__init__()
        first = _Pair(_Equalized(latent, widths[0], 4, transposed=True), _Equalized(widths[0], widths[0], 3))
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList([first, *(_Pair(_Equalized(a, b, 3), _Equalized(b, b, 3)) for a, b in pairs)])
        self.rgb_converters = nn.ModuleList(_Equalized(width, 3, 1) for width in widths)
        self.eval()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generate images."""
        x = pixel_norm(z[:, :, None, None])
        x = pixel_norm(lrelu(self.layers[0].conv_2(lrelu(self.layers[0].conv_1(x)))))
        for pair in self.layers[1:]:
            x = pixel_norm(lrelu(pair.conv_1(twice(x))))
            x = pixel_norm(lrelu(pair.conv_2(x)))
        return self.rgb_converters[-1](x)


class Plain(nn.Module):
    """A converted generator: folded kernels, as its card says."""

    def __init__(self, variables: Mapping[str, Any], card: GeneratorCard) -> None:
        """Take the variables over."""
        super().__init__()
        self.card, self.outputs = card, dict[str, torch.Tensor]()
        for name, layer in variables["params"].items():
            kernel = np.array(layer["kernel"]).transpose((2, 3, 0, 1) if name == "4x4.dense" else (3, 2, 0, 1))
            bias = np.array(layer["bias"])
            self.register_buffer(f"{name}.kernel".replace(".", "_"), torch.tensor(np.ascontiguousarray(kernel)))
            self.register_buffer(f"{name}.bias".replace(".", "_"), torch.tensor(bias.reshape(-1, bias.shape[-1]).T))
        self.eval()

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        kernel, bias = (self.get_buffer(f"{name}.{what}".replace(".", "_")) for what in ("kernel", "bias"))
        y = F.conv_transpose2d(x, kernel) if name == "4x4.dense" else F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        y = y + (bias[:, :, None] if bias.shape[1] == 1 else bias.reshape(-1, 4, 4))
        self.outputs[name] = y
        return y

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generate images; `outputs` keeps the output of every layer."""
        x = z[:, :, None, None]
        for epsilon in self.card.latent_norms:
            x = pixel_norm(x, epsilon)
        x = lrelu(self._layer("4x4.dense", x))
        x = pixel_norm(x) if self.card.norm_after_dense else x
        x = pixel_norm(lrelu(self._layer("4x4.conv", x)))
        for scale in range(1, len(self.card.widths)):
            size = 4 * 2**scale
            x = pixel_norm(lrelu(self._layer(f"{size}x{size}.conv0", twice(x))))
            x = pixel_norm(lrelu(self._layer(f"{size}x{size}.conv1", x)))
        return self._layer("rgb", x)


def twin_of(state_dict: Mapping[str, np.ndarray]) -> nn.Module:
    """The port that a state dict belongs to, with these weights, loaded strictly.

    Raises:
        InputError: as `tffjax.conversion.progan.to_flax`.
    """
    _, card = progan.to_flax(state_dict)
    arrays = {key.removeprefix("module."): array for key, array in state_dict.items()}
    layout = progan.recognize(arrays)
    count = 2 * len(card.widths)
    fused = progan.is_fused(arrays, layout, count)
    if layout.port == "genforce":
        net = Genforce(card.latent, card.widths, fused)
        arrays = {"lod": np.zeros(()), **arrays}
    elif layout.port == "gan-zoo":
        net = GanZoo(card.latent, card.widths)
        names = {key.replace(".module.", "."): key for key in net.state_dict()}
        arrays = {names.get(key.replace(".module.", "."), key): array for key, array in arrays.items()}
    elif layout.port == "akanimax":
        net = Akanimax(card.latent, card.widths)
    else:
        names, bias = (layout.layer, layout.rgb), layout.bias.rpartition(".")[2]
        net = Blocks(card.latent, card.widths, bias, names, fused, all_rgb="lod" in layout.others)
        if "lod" in layout.others:
            arrays = {"lod": np.zeros(()), **arrays}
    tensors = {key: torch.tensor(np.array(array)) for key, array in arrays.items()}
    net = net.to(next(tensor.dtype for key, tensor in tensors.items() if key.endswith("weight")))
    try:
        net.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"the generator's tensors do not fit its port ({str(error).splitlines()[-1].strip()})"
        ) from None
    return net

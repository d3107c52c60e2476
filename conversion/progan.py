"""State dicts of public ProGAN ports as Flax variables, without PyTorch.

- `gandissect`, GAN Dissection and GANSpace: `layer1.conv.weight`, once `features.0.conv.weight`.
- `interfacegan`: the same with `wscale.bias`; later from `layer0` on; kernels may be fused.
- `genforce`, also SeFa: `layer0.weight`; the latent is normalized twice, kernels may be fused.
- `gan-zoo`, pytorch_GAN_zoo: `formatLayer.weight`; a bias at every position of 4x4, and biases are scaled, too.
- `akanimax`, pro_gan_pytorch 3: `layers.0.conv_1.weight`; no pixel norm between the layers of 4x4.

Kernels are w * gain / sqrt(fan in); the gain is sqrt(2), and 1 for RGB but in the last two ports. A fused kernel is
that of a transposed convolution with stride 2 with taps summed up: nearest up-sampling and the flipped kernel.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from tffjax.errors import InputError
from tffjax.nn.generator import GeneratorCard
from tffjax.nn.progan import EPSILON

MOST_LATENT = 512
"""Generators that read more numbers read a label, too."""

Port = Literal["gandissect", "interfacegan", "genforce", "gan-zoo", "akanimax"]


class Layout(NamedTuple):
    """How a port names its tensors.

    Attributes:
        port: which one.
        layer: of the i-th layer, without `weight` and `bias`.
        rgb: of the finest RGB layer of a generator of so many scales.
        weight, bias: what stands behind these names.
        others: pattern of keys that may be there and are not needed.
    """

    port: Port
    layer: Any
    rgb: Any
    weight: str
    bias: str
    others: str = "(?!)"


def _output(scales: int) -> str:
    return f"output_{2 * 2**scales}x{2 * 2**scales}"


def _zoo(i: int) -> str:
    return ("formatLayer", "groupScale0.0")[i] if i < 2 else f"scaleLayers.{i // 2 - 1}.{i % 2}"


_LAYOUTS = (
    Layout("gandissect", lambda i: f"layer{i + 1}", _output, ".conv.weight", ".wscale.b"),
    Layout("gandissect", lambda i: f"features.{i}", lambda scales: "output", ".conv.weight", ".wscale.b"),
    Layout(
        "interfacegan",
        lambda i: f"layer{i}",
        lambda scales: f"output{scales - 1}",
        ".conv.weight",
        ".wscale.bias",
        r"lod|output\d+\.(conv\.weight|wscale\.bias)",
    ),
    Layout(
        "interfacegan", lambda i: f"layer{i + 1}", _output, ".conv.weight", ".wscale.bias"
    ),  # behind the later one, which has layer1, too
    Layout(
        "genforce",
        lambda i: f"layer{i}",
        lambda scales: f"output{scales - 1}",
        ".weight",
        ".bias",
        r"lod|output\d+\.(weight|bias)",
    ),
    Layout("gan-zoo", _zoo, lambda scales: f"toRGBLayers.{scales - 1}", ".weight", ".bias", r"toRGBLayers\.\d+\..*"),
    Layout(
        "akanimax",
        lambda i: f"layers.{i // 2}.conv_{i % 2 + 1}",
        lambda scales: f"rgb_converters.{scales - 1}",
        ".weight",
        ".bias",
        r"rgb_converters\.\d+\..*",
    ),
)

_REFUSED = {
    r"from_?rgb|fromRGBLayers|input\d+\.": "a discriminator; give the generator",
    r"noise2feat|torgb_layers": "mmgeneration's generator, whose fused layers have another scale: not supported",
    r"progression|to_rgb_": "rosinality's generator, which normalizes before the leaky ReLU: not supported",
}


def recognize(keys: Any) -> Layout | None:
    """The layout of a state dict; None for one that is no ProGAN.

    Raises:
        InputError: it is a network of a GAN that cannot be converted.
    """
    names = set(map(_plain, keys))
    for pattern, what in _REFUSED.items():
        if any(re.match(pattern, name) for name in names):
            raise InputError(f"this is {what}")
    return next((layout for layout in _LAYOUTS if {layout.layer(0) + layout.weight,
                                                   layout.layer(1) + layout.bias} <= names), None)  # fmt: skip


def to_flax(state_dict: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], GeneratorCard]:
    """Turn the state dict of a port into Flax variables, the equalized learning rate folded in.

    Returns:
        variables: of `tffjax.nn.progan.ProGAN`, in the type of the state dict; computed in float64.
        card: without names and hashes.

    Raises:
        InputError: it is none, keys or shapes are wrong, values are not finite; or a discriminator, half-grown,
            label-conditional, gray.
    """
    arrays = {_plain(key): np.asarray(array) for key, array in state_dict.items()}
    layout = recognize(arrays)
    if layout is None:
        known = ", ".join(dict.fromkeys(layout.port for layout in _LAYOUTS))
        raise InputError(f"these are not the weights of a ProGAN of {known}; the keys begin {', '.join([*arrays][:3])}")
    if (lod := float(arrays.get("lod", 0))) != 0:
        raise InputError(f"the generator is half-grown (lod {lod:g}); only fully grown ones are converted")
    layers = _count(arrays, layout)
    fused = is_fused(arrays, layout, layers)
    names = [layout.layer(i) for i in range(layers)]
    _check_keys(arrays, layout, names, fused)
    params, widths, read = {}, [], None
    for i, name in enumerate(names):
        kernel = _kernel(arrays[_weight_key(layout, name, arrays)].astype(np.float64), layout.port, i, fused)
        if read is not None and kernel.shape[2] != read:
            raise InputError(f"{name} reads {kernel.shape[2]} channels, but the layer before it has {read}")
        read = kernel.shape[3]
        if i % 2 == 0:
            widths.append(read)
        bias = arrays[name + layout.bias].astype(np.float64)
        params[_flax_name(i)] = _scaled(kernel, bias, layout.port, i)
    rgb = layout.rgb(layers // 2)
    kernel = arrays[rgb + layout.weight].astype(np.float64).transpose(2, 3, 1, 0)
    if kernel.shape != (1, 1, read, 3):
        raise InputError(f"{rgb} makes {kernel.shape[3]} colors of {kernel.shape[2]} channels, not 3 of {read}")
    params["rgb"] = _scaled(kernel, arrays[rgb + layout.bias].astype(np.float64), layout.port, None)
    latent = params["4x4.dense"]["kernel"].shape[2]
    if latent > MOST_LATENT:
        raise InputError(
            f"the generator reads {latent} numbers, so it takes a label: label-conditional ones are refused"
        )
    card = GeneratorCard(
        latent,
        tuple(widths),
        latent_norms=(EPSILON, EPSILON / latent) if layout.port == "genforce" else (EPSILON,),
        norm_after_dense=layout.port != "akanimax",
        bias_by_position=layout.port == "gan-zoo",
    )
    dtype = arrays[rgb + layout.weight].dtype
    return {"params": {n: {k: a.astype(dtype) for k, a in layer.items()} for n, layer in params.items()}}, card


def _plain(key: str) -> str:
    """A key without the wrappers' names."""
    return key.removeprefix("module.").replace(".module.", ".")


def _flax_name(i: int) -> str:
    size = 4 * 2 ** (i // 2)
    return ("4x4.dense", "4x4.conv")[i] if i < 2 else f"{size}x{size}.conv{i % 2}"


def _weight_key(layout: Layout, name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Fused kernels of interfacegan have another name."""
    key = name + layout.weight
    return name + ".weight" if layout.port == "interfacegan" and key not in arrays else key


def _count(arrays: Mapping[str, np.ndarray], layout: Layout) -> int:
    count = 0
    while layout.layer(count) + layout.bias in arrays:
        count += 1
    if count % 2:
        raise InputError(f"the last scale is not whole: {layout.layer(count)} is missing")
    return count


def is_fused(arrays: Mapping[str, np.ndarray], layout: Layout, layers: int) -> bool:
    """Whether kernels of up-sampling layers are those of transposed convolutions: all of a generator, or none.

    Raises:
        InputError: the shapes do not tell.
    """
    if layout.port == "interfacegan":
        return any(f"{layout.layer(i)}.weight" in arrays for i in range(2, layers, 2))
    if layout.port != "genforce" or layers < 4:
        return False
    outputs = [arrays[layout.layer(i) + layout.bias].shape[0] for i in range(layers)]
    for i in range(2, layers, 2):
        if outputs[i] != outputs[i - 1]:
            weight = arrays.get(layout.layer(i) + layout.weight)
            return weight is not None and weight.shape[0] != outputs[i]
    raise InputError(
        "all layers of this genforce generator have one width, so its shapes do not tell whether up-sampling is fused "
        "into its kernels (fused_scale): not converted, rather than perhaps wrong"
    )


def _check_keys(arrays: Mapping[str, np.ndarray], layout: Layout, names: list[str], fused: bool) -> None:
    rgb = layout.rgb(len(names) // 2)
    needed = {_weight_key(layout, name, arrays) for name in names} | {name + layout.bias for name in (*names, rgb)}
    needed |= {rgb + layout.weight}
    faults = {
        "missing keys": sorted(needed - arrays.keys()),
        "unexpected keys": sorted(key for key in arrays.keys() - needed if not re.fullmatch(layout.others, key)),
        "not finite": sorted(key for key in needed & arrays.keys() if not np.isfinite(arrays[key]).all()),
        "wrong shapes": sorted(_wrong_shapes(arrays, layout, names, fused)),
    }
    if any(faults.values()):
        raise InputError(
            f"this generator ({layout.port}) cannot be converted"
            + "".join(f"\n  {kind} ({len(items)}): {', '.join(items)}" for kind, items in faults.items() if items)
        )


def _wrong_shapes(arrays: Mapping[str, np.ndarray], layout: Layout, names: list[str], fused: bool) -> list[str]:
    """Keys whose tensor is no kernel of its layer, or no bias of its width."""
    wrong = []
    for i, name in enumerate(names):
        key, bias = _weight_key(layout, name, arrays), name + layout.bias
        if key not in arrays or bias not in arrays:
            continue
        size = (4, 4) if i == 0 else (3, 3)
        try:
            shape = _kernel(arrays[key], layout.port, i, fused).shape
        except (ValueError, IndexError):
            shape = ()
        width = arrays[bias].size // (16 if i == 0 and layout.port == "gan-zoo" else 1)
        if len(shape) != 4 or shape[:2] != size or shape[3] != width or arrays[bias].ndim != 1:
            wrong.append(f"{key} {arrays[key].shape} with {bias} {arrays[bias].shape}")
    return wrong


def _kernel(weight: np.ndarray, port: Port, i: int, fused: bool) -> np.ndarray:
    """The kernel of the i-th layer, HWIO: of a transposed convolution for the first one, else of a convolution."""
    if i == 0 and port == "gan-zoo":
        return weight.reshape(-1, 4, 4, weight.shape[1]).transpose(1, 2, 3, 0)
    if i == 0 and port == "akanimax":
        return weight.transpose(2, 3, 0, 1)
    if i == 0:  # a convolution of a 1x1 map with padding 3
        return weight.transpose(2, 3, 1, 0)[::-1, ::-1]
    if fused and i % 2 == 0:
        return (weight if port == "interfacegan" else weight.transpose(2, 3, 0, 1))[::-1, ::-1]
    return weight.transpose(2, 3, 1, 0)


def _scaled(kernel: np.ndarray, bias: np.ndarray, port: Port, i: int | None) -> dict[str, np.ndarray]:
    """Kernel and bias as they are used; `i` is None for RGB."""
    own = port in ("gan-zoo", "akanimax")
    taps = 1 if i == 0 and own else kernel.shape[0] * kernel.shape[1]
    gain = 1.0 if i is None and not own else np.sqrt(2)
    scale = gain / np.sqrt(kernel.shape[2] * taps)
    if port == "gan-zoo":
        bias = bias * scale
        bias = bias.reshape(-1, 4, 4).transpose(1, 2, 0) if i == 0 else bias
    return {"kernel": np.ascontiguousarray(kernel * scale), "bias": np.ascontiguousarray(bias)}

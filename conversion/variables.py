"""State dicts of PyTorch networks as Flax variables, without PyTorch.

Torch convolution weights are OIHW, Flax kernels HWIO (depthwise too, where I = 1); torch dense weights are (out, in),
Flax kernels (in, out).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from tffjax.conversion import names

from tffjax.errors import InputError

Variables = Mapping[str, Mapping[str, Mapping[str, Any]]]

FLAX = {
    "conv": {"weight": ("params", "kernel"), "bias": ("params", "bias")},
    "dense": {"weight": ("params", "kernel"), "bias": ("params", "bias")},
    "batch_norm": {
        "weight": ("params", "scale"),
        "bias": ("params", "bias"),
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    },
}
COUNTER = "num_batches_tracked"


class Layout(NamedTuple):
    """Which network a state dict belongs to: `padding` and `epsilon` follow from the library that named the keys."""

    architecture: names.Architecture
    padding: Literal["same", "symmetric"]
    epsilon: float
    convention: names.Convention


class Facts(NamedTuple):
    """A `Layout`, and how many outputs the last layer has."""

    architecture: names.Architecture
    padding: Literal["same", "symmetric"]
    epsilon: float
    convention: names.Convention
    num_outputs: int


_LAYOUTS = (
    Layout("resnet50", "symmetric", 1e-5, "torchvision"),
    Layout("efficientnet_b0", "same", 1e-3, "efficientnet_pytorch"),
    Layout("efficientnet_b0", "symmetric", 1e-5, "torchvision"),
)


def recognize(state_dict: Mapping[str, np.ndarray]) -> Layout:
    """Tell the network and its naming convention from the keys: the layout that shares most of them, at least half.

    Raises:
        InputError: the keys are those of no supported network.
    """

    def shared(layout: Layout) -> float:
        wanted = names.tensor_shapes(layout.architecture, layout.convention, 1)
        return len(wanted.keys() & state_dict.keys()) / len(wanted)

    best = max(_LAYOUTS, key=shared)
    if shared(best) < 0.5:
        raise InputError(
            "these are not the weights of a supported network (ResNet-50 with torchvision's key names, EfficientNet-B0 "
            f"with those of efficientnet_pytorch or torchvision); the keys begin {', '.join(list(state_dict)[:3])}"
        )
    return best


def to_flax(state_dict: Mapping[str, np.ndarray]) -> tuple[dict[str, dict[str, dict[str, np.ndarray]]], Facts]:
    """Turn a state dict into Flax variables.

    Returns:
        variables: `{"params": {layer: {"kernel" | "scale" | "bias": array}}, "batch_stats": {layer: {"mean", "var"}}}`,
            float32, layers named as in `tffjax.conversion.names`; `num_batches_tracked` is left out.
        facts: what the network is.

    Raises:
        InputError: keys are missing or unexpected, shapes are wrong, or values are not finite; the message lists all.
    """
    layout = recognize(state_dict)
    architecture, convention = layout.architecture, layout.convention
    facts = Facts(*layout, num_outputs=_num_outputs(state_dict, layout))
    _check(state_dict, facts)

    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "batch_stats": {}}
    for layer in names.layers(architecture, facts.num_outputs):
        source = names.torch_name(layer.name, architecture, convention)
        for tensor in layer.shapes:
            if tensor != COUNTER:
                collection, name = FLAX[layer.kind][tensor]
                array = np.asarray(state_dict[f"{source}.{tensor}"], np.float32)
                variables[collection].setdefault(layer.name, {})[name] = swap(array, (2, 3, 1, 0))
    return variables, facts


def _num_outputs(state_dict: Mapping[str, np.ndarray], layout: Layout) -> int:
    last = names.torch_name(names.layers(layout.architecture, 1)[-1].name, layout.architecture, layout.convention)
    arrays = (state_dict.get(f"{last}.{tensor}") for tensor in ("weight", "bias"))
    return next((array.shape[0] for array in arrays if array is not None and array.ndim), 1)


def _check(state_dict: Mapping[str, np.ndarray], facts: Facts) -> None:
    wanted = names.tensor_shapes(facts.architecture, facts.convention, facts.num_outputs)
    # PyTorch before 0.4.1 kept no counters, and nothing here needs them
    needed = {key: shape for key, shape in wanted.items() if not key.endswith(COUNTER)}
    present = {key: state_dict[key] for key in needed if key in state_dict}
    faults = {
        "missing keys": [key for key in needed if key not in state_dict],
        "unexpected keys": [key for key in state_dict if key not in wanted],
        "not floating point": [f"{key} is {array.dtype}" for key, array in present.items() if array.dtype.kind != "f"],
        "wrong shapes": [
            f"{key} is {array.shape}, expected {wanted[key]}"
            for key, array in present.items()
            if array.shape != wanted[key]
        ],
        "non-finite values": [
            f"{key} ({count} of {array.size})"
            for key, array in present.items()
            if (count := array.size - np.count_nonzero(np.isfinite(array)))
        ],
    }
    if any(faults.values()):
        raise InputError(
            f"this {facts.architecture} checkpoint ({facts.convention} key names) cannot be converted"
            + "".join(f"\n  {kind} ({len(items)}): {', '.join(items)}" for kind, items in faults.items() if items)
        )


def swap(array: np.ndarray, axes: tuple[int, int, int, int]) -> np.ndarray:
    """Reorder a convolution kernel by `axes`, transpose a dense one, leave a vector."""
    if array.ndim < 2:
        return array
    return np.ascontiguousarray(array.transpose(axes) if array.ndim == 4 else array.T)

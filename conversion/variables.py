"""State dicts of PyTorch networks as Flax variables, without PyTorch.

Torch convolution weights are OIHW, Flax kernels HWIO (depthwise too, where I = 1); torch dense weights are (out, in),
Flax kernels (in, out).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tffjax.conversion import foreign, names
from tffjax.conversion.spelling import COUNTER, some, spelled

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


class Facts(NamedTuple):
    """What a state dict says of its network, and what was done to its keys, in words."""

    architecture: names.Architecture
    convention: names.Convention
    num_outputs: int
    notes: tuple[str, ...] = ()


def to_flax(
    state_dict: Mapping[str, np.ndarray], prefix: str | None = None
) -> tuple[dict[str, dict[str, dict[str, np.ndarray]]], Facts]:
    """Turn a state dict into Flax variables.

    Args:
        state_dict: key -> array in torch layout; keys may have a prefix.
        prefix: of the keys to take, where there are several networks.

    Returns:
        variables: `{"params": {layer: {"kernel" | "scale" | "bias": array}}, "batch_stats": {layer: {"mean", "var"}}}`,
            float32, layers named as in `tffjax.conversion.names`; `num_batches_tracked` is left out.
        facts: what the network is.

    Raises:
        InputError: keys are missing or unexpected, shapes are wrong, or values are not finite.
    """
    (architecture, convention), state, notes = spelled(state_dict, prefix)
    targets = names.torch_names(architecture, convention)
    num_outputs = _num_outputs(state, targets[names.layers(architecture, 1)[-1].name])
    facts = Facts(architecture, convention, num_outputs, notes)
    _check(state, facts)

    variables: dict[str, dict[str, dict[str, np.ndarray]]] = {"params": {}, "batch_stats": {}}
    for layer in names.layers(architecture, facts.num_outputs):
        for tensor in layer.shapes:
            if tensor != COUNTER:
                collection, name = FLAX[layer.kind][tensor]
                array = np.asarray(state[f"{targets[layer.name]}.{tensor}"], np.float32)
                variables[collection].setdefault(layer.name, {})[name] = swap(array, (2, 3, 1, 0))
    return variables, facts


def _num_outputs(state: Mapping[str, np.ndarray], head: str) -> int:
    arrays = (state.get(f"{head}.{tensor}") for tensor in ("weight", "bias"))
    return next((array.shape[0] for array in arrays if array is not None and array.ndim), 1)


def _check(state: Mapping[str, np.ndarray], facts: Facts) -> None:
    wanted = names.tensor_shapes(facts.architecture, facts.convention, facts.num_outputs)
    # PyTorch before 0.4.1 kept no counters, and nothing here needs them
    needed = {key: shape for key, shape in wanted.items() if not key.endswith(COUNTER)}
    present = {key: state[key] for key in needed if key in state}
    faults = {
        "missing keys": [key for key in needed if key not in state],
        "unexpected keys": [key for key in state if key not in wanted],
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
        kind = foreign.what_is(state)
        raise InputError(
            f"this {facts.architecture} checkpoint ({facts.convention} key names) cannot be converted"
            + (f": it is {kind}" if kind else "")
            + "".join(f"\n  {kind} ({len(items)}): {some(items)}" for kind, items in faults.items() if items)
        )


def swap(array: np.ndarray, axes: tuple[int, int, int, int]) -> np.ndarray:
    """Reorder a convolution kernel by `axes`, transpose a dense one, leave a vector."""
    if array.ndim < 2:
        return array
    return np.ascontiguousarray(array.transpose(axes) if array.ndim == 4 else array.T)

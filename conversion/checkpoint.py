"""PyTorch checkpoints to Flax variables and back.

Files are read with `torch.load(weights_only=True)` only: a checkpoint that would need anything else is refused, because
unpickling it could run any code. Arrays: torch convolution weights are OIHW, Flax kernels HWIO (depthwise too, where
I = 1); torch dense weights are (out, in), Flax kernels (in, out). The transposition back restores every bit.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from conversion import names
from tffjax.errors import InputError

Variables = Mapping[str, Mapping[str, Mapping[str, Any]]]

_FLAX = {
    "conv": {"weight": ("params", "kernel"), "bias": ("params", "bias")},
    "dense": {"weight": ("params", "kernel"), "bias": ("params", "bias")},
    "batch_norm": {
        "weight": ("params", "scale"),
        "bias": ("params", "bias"),
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    },
}
_COUNTER = "num_batches_tracked"


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


def read_state_dict(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Read the state dict in a checkpoint file, safely.

    The file holds a bare state dict, or one under `model` (as in the released checkpoints of Chandrasegaran et al.
    2022, where `optimizer` and `total_steps` may stand beside it) or `state_dict`. A `module.` prefix on every key, as
    `DataParallel` leaves it, is taken off. Floating-point tensors of any precision become float32.

    Returns:
        Key -> array in torch layout, in the order of the file.

    Raises:
        InputError: the file is missing or unreadable, not a torch file, damaged, needs unsafe unpickling, or holds no
            state dict.
    """
    tensors = _find_state_dict(_load(Path(path)), path)
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return {key: _to_numpy(tensor, key, path) for key, tensor in tensors.items()}


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
            float32, layers named as in `conversion.names`; `num_batches_tracked` is left out.
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
            if tensor != _COUNTER:
                collection, name = _FLAX[layer.kind][tensor]
                array = np.asarray(state_dict[f"{source}.{tensor}"], np.float32)
                variables[collection].setdefault(layer.name, {})[name] = _swap(array, (2, 3, 1, 0))
    return variables, facts


def to_torch(
    variables: Variables, architecture: names.Architecture, convention: names.Convention
) -> dict[str, torch.Tensor]:
    """Turn Flax variables back into a state dict that the PyTorch network loads strictly; the inverse of `to_flax`.

    Args:
        variables: as returned by `to_flax` (NumPy or JAX arrays).
        architecture: which network they belong to.
        convention: whose key names to write; ResNet-50 has torchvision's only.

    Returns:
        Key -> tensor in state-dict order, bit for bit what `to_flax` read; `num_batches_tracked` is int64 0.
    """
    num_outputs = variables["params"][names.layers(architecture, 1)[-1].name]["kernel"].shape[1]
    state_dict = {}
    for layer in names.layers(architecture, num_outputs):
        target = names.torch_name(layer.name, architecture, convention)
        for tensor in layer.shapes:
            if tensor == _COUNTER:
                state_dict[f"{target}.{tensor}"] = torch.tensor(0)
            else:
                collection, name = _FLAX[layer.kind][tensor]
                array = _swap(np.asarray(variables[collection][layer.name][name]), (3, 2, 0, 1))
                state_dict[f"{target}.{tensor}"] = torch.tensor(array)
    return state_dict


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    damaged = InputError(f"{path} is not a PyTorch checkpoint, or it is truncated or damaged; fetch it again")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on foreign pickle protocols; the errors below say enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if not wanted and start != b"\x80":
            raise damaged from None
        what = f"it asks for {wanted[1]}" if wanted else "it holds more than tensors"
        raise InputError(
            f"{path} is refused: loading this pickle could run code ({what}); where you trust its source, save the "
            "weights alone with torch.save(network.state_dict(), FILE)"
        ) from None
    except Exception:  # foreign bytes make torch.load and zipfile raise KeyError, EOFError, RuntimeError, OSError ...
        raise damaged from None


def _check_archive(path: Path) -> None:
    # torch.load does not look at the checksums: a flipped bit would silently become another weight
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
        if member:
            raise InputError(f"{path} is damaged: the checksum of {member} does not match; fetch it again")


def _find_state_dict(payload: Any, path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    candidates = [payload.get("model"), payload.get("state_dict"), payload] if isinstance(payload, dict) else []
    for candidate in candidates:
        if isinstance(candidate, dict) and candidate and all(isinstance(v, torch.Tensor) for v in candidate.values()):
            return {str(key): tensor for key, tensor in candidate.items()}
    found = f"a dictionary of {', '.join(map(str, payload))}" if isinstance(payload, dict) else type(payload).__name__
    raise InputError(
        f"{path} holds no state dict: expected tensors by name, alone or under 'model' or 'state_dict', found {found}"
    )


def _to_numpy(tensor: torch.Tensor, key: str, path: str | PathLike[str]) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError(
            f"{path}: {key} is a sparse or quantized tensor; save the weights as plain floating-point tensors"
        )
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _num_outputs(state_dict: Mapping[str, np.ndarray], layout: Layout) -> int:
    last = names.torch_name(names.layers(layout.architecture, 1)[-1].name, layout.architecture, layout.convention)
    arrays = (state_dict.get(f"{last}.{tensor}") for tensor in ("weight", "bias"))
    return next((array.shape[0] for array in arrays if array is not None and array.ndim), 1)


def _check(state_dict: Mapping[str, np.ndarray], facts: Facts) -> None:
    wanted = names.tensor_shapes(facts.architecture, facts.convention, facts.num_outputs)
    # PyTorch before 0.4.1 kept no counters, and nothing here needs them
    needed = {key: shape for key, shape in wanted.items() if not key.endswith(_COUNTER)}
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


def _swap(array: np.ndarray, axes: tuple[int, int, int, int]) -> np.ndarray:
    """Reorder a convolution kernel by `axes`, transpose a dense one, leave a vector."""
    if array.ndim < 2:
        return array
    return np.ascontiguousarray(array.transpose(axes) if array.ndim == 4 else array.T)

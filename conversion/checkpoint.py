"""Files of PyTorch checkpoints, read and written; `tffjax.conversion.variables` turns state dicts into Flax variables.

Files are read with `torch.load(weights_only=True)` only: a checkpoint that would need anything else is refused, because
unpickling it could run any code. The way to Flax and back restores every bit.
"""

import pickle
import re
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tffjax.conversion import names
from tffjax.conversion.variables import COUNTER, FLAX, Variables, swap

from tffjax.errors import InputError


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
    tensors = _find_state_dict(load_file(Path(path)), path)
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return to_arrays(tensors, path)


def to_arrays(tensors: dict[str, torch.Tensor], path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Tensors as arrays, floating-point ones as float32.

    Raises:
        InputError: a tensor is sparse or quantized.
    """
    return {key: _to_numpy(tensor, key, path) for key, tensor in tensors.items()}


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
            if tensor == COUNTER:
                state_dict[f"{target}.{tensor}"] = torch.tensor(0)
            else:
                collection, name = FLAX[layer.kind][tensor]
                array = swap(np.asarray(variables[collection][layer.name][name]), (3, 2, 0, 1))
                state_dict[f"{target}.{tensor}"] = torch.tensor(array)
    return state_dict


def load_file(path: Path) -> Any:
    """What a file holds, read safely.

    Raises:
        InputError: as `read_state_dict`.
    """
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

"""Files of PyTorch checkpoints, read and written; `tffjax.conversion.variables` turns state dicts into Flax variables.

Files are read with `torch.load(weights_only=True)` only: a checkpoint that would need anything else is refused, because
unpickling it could run any code. The way to Flax and back restores every bit.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tffjax.conversion import names
from tffjax.conversion.spelling import COUNTER, some
from tffjax.conversion.variables import FLAX, Variables, swap

from tffjax.errors import InputError
from tffjax.files import regular


def read_state_dict(path: str | PathLike[str], under: str | None = None) -> dict[str, np.ndarray]:
    """Read the state dict in a checkpoint file, safely.

    The file holds a bare state dict, or one under a name (`model` in the released checkpoints of Chandrasegaran et al.
    2022, where `optimizer` and `total_steps` may stand beside it; `state_dict` in Lightning's), or is a `.safetensors`
    file. Floating-point tensors of any precision become float32.

    Args:
        path: the file.
        under: the name, where there are several (`model` and `ema`).

    Returns:
        Key -> array in torch layout, in the order of the file.

    Raises:
        InputError: the file is missing or unreadable, not a torch file, damaged, needs unsafe unpickling, or holds no
            state dict or several.
    """
    return state_dict_in(load_file(Path(path)), path, under)


def state_dict_in(payload: Any, path: str | PathLike[str], under: str | None = None) -> dict[str, np.ndarray]:
    """The state dict in what `load_file` gave; arguments, result and errors as of `read_state_dict`."""
    return to_arrays(_find_state_dict(payload, path, under), path)


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
        convention: whose key names to write; ResNets have torchvision's only.

    Returns:
        Key -> tensor in state-dict order, bit for bit what `to_flax` read; `num_batches_tracked` is int64 0.
    """
    num_outputs = variables["params"][names.layers(architecture, 1)[-1].name]["kernel"].shape[1]
    state_dict, targets = {}, names.torch_names(architecture, convention)
    for layer in names.layers(architecture, num_outputs):
        target = targets[layer.name]
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
        with open(path, "rb", opener=regular) as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if what := _foreign_file(start, path):
        raise InputError(f"{path} is {what}")
    damaged = InputError(f"{path} is not a PyTorch checkpoint, or it is truncated or damaged; fetch it again")
    try:
        if start[8:9] == b"{":
            return _load_safetensors(path)
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on foreign pickle protocols; the errors below say enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if not wanted and start[:1] != b"\x80":
            raise damaged from None
        what = f"it asks for {wanted[1]}" if wanted else "it holds more than tensors"
        raise InputError(
            f"{path} is refused: loading this pickle could run code ({what}); where you trust its source, save the "
            "weights alone with torch.save(network.state_dict(), FILE)"
        ) from None
    except Exception:  # foreign bytes make torch.load and zipfile raise KeyError, EOFError, RuntimeError, OSError ...
        raise damaged from None


def _foreign_file(start: bytes, path: Path) -> str | None:
    """What a file is that is no checkpoint at all, in words that say the way out."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; fetch them with git lfs pull"
    if start.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "a web page, not the weights; download the file itself"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist()):
                return (
                    "a TorchScript program, not a state dict; save the weights alone: "
                    "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
                )
    return None


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f"{path} is a safetensors file: pip install safetensors") from None
    return load_file(path)


def _check_archive(path: Path) -> None:
    # torch.load does not look at the checksums: a flipped bit would silently become another weight
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
        if member:
            raise InputError(f"{path} is damaged: the checksum of {member} does not match; fetch it again")


def _find_state_dict(payload: Any, path: str | PathLike[str], under: str | None) -> dict[str, torch.Tensor]:
    candidates = dict(_state_dicts(payload))
    largest = max(map(len, candidates.values()), default=0)  # beside a network, some keep a few tensors more
    candidates = {name: tensors for name, tensors in candidates.items() if 10 * len(tensors) > largest}
    if under is not None:
        candidates = {name: tensors for name, tensors in candidates.items() if name == under}
    if len(candidates) > 1:
        raise InputError(f"{path} holds weights under {', '.join(candidates)}; choose with --under")
    if candidates:
        return {str(key): tensor for key, tensor in next(iter(candidates.values())).items()}
    found = f"a dictionary of {some(list(map(str, payload)))}" if isinstance(payload, dict) else type(payload).__name__
    where = f"under {under!r}" if under else "alone or under a name such as 'model' or 'state_dict'"
    raise InputError(f"{path} holds no state dict: expected tensors by name, {where}, found {found}")


def _state_dicts(payload: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Dictionaries of tensors, by the names that lead to them; numbers and words beside tensors are left out."""
    if not isinstance(payload, dict) or depth > 2:
        return
    tensors = {key: value for key, value in payload.items() if isinstance(value, torch.Tensor)}
    if 2 * len(tensors) > len(payload):
        yield name, tensors
        return
    for key, value in payload.items():
        yield from _state_dicts(value, f"{name}.{key}" if name else str(key), depth + 1)


def _to_numpy(tensor: torch.Tensor, key: str, path: str | PathLike[str]) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError(
            f"{path}: {key} is a sparse or quantized tensor; save the weights as plain floating-point tensors"
        )
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

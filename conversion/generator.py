"""Files of PyTorch generators, read; `tffjax.conversion.progan` turns their state dicts into Flax variables."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tffjax.conversion import checkpoint, progan

from tffjax.errors import InputError
from tffjax.files import sha256_of
from tffjax.nn.generator import Generator, generator_of

_PLACES = (
    ("shadow_generator", "state_dict"),
    ("shadow_generator",),
    ("generator_smooth",),
    ("generator", "state_dict"),
    ("generator",),
    ("state_dict",),
    (),
)
"""Where in a file a generator may be, the moving average first."""


def load_file(path: Path) -> Any:
    """What a file of networks, generators or others, holds.

    Raises:
        InputError: as `tffjax.conversion.checkpoint.load_file`; or the file holds several networks as pytorch_GAN_zoo
            saves them, with code.
    """
    try:
        return checkpoint.load_file(path)
    except InputError:
        if _is_gan_zoo(path):
            raise InputError(
                f"{path} is refused: pytorch_GAN_zoo saves its configuration as code; where you trust the file, save "
                "the averaged generator alone: torch.save(torch.load(FILE, weights_only=False)['avgG'], OUT)"
            ) from None
        raise


def read_generator_state(path: Path) -> dict[str, np.ndarray] | None:
    """The state dict of the generator in a file; None if the file holds none.

    Raises:
        InputError: as `load_file` and `generator_in`.
    """
    return _state_in(load_file(path), path)


def _state_in(payload: Any, path: Path) -> dict[str, np.ndarray] | None:
    if (
        isinstance(payload, dict)
        and (conf := _at(payload, ("shadow_generator", "conf")))
        and not conf.get("use_eql", 1)
    ):
        raise InputError(f"{path} was trained without the equalized learning rate (use_eql), which is not supported")
    for place in _PLACES:
        found = _at(payload, place)
        if isinstance(found, dict) and found and all(isinstance(value, torch.Tensor) for value in found.values()):
            tensors = {str(key): tensor for key, tensor in found.items()}
            return checkpoint.to_arrays(tensors, path) if place[:1] or progan.recognize(tensors) else None
    return None


def read_generator(path: Path) -> Generator | None:
    """The generator in a file, converted; None if the file holds none.

    Raises:
        InputError: as `load_file` and `generator_in`.
    """
    return generator_in(load_file(path), path)


def generator_in(payload: Any, path: Path) -> Generator | None:
    """The generator in what `load_file` gave, converted; None if there is none.

    Raises:
        InputError: as `tffjax.conversion.progan.to_flax`; or it is a network of a GAN that cannot be converted.
    """
    state_dict = _state_in(payload, path)
    if state_dict is None or not progan.recognize(state_dict):
        return None
    variables, card = progan.to_flax(state_dict)
    card = dataclasses.replace(card, name=path.stem, source=path.name, source_sha256=sha256_of(path))
    return generator_of(card, variables)


def _at(payload: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def _is_gan_zoo(path: Path) -> bool:
    """Whether a file names the networks of pytorch_GAN_zoo; it is searched as bytes, and nothing is unpickled."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                text = archive.read(names[0]) if names else b""
        else:
            with path.open("rb") as file:
                text = file.read(2**20)
    except (OSError, zipfile.BadZipFile):
        return False
    return b"avgG" in text and b"netG" in text

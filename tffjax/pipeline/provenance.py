"""Where results come from: what every run.json says."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tffjax import __version__
from tffjax.data import address


def run_record(
    command: str,
    identity: dict[str, Any],
    weights: Path | None = None,
    sources: Sequence[str] = (),
    computes: bool = True,
    **paths: Sequence[Path],
) -> dict[str, Any]:
    """The record of a run before it has results.

    Args:
        command: that does it.
        identity: what the results depend on: `arguments`, and hashes of what was read.
        weights: where the model came from; None if from memory, or if there is none.
        sources: kinds of the data that was read.
        computes: on devices, which are named then; what does not leaves them alone, and their memory to others.
        paths: lists of what was read, by name.
    """
    return {
        "command": command,
        "tffjax": __version__,
        "identity": identity,
        "paths": {
            "weights": weights and str(weights.absolute()),
            **{name: [address(path) for path in given] for name, given in paths.items()},
            **({"sources": list(sources)} if sources else {}),
        },
        "environment": environment() if computes else versions(),
    }


def environment() -> dict[str, Any]:
    """Versions and devices."""
    devices = [device.device_kind for device in jax.devices()]
    return versions() | {"devices": {kind: devices.count(kind) for kind in dict.fromkeys(devices)}}


def versions() -> dict[str, Any]:
    """Of Python and packages, and the kind of machine."""
    packages = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def machine() -> dict[str, Any]:
    """The part of the environment on which the bytes of results depend."""
    made_with = environment()
    return {name: made_with[name] for name in ("jax", "devices")}

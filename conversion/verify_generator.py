"""A generator in PyTorch and in JAX on the same latents."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tffjax.conversion import progan, twin_progan
from tffjax.conversion.generator import read_generator_state
from tffjax.conversion.verify import Difference, difference
from torch import nn

from tffjax.errors import InputError
from tffjax.nn.generator import Generator, draw_latents, generator_of, load_generator
from tffjax.nn.sites import site_outputs

LATENTS = 4


def verify_generator(path: Path) -> tuple[Difference, ...]:
    """Differences of a generator's sites and image (`image`) in float32 and float64, for four latents.

    Args:
        path: a generator's checkpoint, which is compared with a PyTorch network of its kernels, site by site; or the
            file of a port, which is converted in either type and compared with the port itself, at the image.

    Raises:
        InputError: as `tffjax.nn.generator.load_generator` or `tffjax.conversion.generator`.
    """
    found: list[Difference] = []
    state_dict = None if path.is_dir() else read_generator_state(path)
    if not path.is_dir() and state_dict is None:
        raise InputError(f"{path} holds no generator")
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            generator, net = _pair(path, state_dict, dtype)
            latents = draw_latents(0, range(LATENTS), generator.card.latent).astype(dtype)
            with torch.no_grad():
                image = net(torch.tensor(latents))
            theirs = {"image": image}
            if isinstance(net, twin_progan.Plain):
                theirs = {**{name: net.outputs[name] for name in net.outputs if name != "rgb"}, **theirs}
            images, sites = jax.jit(site_outputs)(generator.model, jnp.asarray(latents)[:, None, None])
            ours = {**{name: np.asarray(y) for name, y in sites.items()}, "image": np.asarray(images)}
            pairs = [(ours, {name: y.permute(0, 2, 3, 1).numpy() for name, y in theirs.items()})]
            found += [difference(place, dtype, pairs) for place in theirs]
    return tuple(found)


def _pair(path: Path, state_dict: dict[str, np.ndarray] | None, dtype: str) -> tuple[Generator, nn.Module]:
    if state_dict is None:
        generator = load_generator(path).astype(dtype)
        return generator, twin_progan.Plain(generator.model.variables, generator.card)
    typed = {key: a.astype(dtype) if a.dtype.kind == "f" else a for key, a in state_dict.items()}
    variables, card = progan.to_flax(typed)
    return generator_of(card, variables), twin_progan.twin_of(typed)

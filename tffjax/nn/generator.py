"""Generators: a network from latents to images with its card, and its checkpoint.

The checkpoint is that of `tffjax.nn.checkpoint` with another card, which says `"kind": "generator"`.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from tffjax.errors import InputError
from tffjax.files import from_json, read_text
from tffjax.nn import checkpoint
from tffjax.nn.model import Model
from tffjax.nn.progan import EPSILON, ProGAN
from tffjax.nn.sites import Site, sites_of

KIND = "generator"
VERSION = "1.0"


@dataclasses.dataclass(frozen=True)
class GeneratorCard:
    """What stands beside the weights of a generator.

    Attributes:
        latent: how many numbers a latent has, drawn from N(0, 1).
        widths, latent_norms, norm_after_dense, bias_by_position: as of `tffjax.nn.progan.ProGAN`.
        name: of the generator, for folders and tables.
        source, source_sha256: name and SHA-256 of the file that the weights came from.
        weights_sha256: hash of the weights themselves (`tffjax.nn.checkpoint.digest`), checked on loading.
        architecture, kind, version: of the network, and of this format.
    """

    latent: int
    widths: tuple[int, ...]
    latent_norms: tuple[float, ...] = (EPSILON,)
    norm_after_dense: bool = True
    bias_by_position: bool = False
    name: str = "generator"
    source: str = ""
    source_sha256: str = ""
    weights_sha256: str = ""
    architecture: str = "progan"
    kind: str = KIND
    version: str = VERSION

    @property
    def module(self) -> ProGAN:
        """The network."""
        return ProGAN(self.widths, self.latent_norms, self.norm_after_dense, self.bias_by_position)

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return 2 * 2 ** len(self.widths)

    def shapes(self) -> Any:
        """The shapes and types of the variables: float32, whatever the default."""
        with jax.enable_x64(False):
            latent = jax.ShapeDtypeStruct((1, 1, 1, self.latent), jnp.float32)
            return jax.eval_shape(self.module.init, jax.random.key(0), latent)

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "GeneratorCard":
        """Read a card.

        Raises:
            InputError: not the card of a generator, or of another major version.
        """
        try:
            fields: dict[str, Any] = from_json(text)
            kind, version = fields.get("kind"), str(fields["version"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the card is damaged ({error}); convert the checkpoint again") from None
        if kind != KIND:
            raise InputError("this is a detector, and a generator is wanted")
        if version.split(".")[0] != VERSION.split(".")[0]:
            raise InputError(f"the card has format version {version}, this tffjax reads {VERSION}; convert again")
        try:
            lists = {
                "widths": tuple(map(int, fields["widths"])),
                "latent_norms": tuple(map(float, fields["latent_norms"])),
            }
            card = cls(**{**fields, **lists})
            if card.architecture != "progan" or card.latent < 1 or min(card.widths, default=0) < 1:
                raise ValueError(f"no {card.architecture} of widths {card.widths}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"the card is damaged ({error}); convert the checkpoint again") from None
        return card


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Generator:
    """A generator with its weights; a pytree whose leaves are the weights.

    Attributes:
        model: the network; it takes latents (n, 1, 1, latent) in the place of images.
        card: what it is.
    """

    model: Model
    card: GeneratorCard = dataclasses.field(metadata={"static": True})

    def __call__(self, latents: Float[Array, "n latent"]) -> Float[Array, "n s s 3"]:
        """Images in about [-1, 1], not clamped."""
        return self.model(latents[:, None, None])

    def __repr__(self) -> str:
        return f"Generator({self.card.name}, {self.card.size} pixels, {self.model!r})"

    @property
    def sites(self) -> tuple[Site, ...]:
        """The outputs of its convolutions but the last, in the order of computation."""
        return sites_of(self.model, self.latent_shape)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of a latent as the network takes it."""
        return (1, 1, self.card.latent)

    def astype(self, dtype: Any) -> "Generator":
        """The same with weights of another floating type."""
        return dataclasses.replace(self, model=self.model.astype(dtype))


def generator_of(card: GeneratorCard, variables: Any) -> Generator:
    """The generator of a card and its variables."""
    return Generator(Model(card.module, jax.tree.map(jnp.asarray, variables)), card)


def draw_latents(seed: int, indices: Any, latent: int) -> Float32[np.ndarray, "n {latent}"]:
    """Latents of N(0, 1), each of which depends on the seed and its index only."""
    rows = [np.random.default_rng([seed, int(index)]).standard_normal(latent, np.float32) for index in indices]
    return np.stack(rows) if rows else np.empty((0, latent), np.float32)


def pixels_of(images: Float[Any, "*s 3"]) -> UInt8[np.ndarray, "*s 3"]:
    """Images in [-1, 1], clamped, as uint8: what a saved file holds."""
    return np.rint((np.clip(np.asarray(images, np.float32), -1, 1) + 1) * np.float32(127.5)).astype(np.uint8)


def save_generator(generator: Generator, path: str | os.PathLike[str], *, overwrite: bool = False) -> GeneratorCard:
    """Write a generator's checkpoint, whole or not at all.

    Returns:
        The card as written, with the hash of the weights.

    Raises:
        InputError: weights that are not float32, or `path` exists and `overwrite` is off.
    """
    path = Path(path)
    checkpoint.check_free(path, overwrite)
    variables = jax.tree.map(np.asarray, generator.model.variables)
    if any(leaf.dtype != np.float32 for leaf in jax.tree.leaves(variables)):
        raise InputError("only float32 weights are saved: generator.astype('float32')")
    card = dataclasses.replace(generator.card, weights_sha256=checkpoint.digest(variables))
    checkpoint.write(path, variables, card.to_json(), overwrite)
    return card


def load_generator(path: str | os.PathLike[str]) -> Generator:
    """Read a generator's checkpoint, written by `save_generator` or `tffjax convert`.

    Raises:
        InputError: no such checkpoint, that of a detector, or one that is damaged.
    """
    path = Path(path)
    text = checkpoint.read_card_text(path)
    try:
        card = GeneratorCard.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    variables = checkpoint.read_variables(path, card.shapes(), f"progan of {card.size} pixels", card.weights_sha256)
    return Generator(Model(card.module, variables), card)


def is_generator(path: Path) -> bool:
    """Whether a folder is a generator's checkpoint."""
    try:
        return from_json(read_text(path / "card.json")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False

"""Images of a generator, written as PNG files."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from tffjax.compile.passes import compiler_options
from tffjax.errors import InputError
from tffjax.lrp.prepare import prepare
from tffjax.nn.generator import Generator, draw_latents, load_generator, pixels_of
from tffjax.pipeline.output import output_folder
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.studies.call import PathLike

BATCH = 16


class Generated(NamedTuple):
    """Images and their latents.

    Attributes:
        latents: (n, latent), float32, each drawn from N(0, 1) by the seed and its number.
        pixels: (n, s, s, 3), uint8 RGB, what the files hold.
    """

    latents: Float32[np.ndarray, "n latent"]
    pixels: UInt8[np.ndarray, "n s s 3"]


def generate(
    generator: Generator | PathLike, seed: int = 0, n: int = 16, *, first: int = 0, batch_size: int = BATCH
) -> Generated:
    """Make images.

    Args:
        generator: itself, or the folder of its checkpoint.
        seed: of the latents.
        n: how many images.
        first: number of the first one: image i is the same whatever `first` and `n` are.
        batch_size: images at once; another one may change the last bits before rounding.

    Raises:
        InputError: as `tffjax.nn.generator.load_generator`; a number that is not positive.
    """
    loaded = generator if isinstance(generator, Generator) else load_generator(generator)
    parts = list(_batches(loaded, seed, n, first, batch_size))
    return Generated(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def write_images(
    generator: PathLike,
    out: PathLike,
    *,
    seed: int = 0,
    n: int = 500,
    batch_size: int = BATCH,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write images in the layout of ForenSynths, OUT/<name>/1_fake/000000.png, and their latents, OUT/latents.npy.

    The same seed and batch size give the same bytes. Beside them, images.csv says which file has which latent.

    Args:
        generator: the folder of a checkpoint.
        out: folder to make.
        seed, n, batch_size: as of `generate`.
        overwrite: replace what this wrote there before.
        reporter: where words go.

    Returns:
        The folder.

    Raises:
        InputError: as `generate`, or `out` is not free.
    """
    loaded, reporter = load_generator(generator), reporter or Lines()
    with output_folder(Path(out), overwrite) as folder:
        images = folder / loaded.card.name / "1_fake"
        images.mkdir(parents=True)
        latents, names = [], []
        with reporter.progress("generating", n, "images") as advance:
            for codes, pixels in _batches(loaded, seed, n, 0, batch_size):
                for image in pixels:
                    names.append(f"{len(names):06}.png")
                    Image.fromarray(image).save(images / names[-1])
                latents.append(codes)
                advance(len(codes))
        np.save(folder / "latents.npy", np.concatenate(latents))
        with (folder / "images.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("path", "seed", "index"))
            writer.writerows((f"{loaded.card.name}/1_fake/{name}", seed, i) for i, name in enumerate(names))
    return Path(out)


def _batches(generator: Generator, seed: int, n: int, first: int, batch_size: int) -> Iterator[Generated]:
    """Batches of one size, so that the last one is computed as the others are."""
    if n < 1 or batch_size < 1:
        raise InputError("the number of images, and of those at once, must be positive")
    model = prepare(generator.model, size=generator.latent_shape)
    program = jax.jit(
        lambda model, codes: Generator(model, generator.card)(codes), compiler_options=compiler_options(model)
    )
    for start in range(first, first + n, batch_size):
        codes = draw_latents(seed, range(start, start + batch_size), generator.card.latent)
        count = min(batch_size, first + n - start)
        yield Generated(codes[:count], pixels_of(program(model, codes))[:count])

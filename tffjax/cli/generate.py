"""`tffjax generate`: images of a generator."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.cli.numbers import BATCH_SIZE, SEED
from tffjax.results.words import number_of
from tffjax.studies.generator.generate import BATCH, write_images


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--n", type=click.IntRange(min=1), default=500, show_default=True, help="How many images.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the latents.")
@click.option("--batch-size", type=BATCH_SIZE, default=BATCH, show_default=True, help="Images at once.")
@overwrite_option
@quiet_option
def generate(weights: Path, out: Path, n: int, seed: int, batch_size: int, overwrite: bool, quiet: bool) -> None:
    """Make images with a generator and write them as PNG files.

    WEIGHTS is a folder written by `tffjax convert`. Image i has the same latent whatever --n is. The same seed and
    batch size give the same bytes.

    Writes NAME/1_fake/000000.png and so on, as the other commands read them (NAME is that of the generator);
    latents.npy with a latent a row, and images.csv.

    \b
    Example:
      tffjax generate bedroom --n 500 --seed 0 --out images
      tffjax predict detector images/ --out scores
    """
    start_jax()
    talk = Talk(quiet)
    write_images(weights, out, seed=seed, n=n, batch_size=batch_size, overwrite=overwrite, reporter=talk)
    talk.say(f"{number_of(n, 'image')} in {out}")

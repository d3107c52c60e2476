"""`tffjax heatmap`: pictures of what a single decision rests on."""

import re
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np

from tffjax import checkpoint
from tffjax.cli.console import Talk, output_folder, overwrite_option, quiet_option, start_jax
from tffjax.cli.images import read_groups, size_options
from tffjax.composites import COMPOSITES
from tffjax.errors import InputError
from tffjax.figures import contact_sheet, overlay, save_figure
from tffjax.heatmaps import guided_grad_cam, lrp_map
from tffjax.models import Model
from tffjax.predictions import fake_probability, forward
from tffjax.preprocessing import Transform, denormalize

METHODS = {"lrp": "LRP", "guided-grad-cam": "Guided Grad-CAM"}
SHEET_ROWS = 12


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the pictures.")
@click.option(
    "--method",
    "methods",
    type=click.Choice(list(METHODS)),
    multiple=True,
    default=list(METHODS),
    show_default=True,
    help="Which explanations; give it several times for several.",
)
@click.option("--class", "output", type=click.IntRange(min=0), help="Output index to explain. [default: the largest]")
@click.option("--negative", is_flag=True, help="Explain the negative of the output (for a detector: the other label).")
@click.option("--composite", type=click.Choice(list(COMPOSITES)), default="beta0", show_default=True, help="LRP rules.")
@size_options
@click.option("--limit", type=click.IntRange(min=1), default=24, show_default=True, help="Take at most so many images.")
@overwrite_option
@quiet_option
def heatmap(
    weights: Path,
    paths: tuple[Path, ...],
    out: Path,
    methods: tuple[str, ...],
    output: int | None,
    negative: bool,
    composite: str,
    resize: int | None,
    crop: int | None,
    limit: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Explain single decisions: positive relevance drawn over each image.

    WEIGHTS is a folder written by `tffjax convert`. Detectors are explained at their logit, networks with several
    outputs at the largest one of each image or at --class.

    Writes one picture for each image and method (PNG and PDF), contact sheets of images by methods, and heatmaps.npz
    with the raw arrays (pixels, logits, one map for each method).

    \b
    Example:
      tffjax heatmap detector images/ --out heatmaps
      tffjax heatmap imagenet cat.png --resize 256 --crop 224 --class 285 --method lrp --out cat
    """
    talk = Talk(quiet)
    start_jax()
    model = checkpoint.load(weights)
    if output is not None and output >= model.card.num_outputs:
        raise InputError(f"there is no output {output}; the network has {model.card.num_outputs}")
    groups = read_groups(talk, paths, limit, Transform(resize, crop), model.card.normalization)
    target, sign = ("top" if output is None else output), (-1 if negative else 1)
    count = sum(len(group.names) for group in groups)
    run = jax.jit(forward)
    images, heats, titles, names = [], [], [], []
    arrays: dict[str, np.ndarray] = {}
    with output_folder(out, overwrite) as folder, talk.progress("explaining", count, "images") as advance:
        for group in groups:
            pixels = denormalize(group.images, model.card.normalization)
            for i, name in enumerate(group.names):
                image = jnp.asarray(group.images[i : i + 1])
                maps = {METHODS[method]: _map(model, image, method, target, sign, composite) for method in methods}
                logits = np.asarray(run(model, image))[0]
                title = f"{Path(name).name}: {_decision(model, logits, output, negative)}"
                label = f"{len(images):03d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', Path(name).stem)}"
                for method, heat in maps.items():
                    figure = overlay(pixels[i], heat, f"{title}\n{method}", "positive relevance")
                    save_figure(figure, folder / f"{label}_{method.lower().replace(' ', '-')}")
                arrays |= {f"{label}/pixels": pixels[i], f"{label}/logits": logits}
                arrays |= {f"{label}/{method}": heat for method, heat in maps.items()}
                images.append(pixels[i])
                heats.append(maps)
                titles.append(title)
                names.append(name)
                advance(1)
        for start in range(0, len(images), SHEET_ROWS):
            rows = slice(start, start + SHEET_ROWS)
            sheet = contact_sheet(images[rows], heats[rows], titles[rows])
            save_figure(sheet, folder / f"contact_sheet_{start // SHEET_ROWS + 1}")
        np.savez_compressed(folder / "heatmaps.npz", paths=np.array(names), **arrays)
    talk.say(f"{count} images explained by {', '.join(METHODS[method] for method in methods)}; pictures in {out}")


def _map(model: Model, image: jnp.ndarray, method: str, target: int | str, sign: int, composite: str) -> np.ndarray:
    if method == "lrp":
        return np.asarray(lrp_map(model, image, target, composite, sign))[0]
    return np.asarray(guided_grad_cam(model, image, target, sign=sign))[0]


def _decision(model: Model, logits: np.ndarray, output: int | None, negative: bool) -> str:
    if model.card.num_outputs == 1:
        explained = model.card.high_means if not negative else {"fake": "real", "real": "fake"}[model.card.high_means]
        return f"p(fake) = {fake_probability(logits, model.card)[0]:.3f}, what speaks for {explained}"
    index = int(logits.argmax()) if output is None else output
    shares = np.exp(logits.astype(np.float64) - logits.max())
    sign = "against" if negative else "for"
    return f"what speaks {sign} output {index}, p = {shares[index] / shares.sum():.3f}"

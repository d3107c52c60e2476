"""Train the detector of the demonstration, and everything before and after it, from photographs and a seed.

    apt-get download mate-backgrounds plasma-workspace-wallpapers
    for package in *.deb; do dpkg -x $package photographs; done
    pip install scikit-image
    python scripts/train_demo_detector.py --photographs photographs --init DETECTOR --out demo

1. Crops of photographs, split by photograph (`demo_data`).
2. Four small autoencoders redraw them (`demo_decoders`); the detector is trained on the fakes of one kind only.
3. Trivial classifiers show how much file size, color, contrast or a JPEG grid give away.
4. An EfficientNet-B0 is trained from a detector whose stem is turned to chroma (`turned`), or from scratch, in two
   stages (`stages`), then scored on held-out photographs of every kind.
5. Written to OUT: `detector/` (a checkpoint), `images/` (ForenSynths layout), `CREDITS.md`, `MODEL_CARD.md`,
   `figures.json`; `decoders/` with the weights of the autoencoders, which --decoders takes in place of training them,
   and `codes/` with the codes of the images; beside them `work/` with everything in between.

What lies in `work/` already is not computed again, so an interrupted run goes on where it was; give a new OUT after
changing an option. With the same versions of the libraries on the same kind of CPU the same seed gives the same bits.

"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import demo_data
import demo_decoders
import jax
import jax.numpy as jnp
import numpy as np
import skimage
from demo_card import credits, model_card
from jaxtyping import Float, UInt8

from tffjax.compile.logits import logits_of
from tffjax.data import LABEL_FOLDERS, ImageFile, batches, find_images, plan
from tffjax.data.ablations import Ablation
from tffjax.data.augmentations import Augmentation
from tffjax.data.preprocessing import Transform, decode, normalize
from tffjax.files import replace_file
from tffjax.nn import Model, checkpoint
from tffjax.nn.normalization import normalized
from tffjax.results.metrics import measure
from tffjax.studies.predictions import fake_score
from tffjax.training.step import Recipe, as_detector, compile_step, from_scratch, start, trained

SAMPLES = 48
"""Images per kind and label that the package ships; `demo_power` says what the color study can find in so many."""

FREE = ("public domain", "CC0-1.0")
"""Only crops of photographs without any conditions are shipped."""

PLAIN = Augmentation(load_size=None, crop=64, blur=0.0, jpeg=0.0)
DEGRADED = dataclasses.replace(PLAIN, blur=0.6, max_sigma=3.0, jpeg=0.4, min_quality=30)
TOUCHED = dataclasses.replace(PLAIN, blur=0.2, max_sigma=0.7, jpeg=0.2, min_quality=80)
WARM_UP = 50


class Stage(NamedTuple):
    """A part of the training, with a rise and fall of the learning rate of its own.

    Attributes:
        steps: how many.
        peak: highest learning rate.
        real, fake: what happens to the crops of each label.
        whole: share of the steps, the last ones, that see whole crops, so that running statistics are those of whole
            images.
    """

    steps: int
    peak: float
    real: Augmentation
    fake: Augmentation
    whole: float

    def rate(self, step: int) -> np.float32:
        """Learning rate of a step of this stage: linear warm-up, then a half cosine to 0."""
        cosine = 0.5 * (1 + np.cos(np.pi * step / self.steps))
        return np.float32(self.peak * min(1, (step + 1) / WARM_UP) * cosine)

    def crop(self, step: int, size: int) -> int:
        """Side of the squares of a step, for crops of `size` pixels."""
        return self.real.crop if step < (1 - self.whole) * self.steps else size


SAVE_EVERY = 100

TURNED = ((0.2, 1, 3), (0.2, 2, 2), (0.2, 3, 1))
"""What R, G and B of a detector that is given become: factors of Y, Cb and Cr."""


def main() -> None:
    options = parser().parse_args()
    other = json.loads(options.other.read_text()) if options.other else None
    work: Path = options.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    folders = [*options.photographs, Path(skimage.__file__).parent]
    found = demo_data.find_photographs(folders)
    crops = {split: demo_data.make_crops(found, split, options.seed) for split in demo_data.CROPS_PER_PHOTOGRAPH}
    decoders = {kind: decoder(kind, crops["train"], options, work) for kind in demo_decoders.KINDS}
    trivial = write_splits(decoders, crops, work)
    detector = train_detector(options, work)
    figures = {
        "crops": {split: len(part.images) for split, part in crops.items()},
        "shipped": SAMPLES,
        "started": bool(options.init),
        "trivial": trivial,
        "held_out": evaluate(detector, [work / "images" / "test"]),
        "grayscale": evaluate(detector, [work / "images" / "test"], Ablation("grayscale")),
        "real_world": evaluate(detector, options.real_world) if options.real_world else {},
        "seconds": json.loads((work / "seconds.json").read_text()),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, jax {jax.__version__}, {jax.default_backend()}",
        "options": {name: vars(options)[name] for name in ("seed", "decoder_steps", "steps", "degraded_steps", "rate")},
    }
    checkpoint.save(detector, options.out / "detector", overwrite=True)
    write_samples(crops["test"], work, options.out / "images")
    write_decoders(decoders, crops["test"], options.out)
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (options.out / "CREDITS.md").write_text(credits(demo_data.PHOTOGRAPHS))
    (options.out / "MODEL_CARD.md").write_text(model_card(figures, other))
    print(model_card(figures, other))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, help="folders with unpacked packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--real-world", type=Path, nargs="*", help="folders of real generators, to score the detector on"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--other", type=Path, help="figures.json of a run with another seed, for the model card")
    parser.add_argument("--decoders", type=Path, help="folder of weights of decoders, in place of training them")
    parser.add_argument("--decoder-steps", type=int, default=900)
    parser.add_argument("--init", type=Path, help="checkpoint of a detector to start from, in place of random weights")
    parser.add_argument("--steps", type=int, default=600, help="of the detector, on plain pairs")
    parser.add_argument("--degraded-steps", type=int, default=150, help="then, on degraded photographs")
    parser.add_argument(
        "--rate", type=float, default=1e-3, help="highest learning rate; half of it for the second part"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    return parser


def decoder(kind: str, crops: demo_data.Crops, options: argparse.Namespace, work: Path) -> Any:
    """The variables of one autoencoder, trained unless it is there."""
    network, path = demo_decoders.Autoencoder(kind), work / f"decoder-{kind}.npz"
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    if options.decoders:
        return load_named(options.decoders / f"{kind}.npz", shapes)
    if not path.exists():
        began = time.monotonic()
        seed = options.seed + demo_decoders.KINDS.index(kind)
        report = Progress(f"decoder {kind}", options.decoder_steps)
        variables = demo_decoders.train(kind, crops.images, options.decoder_steps, seed, report)
        save_arrays(path, variables)
        add_seconds(work, f"decoder {kind}", time.monotonic() - began)
    return load_arrays(path, shapes)


def write_splits(decoders: dict[str, Any], crops: dict[str, demo_data.Crops], work: Path) -> dict[str, Any]:
    """Write the images of all splits, and say what trivial classifiers get right on the held-out ones.

    Training and validation have the fakes of one kind, the test those of all.
    """
    done = work / "trivial.json"
    if done.exists():
        return json.loads(done.read_text())
    trivial: dict[str, Any] = {}
    for split, part in crops.items():
        real = demo_data.cut_margin(part.images)
        names = [f"{index:04d}" for index in range(len(real))]
        for kind in demo_decoders.KINDS if split == "test" else (demo_decoders.TRAINED_ON,):
            fake = demo_data.cut_margin(demo_decoders.redraw(kind, decoders[kind], part.images))
            folder = work / "images" / split / kind
            demo_data.write_images(folder / "0_real", real, names)
            demo_data.write_images(folder / "1_fake", fake, names)
            if split == "test":
                trivial[kind] = {
                    name: demo_data.trivial_accuracy(name, real, fake, part.photograph) for name in demo_data.TRIVIAL
                }
                trivial[kind]["PSNR"] = psnr(real, fake)
    done.write_text(json.dumps(trivial, indent=1))
    return trivial


def psnr(real: np.ndarray, fake: np.ndarray) -> float:
    """Median over the images of 10 log10(255^2 / mean squared difference)."""
    error = np.square(real.astype(np.float64) - fake).mean((1, 2, 3))
    return float(np.median(10 * np.log10(255**2 / np.maximum(error, 1e-9))))


def stages(options: argparse.Namespace) -> tuple[Stage, Stage]:
    """First pairs that differ in nothing but the decoder. A detector of those takes an image for a fake where the fine
    detail of photographs is missing; so then photographs that are blurred and compressed, which are photographs still,
    against fakes that keep their traces."""
    return (
        Stage(options.steps, options.rate, PLAIN, PLAIN, whole=0.06),
        Stage(options.degraded_steps, options.rate / 2, DEGRADED, TOUCHED, whole=0.15),
    )


def train_detector(options: argparse.Namespace, work: Path) -> Model:
    """The detector after both stages, going on from the last saved step."""
    if options.init:
        model = turned(as_detector(checkpoint.load(options.init)))
    else:
        model = from_scratch("efficientnet_b0", options.seed)
    recipe = Recipe(batch_size=options.batch_size, seed=options.seed)
    real, fake = (load_images(work / "images" / "train" / demo_decoders.TRAINED_ON / name) for name in LABEL_FOLDERS)
    path, state = work / "detector.npz", start(model)
    if path.exists():
        state = load_arrays(path, jax.eval_shape(lambda: state))
    done = int(state.step)
    compiled = functools.cache(functools.partial(compile_step, model, recipe, jax.eval_shape(lambda: state)))
    first, second = stages(options)
    total = first.steps + second.steps
    report = Progress("detector", total, done)
    began = time.monotonic()
    losses, hits = [], []
    for step in range(done, total):
        stage, at = (first, step) if step < first.steps else (second, step - first.steps)
        crop = stage.crop(at, real.shape[1])
        pixels, labels = pairs(stage, real, fake, options.batch_size // 2, crop, [options.seed, step])
        images = normalize(pixels, model.card.normalization)
        state, loss, found = compiled(crop)(state, images, labels, stage.rate(at))
        losses.append(float(loss))
        hits.append(float(np.mean((np.asarray(found) > 0) == labels)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 in (first.steps, total):
            save_arrays(path, state)
            add_seconds(work, "detector", time.monotonic() - began)
            validation = evaluate(trained(model, state), [work / "images" / "validation"])
            ap = validation[demo_decoders.TRAINED_ON]["ap"]
            report(step + 1, np.mean(losses), f"accuracy {np.mean(hits):.3f}, validation AP {ap:.3f}")
            began, losses, hits = time.monotonic(), [], []
    source = f"the demonstration detector (scripts/train_demo_detector.py, seed {options.seed})"
    variables = jax.tree.map(half_precision, trained(model, state).variables)
    return Model(model.module, variables, dataclasses.replace(model.card, source=source))


def turned(model: Model) -> Model:
    """The detector with a stem that sees `TURNED` times (Y, Cb, Cr) where it saw R, G and B, around middle gray.

    What it knows of traces in luma it then looks for in chroma. The running mean of the first batch norm moves with
    what the change adds to the stem's output, so that only the rim of an image is seen otherwise.
    """
    deviation, mean = (np.array(of, np.float32) for of in (model.card.normalization.std, model.card.normalization.mean))
    to_turned = np.array(TURNED, np.float32) @ demo_decoders.TO_PLANES
    change = to_turned * deviation / deviation[:, None]
    offset = (to_turned @ (mean - 0.5) + 0.5 - mean) / deviation
    params, statistics = (dict(model.variables[part]) for part in ("params", "batch_stats"))
    kernel = params["_conv_stem"]["kernel"]
    params["_conv_stem"] = {"kernel": jnp.einsum("hwco,cd->hwdo", kernel, change)}
    added = jnp.einsum("hwco,c->o", kernel, offset)
    statistics["_bn0"] = {**statistics["_bn0"], "mean": statistics["_bn0"]["mean"] - added}
    return dataclasses.replace(model, variables={"params": params, "batch_stats": statistics})


def half_precision(array: Float[jax.Array, "*s"]) -> Float[jax.Array, "*s"]:
    """Kernels rounded to float16, which halves the compressed file; they stay float32 arrays."""
    return array.astype(jnp.float16).astype(jnp.float32) if array.ndim > 1 else array


def pairs(
    stage: Stage,
    real: UInt8[np.ndarray, "n h w 3"],
    fake: UInt8[np.ndarray, "n h w 3"],
    number: int,
    crop: int,
    seed: Sequence[int],
) -> tuple[UInt8[np.ndarray, "m {crop} {crop} 3"], Float[np.ndarray, " m"]]:
    """`number` random squares of crops and of what was made of them, as the stage augments them, and their labels."""
    rows = np.random.default_rng(seed).choice(len(real), number, replace=False)
    images = [
        dataclasses.replace(augment, crop=crop)(of[row], np.random.default_rng([*seed, row]))
        for augment, of in ((stage.real, real), (stage.fake, fake))
        for row in rows
    ]
    return np.stack(images), np.repeat(np.float32([0, 1]), number)


def load_images(folder: Path) -> UInt8[np.ndarray, "n h w 3"]:
    """All images of a folder, by name."""
    return np.stack([decode(file.path) for file in find_images([folder])])


def evaluate(model: Model, folders: Sequence[Path], ablation: Ablation | None = None) -> dict[str, Any]:
    """AP, accuracies on real and fake at 0.5 and at the calibrated threshold, and numbers of images, per generator."""
    files = find_images(folders)
    score = fake_score(logits(model, files, ablation), model.card)
    names = np.array([file.generator for file in files])
    label = np.array([file.label for file in files])
    scores = {name: measure(score[names == name], label[names == name]) for name in dict.fromkeys(names.tolist())}
    return {name: {key: round(value, 4) for key, value in vars(found).items()} for name, found in scores.items()}


def logits(model: Model, files: Sequence[ImageFile], ablation: Ablation | None) -> Float[np.ndarray, " n"]:
    """Logits of whole images."""
    planned = plan(files, Transform(), 16)
    out = np.zeros(len(files), np.float32)
    for batch in batches(planned, files, Transform(), 16):
        rows = batch.indices >= 0
        pixels = batch.images if ablation is None else np.stack([ablation(image, "") for image in batch.images])
        images = normalized(jnp.asarray(pixels), model.card.normalization)
        out[batch.indices[rows]] = np.asarray(logits_of(model, images))[rows, 0]
    return out


def samples(crops: demo_data.Crops) -> dict[str, list[int]]:
    """Kind -> `SAMPLES` held-out crops of photographs without conditions, other crops for every kind."""
    free = [i for i, owner in enumerate(crops.photograph) if demo_data.PHOTOGRAPHS[owner].license in FREE]
    chosen = {kind: free[number :: len(demo_decoders.KINDS)] for number, kind in enumerate(demo_decoders.KINDS)}
    return {kind: [own[i] for i in np.linspace(0, len(own) - 1, SAMPLES).astype(int)] for kind, own in chosen.items()}


def write_samples(crops: demo_data.Crops, work: Path, out: Path) -> None:
    """Copy the `samples` and what was made of them."""
    shutil.rmtree(out, ignore_errors=True)
    for kind, chosen in samples(crops).items():
        for index in chosen:
            for label in ("0_real", "1_fake"):
                target = out / kind / label / f"{index:04d}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((work / "images" / "test" / kind / label / target.name).read_bytes())


def write_decoders(decoders: dict[str, Any], crops: demo_data.Crops, out: Path) -> None:
    """Weights of every autoencoder, arrays by their names, and the codes of its `samples` (`demo_decoders.Code`)."""
    for kind, chosen in samples(crops).items():
        names = {name: np.asarray(array) for name, array in named(decoders[kind])}
        codes = demo_decoders.codes(kind, decoders[kind], crops.images[chosen])
        for folder, arrays in (("decoders", names), ("codes", {"crop": np.array(chosen), **codes._asdict()})):
            (out / folder).mkdir(parents=True, exist_ok=True)
            with replace_file(out / folder / f"{kind}.npz") as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **arrays)


def named(variables: Any) -> list[tuple[str, Any]]:
    """The arrays of a pytree of dictionaries with their names, such as `params/luma/first/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return [("/".join(key.key for key in path), leaf) for path, leaf in leaves]


def load_named(path: Path, like: Any) -> Any:
    """Read the weights that `write_decoders` wrote."""
    with np.load(path) as arrays:
        leaves = [jnp.asarray(arrays[name]) for name, _ in named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


class Progress:
    """Prints step, loss and time left."""

    def __init__(self, what: str, steps: int, done: int = 0) -> None:
        self._what, self._steps, self._done, self._began = what, steps, done, time.monotonic()

    def __call__(self, step: int, loss: float, more: str = "") -> None:
        """Report one step."""
        left = (time.monotonic() - self._began) / max(step - self._done, 1) * (self._steps - step)
        print(f"{self._what}: step {step} of {self._steps}, loss {loss:.4f} {more}, {left:.0f} s left", flush=True)


def save_arrays(path: Path, tree: Any) -> None:
    """Write the leaves of a pytree, whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, *map(np.asarray, jax.tree.leaves(tree)))


def load_arrays(path: Path, like: Any) -> Any:
    """Read what `save_arrays` wrote into a pytree of the same structure."""
    with np.load(path) as arrays:
        leaves = [jnp.asarray(arrays[f"arr_{index}"]) for index in range(len(arrays.files))]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def add_seconds(work: Path, what: str, seconds: float) -> None:
    """Add to the time that a stage took, over all runs."""
    path = work / "seconds.json"
    spent = json.loads(path.read_text()) if path.exists() else {}
    spent[what] = round(spent.get(what, 0) + seconds, 1)
    path.write_text(json.dumps(spent, indent=1))


if __name__ == "__main__":
    main()

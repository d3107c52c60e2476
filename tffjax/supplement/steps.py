"""What has to be done before the figures can be drawn: the study's steps, and two of an ImageNet network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tffjax.data import ImageFile, find_images, of_generator
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import checkpoint, network_of
from tffjax.nn.generator import load_generator
from tffjax.results.generators import plain_name
from tffjax.studies.rankings import all_channels, read_ranking
from tffjax.supplement.start import released_ranking
from tffjax.whole.steps import Step, Whole

RUNS = "runs"
STUDIED = ("predict", "rank", "find-k", "dropout", "lrpmax", "color", "generator")
"""The steps of `tffjax study` that figures are drawn from."""

HEATMAP_SIZE = (256, 224)
"""Resize and crop of the heatmaps of the released code."""

SHOWN = 4
"""Images of each channel and generator that LRP-max explains."""

TESTED = 10
"""Channels of the ImageNet network whose activations are tested on the way; the figure shows its classes."""

EXTRA = {
    "heatmap": "what do the decisions on the surest fakes rest on?",
    "color": "what does grayscale do to an ImageNet network?",
}
"""The commands beside the study's, and what each is to find out."""


@dataclasses.dataclass(frozen=True)
class Supplement:
    """What is drawn.

    Attributes:
        whole: the study of the detector.
        imagenet: an ImageNet network for G and J; None leaves it out.
        released: a clone of the paper's released code, with its ranking; None leaves the comparison out.
    """

    whole: Whole
    imagenet: Path | None = None
    released: Path | None = None

    def run_name(self, name: str) -> str:
        """The folder of a run that the ImageNet network takes part in: each network has its own."""
        if self.imagenet is None:
            return name
        return f"{name}-{checkpoint.read_card(self.imagenet).weights_sha256[:8]}"


def supplement_of(
    detector: Path,
    images: tuple[Path, ...],
    *,
    imagenet: Path | None = None,
    released: Path | None = None,
    generator: Path | None = None,
    published: str | None = None,
    seen: str | None = None,
    rank_on: tuple[Path, ...] = (),
    size: tuple[Resize | None, int | None] = (None, None),
    labels: str | None = None,
    confidence: float = 0.9,
    k: int | None = None,
) -> tuple[Supplement, tuple[ImageFile, ...]]:
    """The supplement of a detector, with the images that there are; see `tffjax.supplement.run.paper`.

    Raises:
        InputError: as `tffjax.data.find_images` and `released_ranking`; the detector has several outputs, or the
            ImageNet network one; there is no such network or generator.
    """
    card = checkpoint.read_card(detector)
    if card.num_outputs != 1:
        raise InputError(f"{detector} has {card.num_outputs} outputs, and the paper studies detectors with one")
    if imagenet is not None and checkpoint.read_card(imagenet).num_outputs == 1:
        raise InputError(f"{imagenet} has one output; --imagenet is a network with classes, for G and J")
    if generator is not None:
        load_generator(generator)
    released_ranking(card, released)
    files, network = find_images(images, labels), network_of(card)
    names = dict.fromkeys(file.generator for file in files)
    if seen is None:
        seen = next((name for name in names if plain_name(name) == "progan"), None)
    elif seen not in names:
        raise InputError(f"there are no images of {seen}; --seen names a generator, such as {next(iter(names))}")
    own = tuple(part for data in images if seen is not None and (part := of_generator(data, seen, labels)))
    if seen is not None and not own and not rank_on:
        raise InputError(f"{seen} has no folder right below DATA: name the images on which to rank with --rank-on")
    whole = Whole(
        detector,
        images,
        rank_on or own or images,
        seen,
        size,
        labels,
        confidence=confidence,
        k=k or network.paper_k,
        ks=None if k else network.paper_ks or None,
        shown=(k or network.paper_k or 100, SHOWN),
        generator=generator,
        published=published,
    )
    return Supplement(whole, imagenet, released), files


def extra_steps(supplement: Supplement, out: Path) -> list[Step]:
    """The steps beside the study's, in their order; both need that it is done.

    Raises:
        InputError: as `tffjax.load`.
    """
    whole, runs = supplement.whole, out / RUNS
    resize, crop = whole.size if any(whole.size) else HEATMAP_SIZE
    heatmap = {
        "beside": supplement.imagenet,
        "surest": runs / "predict" / "predictions.csv",
        "negative": checkpoint.read_card(whole.detector).high_means == "real",
        "resize": resize,
        "crop": crop,
        "labels": whole.labels,
    }
    made = [Step("heatmap", whole.detector, whole.images, heatmap, runs / supplement.run_name("heatmap"))]
    if supplement.imagenet is not None:
        size = {"resize": whole.size[0], "crop": whole.size[1], "labels": whole.labels}
        options = {"ranking": None, "keys": _keys(supplement, runs), **size}
        out = runs / supplement.run_name("imagenet-color")
        made.append(Step("color", supplement.imagenet, whole.images, options, out))
    return made


def _keys(supplement: Supplement, runs: Path) -> Sequence[str]:
    """Some channels of the ImageNet network: the detector's top ones if it has them, else the first ones there are."""
    model = checkpoint.load(supplement.imagenet)
    there = [channel.key for channel in all_channels(model)]
    ranking = runs / "rank" / "ranking_fake.csv"
    top = [channel.key for channel in read_ranking(ranking).channels] if ranking.is_file() else []
    return [key for key in top if key in set(there)][:TESTED] or there[:TESTED]

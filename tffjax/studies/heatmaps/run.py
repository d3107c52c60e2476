"""Pictures of what single decisions rest on."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tffjax.data import ImageFile, find_images, fingerprint, relative_names
from tffjax.data.preprocessing import Resize, Transform, normalize
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.pipeline.groups import Group, few_images, in_groups
from tffjax.pipeline.output import output_folder
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.results.figures import contact_sheet, overlay, save_figure
from tffjax.results.record import write_record
from tffjax.results.run_result import RunResult
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, model_of, paths_of
from tffjax.studies.heatmaps.maps import Heatmap, guided_grad_cam, lrp_map
from tffjax.studies.heatmaps.surest import check_network, surest_fakes
from tffjax.studies.heatmaps.words import direction, file_label, shown, slug
from tffjax.studies.predictions import decision, kind_of

METHODS = {"guided-grad-cam": "Guided Grad-CAM", "lrp": "LRP"}
SHEET_ROWS, WIDE_SHEET_ROWS = 12, 6
"""Images of a contact sheet: of one network, and of two."""


def heatmaps(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    methods: Sequence[Literal["guided-grad-cam", "lrp"]] = tuple(METHODS),
    beside: Model | PathLike | None = None,
    surest: PathLike | None = None,
    each: int = 1,
    output: int | None = None,
    negative: bool = False,
    composite: str = "beta0",
    resize: Resize | None = None,
    crop: int | None = None,
    labels: str | None = None,
    limit: int = 24,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> RunResult:
    """Draw the positive relevance of single decisions over their images (supplement J).

    Args:
        model: a model with a card, or the folder of a checkpoint. Detectors are explained at their logit.
        data: images or folders.
        out: folder of pictures (PNG and PDF), contact sheets, heatmaps.npz with pixels, logits and maps, and run.json
            with the provenance. Names of pictures tell generator and label.
        methods: `guided-grad-cam`, `lrp`.
        beside: another network, such as an ImageNet classifier, whose maps stand beside, each image explained at its
            largest output.
        surest: predictions.csv of `tffjax predict` on these images: of each generator, the fakes of which the detector
            is surest are taken, in place of the first images.
        each: how many of them, of each generator.
        output: of a network with several, which to explain; None is the largest one of each image.
        negative: explain the negative of the output: for a detector, the other label.
        composite: name of LRP rules.
        resize, crop, labels: as of `tffjax.rank`.
        limit: at most so many images.
        overwrite: replace what tffjax wrote at `out` before.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The folder: its `figures` are the pictures.

    Raises:
        InputError: as `tffjax.load` and `tffjax.data`; `out` is not free; as `surest_fakes` and `check_network`.
    """
    (model, weights), reporter = model_of(model), reporter or Lines()
    columns = _columns(model, methods, "", composite, output, negative)
    second = None
    if beside is not None:
        second, _ = model_of(beside)
        first, other = kind_of(model.card), kind_of(second.card)
        columns = _columns(model, methods, f"{first}: ", composite, output, negative)
        columns += _columns(second, methods, f"{other if other != first else f'other {other}'}: ", composite)
    if surest is None:
        files = few_images(reporter, paths_of(data), limit, labels)
    else:
        check_network(Path(surest), model.card)
        there = find_images(paths_of(data), labels)
        files = surest_fakes(there, relative_names(there), Path(surest), each, reporter)
        if len(files) > limit:
            reporter.warn(f"{limit} of the {len(files)} surest fakes are drawn; --limit {len(files)} draws all")
        files = files[:limit]
    identity = {
        "images": fingerprint(files, relative_names(files)),
        "arguments": {
            "methods": list(methods),
            "output": output,
            "negative": negative,
            "composite": composite,
            "resize": resize,
            "crop": crop,
            "labels": labels,
            "limit": limit,
            "surest": None if surest is None else str(surest),
            "each": each,
        },
        "weights": dataclasses.asdict(model.card),
        "beside": second and dataclasses.asdict(second.card),
    }
    record = run_record("heatmap", identity, weights, data=paths_of(data))
    numbers = {str(file.path): number for number, file in enumerate(files)}
    groups = in_groups(reporter, files, paths_of(data)[0], Transform(resize, crop))
    count = sum(len(group.names) for group in groups)
    explained: list[_Explained] = []
    with output_folder(Path(out), overwrite) as folder, reporter.progress("explaining", count, "images") as advance:
        for name, pixels, found in _heatmaps(reporter, groups, columns):
            one = _explained(numbers[name], files[numbers[name]], pixels, found, columns)
            explained.append(one)
            for column in columns:
                said = f"{one.captions[column.heading]}, {direction(column.model.card, column.negative)}"
                title = f"{shown(one.file)}\n{column.heading}: {said}"
                figure = overlay(pixels, one.maps[column.heading], title, "positive relevance")
                save_figure(figure, folder / f"{one.label}_{slug(column.heading)}")
            advance(1)
        explained.sort(key=lambda one: one.number)
        captioned = [column.heading for column in columns if column.model is second]
        _save_sheets(folder, explained, captioned, WIDE_SHEET_ROWS if second else SHEET_ROWS)
        _save_arrays(folder / "heatmaps.npz", explained)
        write_record(folder, record | {"results": {"images": count, "skipped": len(files) - count}})
    _say_blank(reporter, explained, columns, second)
    reporter.say(
        f"{number_of(count, 'image')} explained by {', '.join(METHODS[method] for method in methods)}; "
        f"pictures in {out}"
    )
    return RunResult(Path(out))


class _Column(NamedTuple):
    """A network and a method: maps of one kind."""

    heading: str
    model: Model
    explain: Callable[[jax.Array], Heatmap]
    output: int | None
    negative: bool


def _columns(
    model: Model, methods: Sequence[str], prefix: str, composite: str, output: int | None = None, negative: bool = False
) -> list[_Column]:
    target, sign = ("top" if output is None else output), (-1 if negative else 1)
    explain = {
        "lrp": functools.partial(lrp_map, model, target=target, composite=composite, sign=sign),
        "guided-grad-cam": functools.partial(guided_grad_cam, model, target=target, sign=sign),
    }
    return [_Column(f"{prefix}{METHODS[method]}", model, explain[method], output, negative) for method in methods]


class _Explained(NamedTuple):
    """One image: its number and file, pixels (h, w, 3), logits of the first network, by heading a map (h, w) and what
    the network says, and a line on the image."""

    number: int
    file: ImageFile
    pixels: np.ndarray
    logits: np.ndarray
    maps: dict[str, np.ndarray]
    captions: dict[str, str]
    title: str

    @property
    def label(self) -> str:
        """How names of its pictures begin."""
        return file_label(self.number, self.file)


def _explained(
    number: int, file: ImageFile, pixels: np.ndarray, found: list[Heatmap], columns: list[_Column]
) -> _Explained:
    maps, captions = {}, {}
    for column, heatmap in zip(columns, found, strict=True):
        for what, values in (("logits", heatmap.logits), (column.heading, heatmap.heat)):
            if not np.isfinite(values).all():
                raise InputError(
                    f"{file.path}: {what} are not finite; the weights are damaged, or not those of this network"
                )
        maps[column.heading] = heatmap.heat[0]
        captions[column.heading] = decision(column.model.card, heatmap.logits[0], column.output)
    card, logits = columns[0].model.card, found[0].logits[0]
    title = f"{shown(file)}\n{decision(card, logits, columns[0].output)}, {direction(card, columns[0].negative)}"
    return _Explained(number, file, pixels, logits, maps, captions, title)


def _heatmaps(
    reporter: Reporter, groups: Sequence[Group], columns: Sequence[_Column]
) -> Iterator[tuple[str, np.ndarray, list[Heatmap]]]:
    """Name, pixels (h, w, 3) and a heatmap for each column of one image after another."""
    for group in groups:
        height, width = group.pixels.shape[1:3]
        compiling = reporter.busy(f"compiling for {height}x{width}")
        for i, name in enumerate(group.names):
            with contextlib.nullcontext() if i else compiling:
                found = []
                for column in columns:
                    image = jnp.asarray(normalize(group.pixels[i : i + 1], column.model.card.normalization))
                    found.append(Heatmap(*map(np.asarray, column.explain(image))))
            yield name, group.pixels[i], found


def _save_sheets(folder: Path, explained: Sequence[_Explained], captioned: Sequence[str], step: int) -> None:
    """Contact sheets of `step` images; what a network says stands above the maps with these headings."""
    for start in range(0, len(explained), step):
        rows = explained[start : start + step]
        sheet = contact_sheet(
            [one.pixels for one in rows],
            [one.maps for one in rows],
            [one.title for one in rows],
            [{heading: one.captions[heading] for heading in captioned} for one in rows],
        )
        save_figure(sheet, folder / f"contact_sheet_{start // step + 1}")


def _say_blank(
    reporter: Reporter, explained: Sequence[_Explained], columns: Sequence[_Column], second: Model | None
) -> None:
    for column in columns:
        blank = [one for one in explained if one.maps[column.heading].max() <= 0]
        if blank:
            other = "without --negative" if column.negative else "with --negative"
            opposite = "" if column.model is second else f"; {other} it shows what speaks for the opposite"
            reporter.warn(
                f"{column.heading} is blank for {len(blank)} of {len(explained)} images, such as "
                f"{shown(blank[0].file)}: nothing that it looks at speaks for this decision{opposite}"
            )


def _save_arrays(path: Path, explained: Sequence[_Explained]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for one in explained:
        arrays |= {f"{one.label}/pixels": one.pixels, f"{one.label}/logits": one.logits}
        arrays |= {f"{one.label}/{heading}": heat for heading, heat in one.maps.items()}
    np.savez_compressed(path, paths=np.array([str(one.file.path) for one in explained]), **arrays)

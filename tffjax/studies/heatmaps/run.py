"""Pictures of what single decisions rest on."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tffjax.data import fingerprint, relative_names
from tffjax.data.preprocessing import Resize, Transform, normalize
from tffjax.errors import InputError
from tffjax.files import shortened
from tffjax.nn import Model, Normalization
from tffjax.pipeline.groups import Group, few_images, in_groups
from tffjax.pipeline.output import output_folder
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.results.figures import contact_sheet, overlay, save_figure
from tffjax.results.record import write_record
from tffjax.results.run_result import RunResult
from tffjax.studies.call import PathLike, model_of, paths_of
from tffjax.studies.heatmaps.maps import Heatmap, guided_grad_cam, lrp_map
from tffjax.studies.predictions import fake_probability

METHODS = {"lrp": "LRP", "guided-grad-cam": "Guided Grad-CAM"}
SHEET_ROWS = 12


def heatmaps(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    methods: Sequence[Literal["lrp", "guided-grad-cam"]] = tuple(METHODS),
    output: int | None = None,
    negative: bool = False,
    composite: str = "beta0",
    resize: Resize | None = None,
    crop: int | None = None,
    limit: int = 24,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> RunResult:
    """Draw the positive relevance of single decisions over their images.

    Args:
        model: a model with a card, or the folder of a checkpoint. Detectors are explained at their logit.
        data: images or folders.
        out: folder of pictures (PNG and PDF), contact sheets, heatmaps.npz with pixels, logits and maps, and run.json
            with the provenance.
        methods: `lrp`, `guided-grad-cam`.
        output: of a network with several, which to explain; None is the largest one of each image.
        negative: explain the negative of the output: for a detector, the other label.
        composite: name of LRP rules.
        resize, crop: as of `tffjax.rank`.
        limit: at most so many images.
        overwrite: replace what tffjax wrote at `out` before.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The folder: its `figures` are the pictures.

    Raises:
        InputError: as `tffjax.load` and `tffjax.data`; `out` is not free.
    """
    (model, weights), reporter = model_of(model), reporter or Lines()
    files = few_images(reporter, paths_of(data), limit)
    identity = {
        "images": fingerprint(files, relative_names(files)),
        "arguments": {
            "methods": list(methods),
            "output": output,
            "negative": negative,
            "composite": composite,
            "resize": resize,
            "crop": crop,
            "limit": limit,
        },
        "weights": dataclasses.asdict(model.card),
    }
    record = run_record("heatmap", identity, weights, data=paths_of(data))
    groups = in_groups(reporter, files, paths_of(data)[0], Transform(resize, crop))
    count = sum(len(group.names) for group in groups)
    target, sign = ("top" if output is None else output), (-1 if negative else 1)
    explain = {
        "lrp": functools.partial(lrp_map, model, target=target, composite=composite, sign=sign),
        "guided-grad-cam": functools.partial(guided_grad_cam, model, target=target, sign=sign),
    }
    explained: list[_Explained] = []
    with output_folder(Path(out), overwrite) as folder, reporter.progress("explaining", count, "images") as advance:
        chosen = {METHODS[method]: explain[method] for method in methods}
        for name, pixels, found in _heatmaps(reporter, groups, model.card.normalization, chosen):
            logits = next(iter(found.values())).logits[0]
            title = f"{_shown(name)}: {_decision(model, logits, output, negative)}"
            maps = {method: heatmap.heat[0] for method, heatmap in found.items()}
            _check_finite(name, logits, maps)
            explained.append(_Explained(name, pixels, logits, maps, title))
            label = _label(len(explained) - 1, name)
            for method, heat in maps.items():
                figure = overlay(pixels, heat, f"{title}\n{method}", "positive relevance")
                save_figure(figure, folder / f"{label}_{method.lower().replace(' ', '-')}")
            advance(1)
        for start in range(0, count, SHEET_ROWS):
            rows = explained[start : start + SHEET_ROWS]
            sheet = contact_sheet([e.pixels for e in rows], [e.maps for e in rows], [e.title for e in rows])
            save_figure(sheet, folder / f"contact_sheet_{start // SHEET_ROWS + 1}")
        _save_arrays(folder / "heatmaps.npz", explained)
        write_record(folder, record | {"results": {"images": count, "skipped": len(files) - count}})
    for method in chosen:
        blank = [one for one in explained if one.maps[method].max() <= 0]
        if blank:
            other = "without --negative" if negative else "with --negative"
            reporter.warn(
                f"{method} is blank for {len(blank)} of {count} images, such as {_shown(blank[0].name)}: nothing "
                f"that it looks at speaks for this decision; {other} it shows what speaks for the opposite"
            )
    reporter.say(f"{count} images explained by {', '.join(METHODS[method] for method in methods)}; pictures in {out}")
    return RunResult(Path(out))


def _check_finite(name: str, logits: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    wrong = [what for what, values in {"logits": logits, **maps}.items() if not np.isfinite(values).all()]
    if wrong:
        raise InputError(f"{name}: {wrong[0]} are not finite; the weights are damaged, or not those of this network")


class _Explained(NamedTuple):
    """One image: its name, pixels (h, w, 3), logits, a map (h, w) for each method, and a line on the decision."""

    name: str
    pixels: np.ndarray
    logits: np.ndarray
    maps: dict[str, np.ndarray]
    title: str


def _heatmaps(
    reporter: Reporter,
    groups: Sequence[Group],
    normalization: Normalization,
    methods: dict[str, Callable[[jax.Array], Heatmap]],
) -> Iterator[tuple[str, np.ndarray, dict[str, Heatmap]]]:
    """Name, pixels (h, w, 3) and heatmaps by method of one image after another."""
    for group in groups:
        height, width = group.pixels.shape[1:3]
        compiling = reporter.busy(f"compiling for {height}x{width}")
        for i, name in enumerate(group.names):
            image = jnp.asarray(normalize(group.pixels[i : i + 1], normalization))
            with contextlib.nullcontext() if i else compiling:
                found = {method: explain(image) for method, explain in methods.items()}
                found = {method: Heatmap(*map(np.asarray, heatmap)) for method, heatmap in found.items()}
            yield name, group.pixels[i], found


def _shown(name: str) -> str:
    """The name of the file, after generator and label where folders give them: a fake may be named as its real."""
    path = Path(name)
    return "/".join(path.parts[-3:]) if path.parent.name in ("0_real", "1_fake") else path.name


def _label(number: int, name: str) -> str:
    return f"{number:03d}_{shortened(re.sub(r'[^A-Za-z0-9.-]+', '_', Path(name).stem))}"


def _save_arrays(path: Path, explained: Sequence[_Explained]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, one in enumerate(explained):
        label = _label(number, one.name)
        arrays |= {f"{label}/pixels": one.pixels, f"{label}/logits": one.logits}
        arrays |= {f"{label}/{method}": heat for method, heat in one.maps.items()}
    np.savez_compressed(path, paths=np.array([one.name for one in explained]), **arrays)


def _decision(model: Model, logits: np.ndarray, output: int | None, negative: bool) -> str:
    if model.card.num_outputs == 1:
        explained = model.card.high_means if not negative else {"fake": "real", "real": "fake"}[model.card.high_means]
        return f"p(fake) = {fake_probability(logits, model.card)[0]:.3f}, what speaks for {explained}"
    index = int(logits.argmax()) if output is None else output
    shares = np.exp(logits.astype(np.float64) - logits.max())
    sign = "against" if negative else "for"
    return f"what speaks {sign} output {index}, p = {shares[index] / shares.sum():.3f}"

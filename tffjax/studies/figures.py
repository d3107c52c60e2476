"""Figures of the paper's supplement, drawn from finished runs: D.1 to D.4 and H.1 to H.4, F.1.

Runs may be several, such as one for each generator; what two of them have is taken from the first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from matplotlib.figure import Figure

from tffjax.errors import InputError
from tffjax.files import RECORD, file_name, sha256_of
from tffjax.pipeline.output import output_folder
from tffjax.pipeline.provenance import run_record
from tffjax.results.figures import save_figure
from tffjax.results.generators import in_order, plain_name
from tffjax.results.record import identity_of, write_record
from tffjax.results.run_result import RunResult
from tffjax.results.tables import has_table, read_table
from tffjax.studies.call import PathLike, paths_of
from tffjax.studies.color.figures import density_grid as draw_grid
from tffjax.studies.color.figures import whiskers
from tffjax.studies.color.samples import density_panels, place_of, read_samples
from tffjax.studies.lrpmax.figures import PAGE, draw_collage, patch_cell, title_of
from tffjax.studies.lrpmax.patches import Patch, read_patches
from tffjax.studies.rankings import Channel, Ranking, as_channels, broken
from tffjax.studies.selection import GRAYSCALE, amounts, choose

Runs = PathLike | Sequence[PathLike]

SHARP = 200.0
"""Least pixels an inch of a page."""


def channels_of(
    runs: Runs,
    command: str,
    keys: Sequence[str] | None = None,
    where: str | None = None,
    color: PathLike | None = None,
    k: int | None = None,
) -> tuple[Channel, ...]:
    """The channels of runs in their order, or those that are chosen of them.

    Args:
        runs: finished run directories.
        command: that made them, `lrpmax` or `color`.
        keys, where, color: as of `tffjax.studies.selection.choose`.
        k: the first so many, or all where there are fewer; None is all.

    Raises:
        InputError: as `choose`; something is no finished run of the command, or they are of several networks.
    """
    identities = _identities(runs, command)
    weights = identities[0]["weights"].get("weights_sha256")
    channels = as_channels(list(dict.fromkeys(key for identity in identities for key in identity["channels"])))
    chosen = choose(Ranking(channels, np.full(len(channels), np.nan)), keys, where, color, weights)
    return chosen.channels[: amounts(chosen, [k or chosen.count]).ks[0]]


def collage(
    runs: Runs,
    channels: Sequence[str | Channel] | None = None,
    generators: Sequence[str] | None = None,
    *,
    each: int = 1,
    context: float | None = None,
    heat: bool = False,
    stretch: bool = True,
) -> Figure:
    """Patches of LRP-max: a row for each channel, a column for each generator (D.1, D.3, H.1, H.3).

    Args:
        runs: run directories of `tffjax lrpmax`.
        channels: or their keys; None is all of the runs.
        generators: in the order of the columns, in any case; None is all, the paper's first and in its order.
        each: images of each channel and generator, the best ones.
        context: show the square around the patch that is so many times as wide, and a frame around the patch; the
            images must be where they were.
        heat: show the positive relevance of the neuron over the gray patch.
        stretch: lighten patches that are dark, with the factor in the corner.

    Returns:
        A figure at most as wide as a page (7 inches), with a `dpi` that keeps every pixel of its cells.

    Raises:
        InputError: as `read_patches`; a generator or channel is not in the runs, or there are no patches.
    """
    keys = _keys(runs, "lrpmax", channels)
    indices = [read_table(run / "index") for run in paths_of(runs)]
    columns = _columns((name for index in indices for name in index["generator"].to_pylist()), generators)
    by = dict.fromkeys(identity["arguments"]["by"] for identity in _identities(runs, "lrpmax"))
    patches: dict[tuple[str, str], list[Patch]] = {}
    for run in paths_of(runs):
        patches = read_patches(run, keys, columns, each, context, heat) | patches
    cells = {
        place: [patch_cell(patch.pixels, frame=patch.frame, stretch=stretch and not heat) for patch in some]
        for place, some in patches.items()
    }
    if not cells:
        raise InputError("none of these channels is active on an image of these generators, so there are no patches")
    what = f"{'relevance in patches' if heat else 'patches'}{' and what is around them' if context else ''}"
    return draw_collage(cells, {key: broken(key) for key in keys}, columns, title_of(cells, what, " or ".join(by)))


def density_grid(
    runs: Runs,
    channels: Sequence[str | Channel] | None = None,
    generators: Sequence[str] | None = None,
    *,
    ablation: str = GRAYSCALE,
    title: str = "",
) -> Figure:
    """Densities of maximal activations before and after an ablation, the same channels for every generator.

    D.2, D.4, H.2 and H.4: a row for each channel, a column for each generator; see
    `tffjax.studies.color.figures.density_grid`. Of fewer than 30 images they are histograms.

    Args:
        runs: run directories of `tffjax color`.
        channels: or their keys; None is all of the runs.
        generators: in the order of the columns, in any case; None is all, the paper's first and in its order.
        ablation: that the runs have.
        title: above all.

    Raises:
        InputError: a run is none of `tffjax color` or has no such ablation; a generator or channel is not in the runs,
            or none of these channels was tested on these generators; the runs are of several networks.
    """
    keys = _keys(runs, "color", channels)
    panels: dict = {}
    tested: list[str] = []
    for run in paths_of(runs):
        samples, own = read_samples(run)
        after = place_of(ablation, samples, run)
        tests = read_table(run / "tests")
        tests = tests.filter(pa.compute.equal(tests["ablation"], ablation))
        tested += tests["generator"].to_pylist()
        before, after = (samples.activations[variant][samples.asked] for variant in (0, after))
        panels = density_panels(own, tests, samples.generator[samples.asked], before, after, set(keys)) | panels
    columns = _columns(tested, generators)
    shown = {place: panel for place, panel in panels.items() if place[1] in columns}
    if not shown:
        raise InputError("none of these channels was tested on the images of these generators")
    return draw_grid(shown, keys, columns, title, ("baseline", ablation))


def dropped_medians(runs: Runs, generators: Sequence[str] | None = None, *, ablation: str = GRAYSCALE) -> Figure:
    """Box plots of the probability of being fake before and after an ablation, with the drop of the medians (F.1).

    Of each generator those fakes count whose probability before is at least 20 %, as in the paper.

    Args:
        runs: run directories of `tffjax color`.
        generators: in this order, in any case; None is all, the paper's first and in its order.
        ablation: that the runs have.

    Raises:
        InputError: a run is none of `tffjax color`, or has no fakes that count under this ablation; the runs are of
            several networks.
    """
    _identities(runs, "color")
    rows: dict[str, dict] = {}
    for run in paths_of(runs):
        name = f"whiskers_{file_name(ablation)}"
        if not has_table(run / name):
            raise InputError(f"{run} has no fakes with p >= 0.20 under {ablation}, or is of no detector")
        rows = {row["generator"]: row for row in read_table(run / name).to_pylist()} | rows
    columns = _columns(rows, generators)
    return whiskers(pa.Table.from_pylist([rows[name] for name in columns]), ("baseline", ablation), order=columns)


def write_figures(
    kind: str,
    runs: Runs,
    out: PathLike,
    draw: Callable[[Sequence[Channel]], Figure],
    channels: Sequence[Channel],
    arguments: Mapping[str, Any],
    overwrite: bool = False,
) -> RunResult:
    """Write a figure of many channels as pages of `PAGE` of them, PNG and PDF, and run.json with the provenance.

    Args:
        kind: the figures' name.
        runs: that are drawn.
        out: the folder to make.
        draw: some of the channels.
        channels: none makes one page of what has none.
        arguments: what was asked for.
        overwrite: replace what is there.

    Raises:
        InputError: as `draw` and `tffjax.pipeline.output.check_output`.
    """
    paths = paths_of(runs)
    identity = {
        "arguments": dict(arguments),
        "channels": [channel.key for channel in channels],
        "runs": [sha256_of(path / RECORD) for path in paths],
    }
    record = run_record("figure", identity, computes=False, runs=paths)
    with output_folder(Path(out), overwrite) as folder:
        pages = [channels[start : start + PAGE] for start in range(0, max(len(channels), 1), PAGE)]
        for number, page in enumerate(pages, start=1):
            figure = draw(page)
            name = kind if len(pages) == 1 else f"{kind}_{number}"
            save_figure(figure, folder / name, dpi=max(figure.dpi, SHARP))
        write_record(folder, record | {"results": {"pages": len(pages)}})
    return RunResult(Path(out))


def _identities(runs: Runs, command: str) -> list[dict[str, Any]]:
    """What identifies finished runs, all of one network."""
    identities = [identity_of(run, command) for run in paths_of(runs)]
    if len({identity["weights"].get("weights_sha256") for identity in identities}) > 1:
        raise InputError("the runs are of several networks; draw a figure for each of them")
    return identities


def _keys(runs: Runs, command: str, channels: Sequence[str | Channel] | None) -> list[str]:
    keys = None if channels is None else [channel.key for channel in as_channels(channels)]
    return [channel.key for channel in channels_of(runs, command, keys)]


def _columns(there: Iterable[str], wanted: Sequence[str] | None) -> list[str]:
    """Generators as the runs write them, in the order in which they are wanted."""
    ordered = in_order(there)
    if wanted is None:
        return ordered
    by_name = {plain_name(name): name for name in ordered}
    if missing := [name for name in wanted if plain_name(name) not in by_name]:
        raise InputError(f"the runs have no generator {missing[0]}; they have {', '.join(ordered)}")
    return list(dict.fromkeys(by_name[plain_name(name)] for name in wanted))

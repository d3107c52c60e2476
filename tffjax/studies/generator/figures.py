"""Pictures of the study: figure M.1, the masking curve, the layers, the images themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from tffjax.results.style import BLACK, COLORS, GRAY, WIDTH, column_figure, label_axes
from tffjax.results.words import number_of
from tffjax.studies.dropout.settings import counted

KINDS = {"top": COLORS[5], "random": COLORS[0], "low": COLORS[2]}


def boxes(
    before: Float[np.ndarray, " n"], after: dict[str, Float[np.ndarray, " _"]], k: int, percent: float, name: str
) -> Figure:
    """Figure M.1: the detector's probability before and after masking, side by side for the top and random channels.

    Boxes are quartiles with the median; whiskers reach the last image within 1.5 of the box's height.

    Args:
        before: of every image, nothing masked.
        after: `top` and `random` (all draws together).
        k, percent: how many channels are masked.
        name: of the generator.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    for axes, (kind, values) in zip(figure.subplots(1, 2, sharey=True), after.items(), strict=True):
        drawn = axes.boxplot(
            [100 * before, 100 * values],
            tick_labels=["before", "after"],
            widths=0.6,
            patch_artist=True,
            medianprops={"color": BLACK, "linewidth": 1.6},
            flierprops={"marker": ".", "markersize": 2, "markeredgecolor": GRAY},
        )
        for box, color in zip(drawn["boxes"], (GRAY, KINDS[kind]), strict=True):
            box.set_facecolor(color)
        medians = 100 * np.median(before), 100 * np.median(values)
        label_axes(axes, f"median {medians[0]:.1f} to {medians[1]:.1f}", "", f"{kind} {k} channels")
        axes.set_ylim(-3, 103)
    figure.axes[0].set_ylabel("probability of being fake [%]", fontsize=8)
    figure.suptitle(
        f"{name}: {number_of(len(before), 'image')}, {percent:.3g} % of the channels masked",
        fontsize=8,
        parse_math=False,
    )
    return figure


def curve(table: pa.Table) -> Figure:
    """Median probability against the percentage of masked channels; the band is that of the draws' medians."""
    rows = table.to_pylist()
    base = 100 * rows[0]["median"]
    figure, axes = column_figure(2.6)
    axes.axhline(base, color=BLACK, linestyle=":", linewidth=0.8, label="nothing masked")
    for kind, color in KINDS.items():
        own = [row for row in rows if (found := counted(row["setting"])) and found[0] == kind]
        x = [row["percent"] for row in own]
        axes.plot(x, [100 * row["median"] for row in own], "o-", color=color, markersize=3, linewidth=1.2, label=kind)
        low, high = ([100 * row[end] for row in own] for end in ("median_low", "median_high"))
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set_ylim(-3, 103)
    label_axes(axes, "channels masked [%]", "median probability [%]")
    axes.legend(fontsize=7, frameon=False)
    return figure


def layers(table: pa.Table, k: int) -> Figure:
    """For each site, the relevance that reaches it, and which part of its channels is among the top ones."""
    rows = table.to_pylist()
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    scales = list(dict.fromkeys(row["scale"] for row in rows))
    colors = [COLORS[scales.index(row["scale"]) % len(COLORS)] for row in rows]
    x = np.arange(len(rows))
    above.bar(x, [row["relevance"] for row in rows], color=colors)
    above.axhline(0, color=BLACK, linewidth=0.6)
    label_axes(above, "", "relevance")
    below.bar(x, [100 * row["share"] for row in rows], color=colors)
    for place, row in zip(x, rows, strict=True):
        below.annotate(str(row["top"]), (place, 100 * row["share"]), ha="center", va="bottom", fontsize=6)
    label_axes(below, "", f"% of its channels\namong the top {k}")
    below.set_xticks(x, [row["site"] for row in rows], rotation=60, ha="right", rotation_mode="anchor")
    below.margins(y=0.15)
    return figure


def sheet(images: Sequence[UInt8[np.ndarray, "n s s 3"]], names: Sequence[str], scores: Any) -> Figure:
    """Images of the same latents, a row for each set of masked channels, with the detector's probability above each."""
    figure = Figure(figsize=(0.95 * len(images[0]) + 0.4, 1.15 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), len(images[0]), squeeze=False)
    for row, some, name, values in zip(grid, images, names, scores, strict=True):
        for axes, image, value in zip(row, some, values, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{value:.0%}", fontsize=7, pad=2)
        row[0].set_ylabel(name, fontsize=7)
    return figure

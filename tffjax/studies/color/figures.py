"""Pictures of the color study. Each is drawn from a table (or tables) alone, so that the table is its data."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tffjax.data.ablations import ORIGINAL, parse, strongest_last
from tffjax.results.generators import ALL
from tffjax.results.style import BLACK, COLORS, WIDTH, column_figure, label_axes, short_name
from tffjax.studies.color.statistics import ALPHA
from tffjax.studies.rankings import parse_key

BEFORE, AFTER = COLORS[:2]
MARKERS = "os^Dvp*"

_ROW = 0.42  # inches for a generator


def whiskers(
    table: pa.Table, names: tuple[str, str] = ("RGB", "grayscale"), label: str = "probability of being fake [%]"
) -> Figure:
    """Box plots of the probability before and after for each generator, with the drop of the medians.

    Args:
        table: from `tffjax.studies.color.tables.whisker_table`.
        names: of the images before and after.
        label: of the axis.
    """
    rows = table.to_pylist()
    figure, axes = column_figure(_ROW * len(rows) + 1.0)
    for y, row in enumerate(rows):
        _draw_box(axes, y - 0.19, row, "before", BEFORE)
        _draw_box(axes, y + 0.19, row, "after", AFTER)
        axes.text(1.02, y, f"{row['drop']:.1f}", transform=axes.get_yaxis_transform(), fontsize=7, va="center")
    axes.text(1.02, -0.6, "drop", transform=axes.get_yaxis_transform(), fontsize=7, va="bottom")
    _name_rows(axes, rows)
    axes.set_xlim(-2, 102)
    label_axes(axes, label, "")
    _legend_below(figure, [Patch(color=BEFORE, label=names[0]), Patch(color=AFTER, label=names[1])])
    return figure


def shares(table: pa.Table) -> Figure:
    """Share of channels whose maximal activation responds, by Mood's test, for each generator.

    Args:
        table: from `tffjax.studies.color.statistics.share_table`.
    """
    rows = table.to_pylist()
    figure, axes = column_figure(_ROW * len(rows) + 1.0)
    for y, row in enumerate(rows):
        axes.barh(y, 100 * row["share"], height=0.6, color=BEFORE, alpha=0.55)
        axes.plot(100 * row["share_adjusted"], y, "D", color=BLACK, markersize=4, clip_on=False)
        counts = f"{row['num_conditional']}/{row['num_channels']}"
        axes.text(1.03, y, counts, transform=axes.get_yaxis_transform(), fontsize=7, va="center")
    _name_rows(axes, rows)
    axes.set_xlim(0, 100)
    label_axes(axes, "% of channels", "")
    adjusted = axes.plot([], [], "D", color=BLACK, markersize=4, label=f"adjusted p \N{LESS-THAN OR EQUAL TO} {ALPHA}")
    _legend_below(figure, [Patch(color=BEFORE, label=f"p \N{LESS-THAN OR EQUAL TO} {ALPHA}", alpha=0.55), *adjusted])
    return figure


def densities(
    most: Sequence[tuple[dict[str, Any], pa.Table]],
    least: Sequence[tuple[dict[str, Any], pa.Table]],
    names: tuple[str, str] = ("RGB", "grayscale"),
    titles: tuple[str, str] = ("most color-conditional", "least color-conditional"),
) -> Figure:
    """Densities of maximal activations before and after; a sample without spread is a vertical line.

    Args:
        most: left column: rows of `tffjax.studies.color.statistics.channel_table`, with their `density_table`.
        least: right column.
        names: of the images before and after.
        titles: of the columns.
    """
    figure = Figure(figsize=(WIDTH, 1.2 * max(len(most), len(least), 1) + 0.6), layout="constrained")
    for part, panels, title in zip(figure.subfigures(1, 2), (most, least), titles, strict=True):
        part.suptitle(title, fontsize=8)
        for axes, (row, density) in zip(part.subplots(max(len(panels), 1), 1, squeeze=False)[:, 0], panels,
                                        strict=False):  # fmt: skip
            _draw_density(axes, density, "before", BEFORE, "-")
            _draw_density(axes, density, "after", AFTER, "--")
            channel = parse_key(row["key"])
            facts = f"p = {row['p']:.2g}, effect {row['effect']:.3g}, n = {row['num']}"
            noted = f"\n{row['note']}" if row["note"] else ""
            axes.set_title(f"{channel.site} #{channel.index}\n{facts}{noted}", fontsize=6, parse_math=False)
            axes.set_ylim(0, None)
            axes.set_xlim(*density["activation"].to_numpy()[[0, -1]])
            axes.set_yticks([])
            axes.tick_params(labelsize=6)
            axes.spines[["top", "right", "left"]].set_visible(False)
        part.supxlabel("maximal activation", fontsize=7)
    _legend_below(
        figure, [Patch(color=BEFORE, label=names[0], alpha=0.5), Patch(color=AFTER, label=names[1], alpha=0.5)]
    )
    return figure


def curves(table: pa.Table, name: str, column: str = "ap", label: str = "average precision [%]") -> Figure:
    """A metric against the strength of an ablation, a line for each generator, from the original images on.

    The strengths stand at equal distances, the mildest first.

    Args:
        table: from `tffjax.results.detection.metrics_table` or `tffjax.studies.color.tables.class_table`.
        name: of the ablation, such as `jpeg`; rows of others are left out.
        column: of the table, from 0 to 1.
        label: of the axis, in percent.
    """
    rows = table.to_pylist()
    used = dict.fromkeys(row["ablation"] for row in rows if row["ablation"] != ORIGINAL)
    steps = strongest_last(tuple(ablation for ablation in map(parse, used) if ablation.name == name))
    places = [ORIGINAL, *map(str, steps)]
    figure, axes = column_figure(2.9)
    values = {(row["ablation"], row.get("generator", ALL)): row for row in rows}
    lines = dict.fromkeys(generator for _, generator in values)
    looks = itertools.cycle(itertools.product(("-", "--", ":"), COLORS))
    for generator, (line, color), marker in zip(lines, looks, itertools.cycle(MARKERS), strict=False):
        own = [values[place, generator] for place in places]
        look = {"color": BLACK, "linewidth": 1.8} if generator == ALL else {"color": color, "linewidth": 1.0}
        y = [100 * row[column] for row in own]
        named = f"{short_name(generator)} (n = {_count(own[0])})"
        axes.plot(y, line, marker=marker, markersize=3, label=named, **look)
    axes.set_xticks(range(len(places)), [ORIGINAL, *(f"{step.strength:g}" for step in steps)])
    axes.set_ylim(None, 102)
    label_axes(axes, name, label)
    _legend_below(figure, axes.get_legend_handles_labels()[0], columns=2)
    return figure


def _draw_box(axes: Axes, y: float, row: dict[str, Any], suffix: str, color: str) -> None:
    low, q1, median, q3, high = (row[f"{part}_{suffix}"] for part in ("low", "q1", "median", "q3", "high"))
    axes.plot([low, high], [y, y], color=BLACK, linewidth=0.7, zorder=1)
    axes.barh(y, q3 - q1, left=q1, height=0.32, color=color, edgecolor=BLACK, linewidth=0.7, zorder=2)
    axes.plot([median, median], [y - 0.16, y + 0.16], color=BLACK, linewidth=1.8, zorder=3)


def _draw_density(axes: Axes, density: pa.Table, column: str, color: str, line: str) -> None:
    x, y = density["activation"].to_numpy(), density[column].to_numpy()
    if np.isfinite(y).all():
        axes.fill_between(x, y, color=color, alpha=0.35, linewidth=0)
        axes.plot(x, y, color=color, linewidth=1.0, linestyle=line)
    else:
        axes.axvline(x[np.isinf(y)][0], color=color, linewidth=1.5, linestyle=line)


def _name_rows(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_yticks(
        range(len(rows)), [f"{short_name(row['generator'])}\nn = {row['num']}" for row in rows], parse_math=False
    )
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def _count(row: dict[str, Any]) -> int:
    return row["num"] if "num" in row else row["num_real"] + row["num_fake"]


def _legend_below(figure: Figure, handles: Sequence[Any], columns: int = 2) -> None:
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)

"""Pictures of the color study. Each is drawn from a table (or tables) alone, so that the table is its data."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tffjax.data.ablations import ORIGINAL, parse, strongest_last
from tffjax.results.generators import ALL, in_order, shown_name
from tffjax.results.style import BLACK, COLORS, PAGE, WIDTH, column_figure, label_axes
from tffjax.studies.color.statistics import ALPHA
from tffjax.studies.rankings import broken

BEFORE, AFTER = COLORS[:2]
MARKERS = "os^Dvp*"

_ROW = 0.42  # inches for a generator
_TITLE = 48  # characters above a panel as wide as a column
_ASIDE = 0.9  # inches left of a grid, for the names of channels


def whiskers(
    table: pa.Table,
    names: tuple[str, str] = ("baseline", "grayscale"),
    label: str = "probability of being fake [%]",
    order: Sequence[str] | None = None,
) -> Figure:
    """Box plots of the probability before and after, side by side for each generator, with the drop of the medians.

    Figure F.1 of the supplement: quartiles, whiskers of 1.5 interquartile ranges, the median as a line and a dot.

    Args:
        table: from `tffjax.studies.color.tables.whisker_table`.
        names: of the images before and after.
        label: of the axis.
        order: of the generators; None is the paper's, then as they come.
    """
    rows = _ordered(table, order)
    figure = Figure(figsize=(WIDTH if len(rows) <= 8 else PAGE, 2.9), layout="constrained")
    axes = figure.subplots()
    _draw_whiskers(axes, rows)
    label_axes(axes, "", label)
    _legend_below(figure, _patches(names))
    return figure


def networks(table: pa.Table, names: tuple[str, str] = ("baseline", "grayscale")) -> Figure:
    """Box plots of the probability of each network's decision before and after, a panel for each network (figure G).

    Args:
        table: from `tffjax.studies.color.across.network_table`.
        names: of the images before and after.
    """
    rows = table.to_pylist()
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row["network"], []).append(row)
    width = WIDTH if max(map(len, parts.values())) <= 8 else PAGE
    figure = Figure(figsize=(width, 2.5 * len(parts) + 0.4), layout="constrained")
    for axes, (name, own) in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts.items(), strict=True):
        _draw_whiskers(axes, own)
        label_axes(axes, "", "probability of its decision [%]")
        axes.set_title(textwrap.fill(name, _TITLE), fontsize=7, pad=16, parse_math=False)
    _legend_below(figure, _patches(names))
    return figure


def _draw_whiskers(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Pairs of boxes side by side, with the drop of the medians above."""
    above = axes.get_xaxis_transform()
    for x, row in enumerate(rows):
        _draw_box(axes, x - 0.2, row, "before", BEFORE)
        _draw_box(axes, x + 0.2, row, "after", AFTER)
        axes.text(x, 1.03, _signless(row["drop"]), transform=above, fontsize=7, ha="center")
    axes.text(-0.02, 1.03, "drop of the\nmedian", transform=axes.transAxes, fontsize=6, ha="right", linespacing=0.9)
    middle, half = (len(rows) - 1) / 2, max(len(rows), 3) / 2 + 0.1
    axes.set_xlim(middle - half, middle + half)
    axes.set_ylim(-3, 103)
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(rows) > 5 else {}
    labels = [_named(row, " " if turned else "\n") for row in rows]
    axes.set_xticks(range(len(rows)), labels, parse_math=False, **turned)
    axes.tick_params(axis="x", length=0)


def shares(table: pa.Table) -> Figure:
    """Share of channels whose maximal activation responds, by Mood's test, for each generator.

    Args:
        table: from `tffjax.studies.color.statistics.share_table`.
    """
    rows = _ordered(table)
    figure, axes = column_figure(_ROW * len(rows) + 1.0)
    for y, row in enumerate(rows):
        axes.barh(y, 100 * row["share"], height=0.6, color=BEFORE, alpha=0.55)
        axes.plot(100 * row["share_adjusted"], y, "D", color=BLACK, markersize=4, clip_on=False)
        counts = f"{row['num_conditional']}/{row['num_channels']}"
        axes.text(1.03, y, counts, transform=axes.get_yaxis_transform(), fontsize=7, va="center")
    axes.set_yticks(range(len(rows)), [_named(row) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    label_axes(axes, "% of channels", "")
    adjusted = axes.plot([], [], "D", color=BLACK, markersize=4, label=f"adjusted p \N{LESS-THAN OR EQUAL TO} {ALPHA}")
    _legend_below(figure, [Patch(color=BEFORE, label=f"p \N{LESS-THAN OR EQUAL TO} {ALPHA}", alpha=0.55), *adjusted])
    return figure


def density_grid(
    panels: Mapping[tuple[str, str], tuple[dict[str, Any], pa.Table]],
    keys: Sequence[str],
    generators: Sequence[str],
    title: str = "",
    names: tuple[str, str] = ("baseline", "grayscale"),
) -> Figure:
    """Densities of maximal activations before and after, channels by generators (D.2, D.4, H.2, H.4 of the supplement).

    Above each panel stand the medians before and after, Mood's p and the effect, in bold where p is at most `ALPHA`;
    the medians are vertical lines. A row has one axis; a sample without spread is a vertical line.

    Args:
        panels: (key, generator) -> row of `tffjax.studies.color.statistics.channel_table`, and `density_table`; where
            there are none the place stays white.
        keys: of the rows.
        generators: of the columns.
        title: above all.
        names: of the images before and after.
    """
    width = max(_ASIDE + 0.88 * len(generators), WIDTH)
    figure = Figure(figsize=(width, 1.0 * len(keys) + 0.85), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    grid = figure.subplots(len(keys), len(generators), sharex="row", squeeze=False)
    for axes_row, key in zip(grid, keys, strict=True):
        axes_row[0].set_ylabel(broken(key), fontsize=6, parse_math=False, rotation=0, ha="right", va="center")
        for axes, generator in zip(axes_row, generators, strict=True):
            if (key, generator) in panels:
                _draw_panel(axes, *panels[key, generator])
            axes.set_yticks([])
            axes.tick_params(labelsize=5.5, length=2)
            axes.spines[["top", "right", "left"]].set_visible(False)
        drawn = [table["activation"].to_numpy() for (own, _), (_, table) in panels.items() if own == key]
        if drawn:
            axes_row[0].set_xlim(min(x[0] for x in drawn), max(x[-1] for x in drawn))
    for axes, generator in zip(grid[0], generators, strict=True):
        own = [row for (_, name), (row, _) in panels.items() if name == generator]
        name = f"{shown_name(generator)}\nn = {own[0]['num'] if own else 0}"
        axes.annotate(name, (0.5, 1), (0, 25), "axes fraction", "offset points", fontsize=6.5, ha="center",
                      parse_math=False)  # fmt: skip
    grid[-1][len(generators) // 2].set_xlabel("maximal activation", fontsize=7)
    figure.suptitle(title, fontsize=8, parse_math=False)
    _legend_below(figure, _patches(names, alpha=0.5))
    return figure


def curves(table: pa.Table, name: str, column: str = "ap", label: str = "average precision [%]") -> Figure:
    """A metric against the strength of an ablation, a line for each generator, from the original images on.

    The strengths stand at equal distances, the mildest first.

    Args:
        table: from `tffjax.results.detection.metrics_table` or `tffjax.studies.classes.class_table`.
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
    lines = in_order(generator for _, generator in values)
    looks = itertools.cycle(itertools.product(("-", "--", ":"), COLORS))
    for generator, (line, color), marker in zip(lines, looks, itertools.cycle(MARKERS), strict=False):
        own = [values[place, generator] for place in places]
        look = {"color": BLACK, "linewidth": 1.8} if generator == ALL else {"color": color, "linewidth": 1.0}
        y = [100 * row[column] for row in own]
        axes.plot(y, line, marker=marker, markersize=3, label=f"{shown_name(generator)} (n = {_count(own[0])})", **look)
    axes.set_xticks(range(len(places)), [ORIGINAL, *(f"{step.strength:g}" for step in steps)])
    axes.set_ylim(None, 102)
    label_axes(axes, name, label)
    _legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def _draw_box(axes: Axes, x: float, row: dict[str, Any], suffix: str, color: str) -> None:
    low, q1, median, q3, high = (row[f"{part}_{suffix}"] for part in ("low", "q1", "median", "q3", "high"))
    axes.plot([x, x], [low, high], color=BLACK, linewidth=0.7, zorder=1)
    axes.plot([x - 0.09, x + 0.09, np.nan, x - 0.09, x + 0.09], [low, low, np.nan, high, high], color=BLACK,
              linewidth=0.7, zorder=1)  # fmt: skip
    axes.bar(x, q3 - q1, bottom=q1, width=0.34, color=color, edgecolor=BLACK, linewidth=0.7, zorder=2)
    axes.plot([x - 0.17, x + 0.17], [median, median], color=BLACK, linewidth=1.4, zorder=3, solid_capstyle="butt")
    axes.plot(x, median, "o", color=color, markeredgecolor=BLACK, markeredgewidth=0.7, markersize=3.5, zorder=4)


def _draw_panel(axes: Axes, row: dict[str, Any], density: pa.Table) -> None:
    for column, color, line in (("before", BEFORE, "-"), ("after", AFTER, "--")):
        _draw_density(axes, density, column, color, line)
        axes.axvline(row[f"median_{column}"], color=color, linewidth=1.1, linestyle=line)
    axes.set_ylim(0, None)
    p = f"p = {row['p']:.1g}" if row["p"] >= 1e-3 else f"p = {row['p']:.0e}"
    said = row["note"].replace(" a", "\na") or f"{p}\neffect {_signless(row['effect'], 2)}"
    weight = "bold" if row["p"] <= ALPHA else "normal"
    medians = f"{row['median_before']:.3g} \N{RIGHTWARDS ARROW} {row['median_after']:.3g}"
    axes.set_title(f"{medians}\n{said}", fontsize=5.5, fontweight=weight, pad=2, parse_math=False)


def _draw_density(axes: Axes, density: pa.Table, column: str, color: str, line: str) -> None:
    x, y = density["activation"].to_numpy(), density[column].to_numpy()
    if np.isfinite(y).all():
        axes.fill_between(x, y, color=color, alpha=0.35, linewidth=0)
        axes.plot(x, y, color=color, linewidth=0.8, linestyle=line)
    else:
        axes.axvline(x[np.isinf(y)][0], color=color, linewidth=1.5, linestyle=line)


def _ordered(table: pa.Table, order: Sequence[str] | None = None) -> list[dict[str, Any]]:
    rows = {row["generator"]: row for row in table.to_pylist()}
    return [rows[generator] for generator in order or in_order(rows)]


def _named(row: dict[str, Any], between: str = "\n") -> str:
    return f"{shown_name(row['generator'])}{between}n = {row['num']}"


def _signless(value: float, decimals: int = 1) -> str:
    """A number without a minus where it is rounded to 0."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def _count(row: dict[str, Any]) -> int:
    return row["num"] if "num" in row else row["num_real"] + row["num_fake"]


def _patches(names: tuple[str, str], **look: Any) -> list[Patch]:
    return [Patch(color=color, label=name, **look) for color, name in zip((BEFORE, AFTER), names, strict=True)]


def _legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)

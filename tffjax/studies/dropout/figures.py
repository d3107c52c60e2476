"""Pictures of feature-map dropout: metrics against k, and the effects of single channels against omega."""

import numpy as np
import pyarrow as pa
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.scale import SymmetricalLogScale
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from tffjax.results.generators import in_order, shown_name
from tffjax.results.style import BLACK, column_figure, label_axes
from tffjax.results.words import number_of
from tffjax.studies.dropout.settings import BASELINE, counted
from tffjax.studies.dropout.tables import effect_correlation

_MEASURES = {"ap": "AP", "fake_calibrated": "accuracy on fake", "real_calibrated": "accuracy on real"}

_WIDE = 30
"""From so many times the size of small values on, large ones would press them together on a linear axis."""

# Okabe and Ito's palette, told apart by color-blind readers; the markers differ for print in gray.
_KINDS = {"top": ("#d55e00", "o"), "random": ("#009e73", "^"), "low": ("#0072b2", "x")}


def dropout_curves(table: pa.Table, draws: pa.Table, title: str) -> Figure:
    """AP and calibrated accuracies against k, from 0 on: a row of panels for each generator.

    Args:
        table: `dropout_table` of any settings; those that take k channels are drawn.
        draws: the same with `average=False`; a band spans the random draws from the lowest to the highest.
        title: above all.
    """
    averaged, single = _by_generator(table), _by_generator(draws)
    figure = Figure(figsize=(7, 1.55 * len(averaged) + 0.8), layout="constrained")
    grid = figure.subplots(len(averaged), len(_MEASURES), sharex=True, sharey=True, squeeze=False)
    for axes_row, (generator, rows) in zip(grid, averaged.items(), strict=True):
        base = next(row for row in rows if row["setting"] == BASELINE.name)
        for axes, measure in zip(axes_row, _MEASURES, strict=True):
            axes.axhline(base[measure], color="black", linewidth=1, linestyle="--", label="nothing switched off")
            for kind, (color, marker) in _KINDS.items():
                curve = _curve(rows, kind, measure)
                if curve:
                    ks, values = zip((0, base[measure]), *curve, strict=True)
                    axes.plot(ks, values, color=color, marker=marker, markersize=4, linewidth=1.3, label=f"{kind} k")
                if kind == "random" and curve:
                    drawn = [(0, base[measure]), *_curve(single[generator], kind, measure)]
                    spread = [[v for k, v in drawn if k == at] for at in ks]
                    low, high = [min(values) for values in spread], [max(values) for values in spread]
                    axes.fill_between(ks, low, high, color=color, alpha=0.25, linewidth=0, label="random k, all draws")
            axes.set_ylim(-0.04, 1.04)
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=8)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        n = f"{base['num_real']} real, {base['num_fake']} fake"
        axes_row[0].set_ylabel(f"{shown_name(generator)}\n({n})", fontsize=8, parse_math=False)
    ticks = sorted({kind_k[1] for rows in averaged.values() for row in rows if (kind_k := counted(row["setting"]))})
    for axes, heading in zip(grid[0], _MEASURES.values(), strict=True):
        axes.set_title(heading, fontsize=9)
        if ticks:
            # linear from 0, where nothing is switched off, to the smallest k, then logarithmic
            axes.set_xscale("symlog", linthresh=ticks[0], linscale=0.4)
            axes.set_xlim(-0.1 * ticks[0], 1.15 * ticks[-1])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks([0, *_thinned(ticks)], [str(k) for k in (0, *_thinned(ticks))])
    grid[-1][1].set_xlabel("k, channels switched off", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def effect_map(effects: pa.Table, sites: tuple[str, ...], num_images: int, title: str) -> Figure:
    """Causal effect of every channel alone against omega, colored by depth, with Spearman's rank correlation.

    Args:
        effects: of `tffjax.studies.dropout.tables.effect_table`.
        sites: names of all sites in the order of the network.
        num_images: on how many fake images the effects are.
        title: above all.
    """
    known = [row for row in effects.to_pylist() if row["omega"] is not None]
    omega, effect = (np.array([row[name] for row in known], float) for name in ("omega", "effect"))
    depth = np.array([sites.index(row["key"].partition(".#")[0]) for row in known], int)
    figure, axes = column_figure(3.0)
    drawn = axes.scatter(
        omega, effect, c=depth, cmap="viridis", vmin=0, vmax=max(len(sites) - 1, 1), s=12, alpha=0.8, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    axes.axhline(0, color=BLACK, linewidth=0.8)
    _spread_out(axes.xaxis, omega)
    _spread_out(axes.yaxis, effect)
    axes.grid(alpha=0.25)
    correlation = f"Spearman's rank correlation {effect_correlation(effects):.2f}"
    over = f"{number_of(len(known), 'channel', ',')}, {number_of(num_images, 'fake image', ',')}"
    label_axes(axes, "omega (FF-RS)", "mean fall of the logit\ntowards real", f"{title}\n{correlation}\n{over}")
    bar = figure.colorbar(drawn, ax=axes)
    bar.set_label(f"site, {sites[0]} to {sites[-1]}", fontsize=7, parse_math=False)
    bar.ax.tick_params(labelsize=7)
    bar.locator = MaxNLocator(integer=True)
    return figure


def _spread_out(axis: Axis, values: np.ndarray) -> None:
    """Make an axis logarithmic where values of one sign are of very different sizes, linear around 0 if both are."""
    sizes = np.abs(values[values != 0])
    if len(sizes) == 0 or sizes.max() <= _WIDE * np.quantile(sizes, 0.1):
        return
    if (values > 0).all():
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        return
    size = 10 ** np.floor(np.log10(np.quantile(sizes, 0.25)))
    axis.axes.set(**{f"{axis.axis_name}scale": SymmetricalLogScale(axis, linthresh=size, linscale=1.0)})
    ends = min(values.min(), -size / 4), max(values.max(), size / 4)
    axis.axes.set(**{f"{axis.axis_name}lim": [1.7 * end for end in ends]})
    axis.get_major_locator().set_params(numticks=7)
    axis.set_minor_locator(NullLocator())


def _by_generator(table: pa.Table) -> dict[str, list[dict]]:
    rows = table.to_pylist()
    return {
        name: [row for row in rows if row["generator"] == name] for name in in_order(row["generator"] for row in rows)
    }


def _curve(rows: list[dict], kind: str, measure: str) -> list[tuple[int, float]]:
    """(k, value) of the settings of one kind, by k."""
    found = [(counted(row["setting"]), row[measure]) for row in rows]
    return sorted((kind_k[1], value) for kind_k, value in found if kind_k and kind_k[0] == kind)


def _thinned(ticks: list[int]) -> list[int]:
    """Ticks that are far enough apart on a logarithmic axis to be labeled."""
    kept = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if kept[-1] / tick >= (ticks[-1] / ticks[0]) ** 0.14:
            kept.append(tick)
    return kept[::-1]

"""Pictures of rankings: the omega curve, where the top channels sit, how stable they are, two rankings compared."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tffjax.results.style import BLACK, COLORS, GRAY, WIDTH, column_figure, label_axes
from tffjax.results.words import number_of
from tffjax.studies.compare import overlap_curve
from tffjax.studies.ffrs.bootstrap import ranks
from tffjax.studies.rankings import Channel

DECADES = 6
"""How far below the largest omega an axis goes; smaller values are drawn at its end."""


_INNER = {
    ".conv1": "1x1 reduce",
    ".conv2": "3x3",
    ".conv3": "1x1 expand",
    ".downsample.0": "downsample",
    "._expand_conv": "expand",
    "._depthwise_conv": "depthwise",
    "._project_conv": "project",
}
_OUTER = {"conv1": "stem", "_conv_stem": "stem", "_conv_head": "head"}
_DEPTH_OF_KIND = ("stem", "1x1 reduce", "expand", "3x3", "depthwise", "1x1 expand", "project", "downsample", "head")


class Place(NamedTuple):
    """Where in a network a site is: its stage, and the kind of its layer."""

    stage: str
    kind: str


def place_of(site: str, bottlenecks: bool = True) -> Place:
    """Stage and kind by the names of ResNets and EfficientNets.

    E.g. layer1 and 3x3 for `layer1.0.conv2`, 4 and project for `_blocks.4._project_conv`.
    In other networks the stage is the first part of the name, and the kind the last one that is not a number.

    Args:
        site: name of a convolution.
        bottlenecks: a ResNet's blocks have three convolutions; otherwise two, both 3x3.
    """
    first, *rest = site.split(".")
    if not rest:
        kind = _OUTER.get(site, site)
        return Place(kind, kind)
    known = next((kind for ending, kind in _INNER.items() if site.endswith(ending)), None)
    if known == "1x1 reduce" and not bottlenecks:
        known = "3x3"
    named = next((part for part in reversed(rest) if not part.isdecimal()), first)
    return Place(rest[0] if first == "_blocks" else first, known or named)


def places_of(sites: Iterable[str]) -> dict[str, Place]:
    """Stage and kind of all sites of a network, by their names."""
    sites = tuple(sites)
    bottlenecks = any(site.endswith(".conv3") for site in sites)
    return {site: place_of(site, bottlenecks) for site in sites}


def omega_curve(
    omega: Float[np.ndarray, " c"],
    k: int,
    images: int,
    band: tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]] | None = None,
) -> Figure:
    """Omega against rank, both logarithmic, with the cut after k.

    Args:
        omega: of every channel, in any order.
        k: length of the list of top channels.
        images: over how many images omega is the mean.
        band: lower and upper end of a confidence interval of each omega, in the same order.
    """
    figure, axes = column_figure(2.6)
    order = np.argsort(-omega, kind="stable")
    rank, floor = np.arange(1, len(omega) + 1), _floor(omega)
    if band is not None:
        low, high = (_raise_to(floor, end[order]) for end in band)
        axes.fill_between(rank, low, high, color=COLORS[0], alpha=0.3, linewidth=0, label="confidence interval")
    axes.plot(rank, _raise_to(floor, omega[order]), color=COLORS[0], linewidth=1.2, label="mean")
    axes.axvline(k + 0.5, color=BLACK, linestyle="--", linewidth=0.8, label=f"top-{k}")
    axes.set(xscale="log", yscale="log", xlim=(0.9, len(omega)), ylim=(floor, None))
    label_axes(
        axes,
        "rank",
        "$\\omega$",
        f"{len(omega):,} channels ({(omega == 0).sum():,} at 0), {number_of(images, 'image', ',')}",
    )
    _legend(figure, axes)
    return figure


def top_by_site(channels: Sequence[Channel], omega: Float[np.ndarray, " c"], k: int, images: int) -> Figure:
    """How many of the top-k channels each site has, and which share of its channels they are, along the depth.

    Args:
        channels: all channels in the order of the network.
        omega: of each.
        k: length of the list of top channels.
        images: over how many images omega is the mean.
    """
    sites = {channel.site: channel.channels for channel in channels}  # in the order of the network
    index = {site: i for i, site in enumerate(sites)}
    top = ranks(omega) <= k
    count = np.bincount([index[channel.site] for channel, chosen in zip(channels, top, strict=True) if chosen],
                        minlength=len(sites))  # fmt: skip
    share = 100 * count / np.array(list(sites.values()))
    places = list(places_of(sites).values())
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    for axes, heights, label in zip(figure.subplots(2, 1, sharex=True), (count, share), ("channels", "% of the site"),
                                    strict=True):  # fmt: skip
        for kind, color in _colors(places).items():
            at = [i for i, place in enumerate(places) if place.kind == kind]
            axes.bar(at, heights[at], width=0.85, color=color, edgecolor=BLACK, linewidth=0.3, label=kind)
        axes.set_xlim(-0.7, len(sites) - 0.3)
        label_axes(axes, "", label)
        _mark_stages(axes, [place.stage for place in places])
    upper, lower = figure.axes
    upper.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    upper.set_title(f"top-{k} of {len(channels):,} channels by site, {number_of(images, 'image', ',')}", fontsize=8)
    lower.set_xlabel("site, by stage or block", fontsize=8)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7, frameon=False,
                  handlelength=1.0, columnspacing=1.0)  # fmt: skip
    return figure


def omega_by_kind(channels: Sequence[Channel], omega: Float[np.ndarray, " c"], k: int, images: int) -> Figure:
    """Box plots of omega for each kind of layer (quartiles; whiskers at 5 % and 95 %), the top-k channels as dots.

    Omegas of one site add up to at most 1: a kind whose sites have many channels lies lower.

    Args:
        channels: all channels in the order of the network.
        omega: of each.
        k: length of the list of top channels.
        images: over how many images omega is the mean.
    """
    of_site = places_of(dict.fromkeys(channel.site for channel in channels))
    kind_of = np.array([of_site[channel.site].kind for channel in channels])
    kinds, top = _kinds(of_site.values()), ranks(omega) <= k
    drawn = _raise_to(_floor(omega), omega)
    figure, axes = column_figure(2.8)
    values = [drawn[kind_of == kind] for kind in kinds]
    boxes = axes.boxplot(values, positions=range(len(kinds)), whis=(5, 95), showfliers=False, widths=0.6,
                         patch_artist=True, medianprops={"color": BLACK})  # fmt: skip
    for i, (kind, box) in enumerate(zip(kinds, boxes["boxes"], strict=True)):
        box.set(facecolor=_colors(of_site.values())[kind], alpha=0.5)
        dots = drawn[(kind_of == kind) & top]
        spread = np.linspace(-0.25, 0.25, len(dots)) if len(dots) > 1 else np.zeros(len(dots))
        axes.plot(i + spread, dots, ".", color=BLACK, markersize=2.5, label=f"top-{k}" if i == 0 else None)
    labels = [
        f"{kind.replace(' ', chr(10))}\nn = {len(v):,}\ntop {top[kind_of == kind].sum()}"
        for kind, v in zip(kinds, values, strict=True)
    ]
    axes.set_xticks(range(len(kinds)), labels)
    axes.set_yscale("log")
    label_axes(axes, "", "$\\omega$", f"{len(channels):,} channels, {number_of(images, 'image', ',')}; dots: top-{k}")
    axes.tick_params(axis="x", labelsize=6.5)
    return figure


def stability(images: Int[np.ndarray, " l"], overlap: Float[np.ndarray, " l"], k: int, num_channels: int) -> Figure:
    """How much of the top-k over all images is in the top-k over fewer of them.

    Args:
        images: size of each nested random subset, in rising or falling order.
        overlap: share of the final top-k, 0 to 1, NaN for an empty subset (`bootstrap.topk_overlap`).
        k: length of the list of top channels.
        num_channels: of the network.
    """
    figure, axes = column_figure(2.4)
    some = (images > 0) & ~np.isnan(overlap)
    axes.plot(images[some], 100 * overlap[some], "o-", color=COLORS[0], markersize=3.5, linewidth=1.2)
    axes.axhline(100 * k / num_channels, color=GRAY, linestyle=":", linewidth=1.0, label="chance")
    axes.set(xscale="log", ylim=(-3, 105))
    axes.set_xticks(images[some], [f"{count:,}" for count in images[some]], rotation=45, ha="right")
    axes.set_xticks([], minor=True)
    label_axes(
        axes, "images (nested random subsets)", f"% of the final top-{k}", f"top-{k} of {num_channels:,} channels"
    )
    _legend(figure, axes)
    return figure


def comparison(rank: Int[np.ndarray, "2 c"], k: int, names: tuple[str, str]) -> Figure:
    """Rank against rank with the two top-k, and what the first k of both have in common, for every k.

    Args:
        rank: of every channel in A and in B, from 1.
        k: length of the list of top channels.
        names: of A and B.
    """
    figure = Figure(figsize=(2 * WIDTH, 3.4), layout="constrained")
    scatter, curve = figure.subplots(1, 2)
    total, (in_a, in_b) = rank.shape[1], rank <= k
    groups: list[tuple[str, Bool[np.ndarray, " c"], str, str]] = [
        ("neither", ~in_a & ~in_b, GRAY, "o"),
        ("only A", in_a & ~in_b, COLORS[1], "^"),
        ("only B", in_b & ~in_a, COLORS[2], "s"),
        ("both", in_a & in_b, COLORS[0], "o"),
    ]
    for label, members, color, marker in groups:
        size = 1 if label == "neither" else 9
        scatter.scatter(*rank[:, members], s=size, color=color, marker=marker, linewidths=0, rasterized=True,
                        label=f"{label}: {members.sum():,}")  # fmt: skip
    scatter.add_patch(Rectangle((0, 0), k + 0.5, k + 0.5, fill=False, edgecolor=BLACK, linewidth=0.8, linestyle="--"))
    scatter.set(xscale="log", yscale="log", xlim=(0.8, 1.3 * total), ylim=(0.8, 1.3 * total), aspect="equal")
    label_axes(scatter, f"rank in A: {names[0]}", f"rank in B: {names[1]}", f"{total:,} channels, top-{k} marked")
    figure.legend(*scatter.get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside lower left", ncols=4,
                  markerscale=2, handletextpad=0.2)  # fmt: skip

    ks = np.arange(1, total + 1)
    curve.plot(ks, 100 * overlap_curve(rank) / ks, color=COLORS[0], linewidth=1.2, label="A and B")
    curve.plot(ks, 100 * ks / total, color=GRAY, linestyle=":", linewidth=1.2, label="chance")
    curve.axvline(k, color=BLACK, linestyle="--", linewidth=0.8, label=f"k = {k}")
    curve.set(xscale="log", xlim=(0.9, total), ylim=(-3, 105))
    label_axes(curve, "k", "% of the top-k in common", "overlap of the top-k")
    _legend(figure, curve, "right")
    return figure


def _legend(figure: Figure, axes: Axes, side: str = "center") -> None:
    """Below the figure, where no data are."""
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, frameon=False, loc=f"outside lower {side}", ncols=3,
                  handlelength=1.5, columnspacing=1.0)  # fmt: skip


def _mark_stages(axes: Axes, stages: Sequence[str]) -> None:
    """Name each run of equal stages below its middle (of one site: a line lower), and shade every second one."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stages[i - 1] != stage]
    ends = [*starts[1:], len(stages)]
    for start, end in list(zip(starts, ends, strict=True))[::2]:
        axes.axvspan(start - 0.5, end - 0.5, color="0.94", zorder=0)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    names = [("\n" if end - start == 1 else "") + stages[start] for start, end in zip(starts, ends, strict=True)]
    axes.set_xticks(middles, names)


def _kinds(places: Iterable[Place]) -> list[str]:
    """The kinds that occur, in the order in which a block computes them; unknown ones after these."""
    found = list(dict.fromkeys(place.kind for place in places))
    return sorted(found, key=lambda kind: _DEPTH_OF_KIND.index(kind) if kind in _DEPTH_OF_KIND else len(_DEPTH_OF_KIND))


def _colors(places: Iterable[Place]) -> dict[str, Any]:
    """A color for each kind, from dark to light, so that they differ for all color visions and in gray."""
    kinds = _kinds(places)
    return dict(zip(kinds, matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(kinds))), strict=True))


def _floor(omega: Float[np.ndarray, " c"]) -> float:
    return (np.nan_to_num(omega).max() or 1.0) * 10.0**-DECADES


def _raise_to(floor: float, omega: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    return np.maximum(np.nan_to_num(omega), floor)

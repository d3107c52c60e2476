"""Pictures for people. Every figure is made from arrays and saved as PNG and PDF; no global plotting state."""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from tffjax.files import replace_file

CLIP = 99.5
"""Percentile of the positive values that gets the strongest color: single pixels would otherwise darken all others."""

TITLE_WIDTH = 36
"""Characters of a line above an image of a contact sheet; longer lines would run into the next column."""

_TRANSPARENT_TO_RED = LinearSegmentedColormap.from_list(
    "relevance", [(1.0, 0.9, 0.2, 0.0), (1.0, 0.65, 0.0, 0.75), (0.85, 0.0, 0.05, 1.0)]
)


def draw_overlay(axes: Axes, image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> ScalarMappable:
    """Draw the positive part of a heatmap over the dimmed gray image; the scale ends at its `CLIP` percentile."""
    positive, top = np.maximum(heat, 0), _top(heat)
    gray = image.astype(float).mean(axis=2)
    axes.imshow(gray, cmap="gray", vmin=-80, vmax=335)
    drawn = axes.imshow(positive, cmap=_TRANSPARENT_TO_RED, vmin=0, vmax=top, interpolation="nearest")
    axes.set_axis_off()
    return drawn


def blend(image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels that `draw_overlay` shows."""
    gray = np.clip((image.astype(float).mean(axis=2, keepdims=True) + 80) / 415, 0, 1)
    colors = _TRANSPARENT_TO_RED(np.clip(np.maximum(heat, 0) / _top(heat), 0, 1))
    color, alpha = colors[..., :3], colors[..., 3:]
    return np.rint(255 * (alpha * color + (1 - alpha) * gray)).astype(np.uint8)


def overlay(image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"], title: str, label: str) -> Figure:
    """An image beside its heatmap with a color bar."""
    height, width = image.shape[:2]
    aspect = min(max(height / width, 0.25), 3.0)
    figure = Figure(figsize=(8, 3.4 * aspect + 0.6), layout="constrained")
    plain, explained = figure.subplots(1, 2)
    plain.imshow(image)
    plain.set_axis_off()
    drawn = draw_overlay(explained, image, heat)
    figure.colorbar(drawn, ax=explained, label=label, extend="max", shrink=0.9)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    heats: Sequence[dict[str, Float[np.ndarray, "_ _"]]],
    titles: Sequence[str],
    captions: Sequence[dict[str, str]] = (),
) -> Figure:
    """Images by methods: a row for each image (of any size), the image itself and then one column for each method.

    The color bar stands for all maps; each has its own scale, from 0 to its `CLIP` percentile. Captions, if there are
    any, say above a map what the network says of that image.
    """
    methods = list(heats[0])
    rows, columns = len(images), 1 + len(methods)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, image, heat, title in zip(grid, images, heats, titles, strict=True):
        row[0].imshow(image)
        row[0].set_axis_off()
        row[0].set_title("\n".join(textwrap.fill(line, TITLE_WIDTH) for line in title.splitlines()), fontsize=8,
                         parse_math=False)  # fmt: skip
        for axes, method in zip(row[1:], methods, strict=True):
            draw_overlay(axes, image, heat[method])
    for row, words in zip(grid, captions, strict=False):
        for axes, method in zip(row[1:], methods, strict=True):
            axes.set_title(textwrap.fill(words.get(method, ""), TITLE_WIDTH), fontsize=8, parse_math=False)
    for axes, method in zip(grid[0][1:], methods, strict=True):
        below = axes.get_title()
        axes.set_title(f"{method}\n{below}" if below else method, fontsize=9, parse_math=False)
    colors = ScalarMappable(Normalize(0, 1), _TRANSPARENT_TO_RED)
    place = {"location": "bottom", "fraction": 0.12 / rows, "pad": 0.06 / rows, "aspect": 25}
    bar = figure.colorbar(colors, ax=grid[:, 1:], extend="max", **place)
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=8)
    bar.set_label(f"positive relevance\n1: the {CLIP} percentile of each map", fontsize=8)
    return figure


def _top(heat: Float[np.ndarray, "h w"]) -> float:
    """The relevance of the strongest color."""
    return float(np.percentile(heat[heat > 0], CLIP)) if (heat > 0).any() else 1.0


def save_figure(figure: Figure, path: Path, formats: Sequence[str] = ("png", "pdf"), dpi: float = 150.0) -> None:
    """Save as `path` with each ending, each file whole or not at all.

    The same figure gives the same bytes (PDF dates are left out).
    """
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name; a box stands there
        for ending in formats:
            metadata = {"CreationDate": None} if ending == "pdf" else None
            with replace_file(path.with_name(f"{path.name}.{ending}")) as temporary:
                figure.savefig(temporary, dpi=dpi, metadata=metadata, format=ending)

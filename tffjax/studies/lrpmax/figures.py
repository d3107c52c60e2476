"""Collages of LRP-max: patches, and where they are; channels by generators (figure 1 of the paper, D.1)."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from tffjax.results.figures import save_figure
from tffjax.results.style import short_name

CELL, PLACE = 96, 72
"""Sides of a cell with a patch, and with an image and the patch's place in it, in pixels."""

SHOWN, PAGE = 4, 12
"""How many images of each channel and generator, and how many channels, a collage shows."""

_BOX, _EDGE = (230, 30, 30), (190, 190, 190)
_GAP = 4
_DPI = 100


def write_collages(shown: Iterable[dict[str, Any]], keys: Sequence[str], by: str, folder: Path) -> None:
    """Write collages of patches and of their places, `PAGE` channels a page, each pixel of a cell once.

    Args:
        shown: key, generator, patch and place (PNG files) of the best images, best first.
        keys: of the channels, in the order in which they are shown.
        by: what made an image a top one.
        folder: takes the files.
    """
    patches: dict[tuple[str, str], list[np.ndarray]] = {}
    places: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in shown:
        here = row["key"], row["generator"]
        patches.setdefault(here, []).append(cell_of(_pixels(row["patch"]), CELL))
        places.setdefault(here, []).append(_pixels(row["place"]))
    generators = sorted({generator for _, generator in patches})
    for name, cells, what, formats in (
        ("patches", patches, "what each channel looks at", ("png", "pdf")),
        ("places", places, "where its patches are", ("png",)),
    ):
        for page, first in enumerate(range(0, len(keys), PAGE), start=1):
            rows = {key: f"{number}. {key}" for number, key in enumerate(keys[first : first + PAGE], first + 1)}
            if any(key in rows for key, _ in cells):
                figure = collage(cells, rows, generators, f"LRP-max: {what}, best {SHOWN} images by {by}")
                save_figure(figure, folder / f"{name}_{page}", formats, _DPI)


def as_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as a PNG file."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def _pixels(png: bytes) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def cell_of(
    pixels: UInt8[np.ndarray, "h w 3"], side: int, box: Int[np.ndarray, " 4"] | None = None
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A picture in its proportions in the middle of a white square.

    Without a box it is a patch, which gets an edge and is enlarged by whole factors. With one (top, bottom, left,
    right) it is an image, and the box is drawn around the patch in it.
    """
    scale = side / max(pixels.shape[:2])
    enlarged = box is None and scale >= 1
    scale = int(scale) if enlarged else scale
    width, height = (max(round(length * scale), 1) for length in (pixels.shape[1], pixels.shape[0]))
    x, y = (side - width) // 2, (side - height) // 2
    cell = Image.new("RGB", (side, side), "white")
    kind = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
    cell.paste(Image.fromarray(pixels).resize((width, height), kind), (x, y))
    if box is None:
        ImageDraw.Draw(cell).rectangle([x, y, x + width - 1, y + height - 1], outline=_EDGE)
    else:
        top, bottom, left, right = (float(edge) * scale for edge in box)
        corners = (x + left - 1, y + top - 1, x + right, y + bottom)
        ImageDraw.Draw(cell).rectangle([min(max(corner, 0), side - 1) for corner in corners], outline=_BOX, width=2)
    return np.asarray(cell)


def collage(
    cells: Mapping[tuple[str, str], Sequence[UInt8[np.ndarray, "s s 3"]]],
    rows: Mapping[str, str],
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Cells side by side.

    Args:
        cells: (row, column) -> equally large squares; where there are none the place stays white.
        rows: channel keys, and how they are written.
        columns: generators.
        title: above all.
    """
    shown = {place: some for place, some in cells.items() if place[0] in rows}
    side, each = len(next(iter(shown.values()))[0]), max(map(len, shown.values()))
    width, height = each * (side + _GAP) + 2 * _GAP, side + _GAP
    canvas = np.full((height * len(rows), width * len(columns), 3), 255, np.uint8)
    for (row, column), some in shown.items():
        top, left = height * list(rows).index(row), width * columns.index(column)
        for i, cell in enumerate(some):
            start = left + i * (side + _GAP)
            canvas[top : top + side, start : start + side] = cell
    labels, names = list(rows.values()), [short_name(column) or "all images" for column in columns]
    left, top = 0.06 * max(map(len, labels)) + 0.2, 0.7  # inches for words; around the canvas, not of it: no resampling
    inside = np.array(canvas.shape[1::-1]) / _DPI
    whole = inside + np.array([left + 0.1, top + 0.1])
    figure = Figure(figsize=tuple(whole))
    axes = figure.add_axes((left / whole[0], 0.1 / whole[1], *(inside / whole)))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_yticks([height * r + side / 2 for r in range(len(rows))], labels, fontsize=7, parse_math=False)
    axes.set_xticks([width * c + width / 2 for c in range(len(columns))], names, fontsize=8, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure

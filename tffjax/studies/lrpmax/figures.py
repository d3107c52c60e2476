"""Collages of LRP-max: patches, and where they are; channels by generators (figure 1 of the paper, D.1)."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from tffjax.figures import save_figure

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
        patches.setdefault(here, []).append(patch_cell(_pixels(row["patch"])))
        places.setdefault(here, []).append(_pixels(row["place"]))
    generators = sorted({generator for _, generator in patches})
    columns = [generator or "all images" for generator in generators]
    for name, cells, what, formats in (
        ("patches", patches, "what each channel looks at", ("png", "pdf")),
        ("places", places, "where its patches are", ("png",)),
    ):
        for page, start in enumerate(range(0, len(keys), PAGE), start=1):
            some = keys[start : start + PAGE]
            grid = [[cells.get((key, generator), []) for generator in generators] for key in some]
            if any(cell for row in grid for cell in row):
                rows = [f"{number}. {key}" for number, key in enumerate(some, start + 1)]
                figure = collage(grid, rows, columns, f"LRP-max: {what}, best {SHOWN} images by {by}")
                save_figure(figure, folder / f"{name}_{page}", formats, _DPI)


def _pixels(png: bytes) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def patch_cell(patch: UInt8[np.ndarray, "h w 3"], side: int = CELL) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A patch enlarged or reduced to fit a square cell, in its proportions; small ones by whole factors, on white."""
    scale = side / max(patch.shape[:2])
    cell, x, y, (width, height) = _in_cell(patch, max(int(scale), 1) if scale >= 1 else scale, side)
    ImageDraw.Draw(cell).rectangle([x, y, x + width - 1, y + height - 1], outline=_EDGE)
    return np.asarray(cell)


def place_cell(
    image: UInt8[np.ndarray, "h w 3"], box: Int[np.ndarray, " 4"], side: int = PLACE
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image in a square cell with the box (top, bottom, left, right) of its patch drawn around the patch."""
    scale = side / max(image.shape[:2])
    cell, x, y, _ = _in_cell(image, scale, side, Image.Resampling.BILINEAR)
    top, bottom, left, right = (float(edge) * scale for edge in box)
    corners = (x + left - 1, y + top - 1, x + right, y + bottom)
    ImageDraw.Draw(cell).rectangle([min(max(corner, 0), side - 1) for corner in corners], outline=_BOX, width=2)
    return np.asarray(cell)


def _in_cell(
    pixels: np.ndarray, scale: float, side: int, kind: Image.Resampling | None = None
) -> tuple[Image.Image, int, int, tuple[int, int]]:
    """A picture in the middle of a white square; where it is there."""
    size = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
    kind = kind or (Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR)
    cell = Image.new("RGB", (side, side), "white")
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    cell.paste(Image.fromarray(pixels).resize(size, kind), (x, y))
    return cell, x, y, size


def collage(
    cells: Sequence[Sequence[Sequence[UInt8[np.ndarray, "s s 3"]]]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Cells side by side: `cells[row][column]` is a list of equally large squares, at most as many in all columns.

    Args:
        cells: pictures; an empty list leaves its place white.
        rows: names of the rows, such as channel keys.
        columns: names of the columns, such as generators.
        title: above all.
    """
    side = next(cell.shape[0] for row in cells for column in row for cell in column)
    each = max(len(column) for row in cells for column in row)
    width, height = each * (side + _GAP) + 2 * _GAP, side + _GAP
    canvas = np.full((height * len(rows), width * len(columns), 3), 255, np.uint8)
    for r, row in enumerate(cells):
        for c, column in enumerate(row):
            for i, cell in enumerate(column):
                left = c * width + i * (side + _GAP)
                canvas[r * height : r * height + side, left : left + side] = cell
    inches = canvas.shape[1] / _DPI + 1.6, canvas.shape[0] / _DPI + 0.7
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    axes.set_yticks([height * r + side / 2 for r in range(len(rows))], rows, fontsize=7, parse_math=False)
    axes.set_xticks([width * c + width / 2 for c in range(len(columns))], columns, fontsize=8, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure

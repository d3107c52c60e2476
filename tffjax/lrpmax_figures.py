"""Collages of LRP-max patches: channels by generators (figure 1 of the paper, D.1 of its supplement)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

CELL = 96
"""Side of a cell in pixels."""

_BOX = (230, 30, 30)
_EDGE = (190, 190, 190)
_GAP = 4


def patch_cell(patch: UInt8[np.ndarray, "h w 3"], side: int = CELL) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A patch enlarged or reduced to fit a square cell, in its proportions; small ones by whole factors, on white."""
    height, width = patch.shape[:2]
    scale = side / max(height, width)
    scale = max(int(scale), 1) if scale >= 1 else scale
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    kind = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR
    cell = Image.new("RGB", (side, side), "white")
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    cell.paste(Image.fromarray(patch).resize(size, kind), (x, y))
    ImageDraw.Draw(cell).rectangle([x, y, x + size[0] - 1, y + size[1] - 1], outline=_EDGE)
    return np.asarray(cell)


def place_cell(
    image: UInt8[np.ndarray, "h w 3"], box: Int[np.ndarray, " 4"], side: int = CELL
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image in a square cell with the box (top, bottom, left, right) of its patch drawn around the patch."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    cell = Image.new("RGB", (side, side), "white")
    cell.paste(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), (x, y))
    top, bottom, left, right = (float(edge) * scale for edge in box)
    corners = (x + left - 1, y + top - 1, x + right, y + bottom)
    ImageDraw.Draw(cell).rectangle([min(max(corner, 0), side - 1) for corner in corners], outline=_BOX, width=2)
    return np.asarray(cell)


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
    inches = canvas.shape[1] / 100 + 1.6, canvas.shape[0] / 100 + 0.7
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

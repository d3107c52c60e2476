"""Collages of LRP-max: patches, and where they are; channels by generators (figures 1, D.1, D.3, H.1, H.3)."""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tffjax.results.figures import save_figure
from tffjax.results.generators import in_order, shown_name
from tffjax.results.style import PAGE as PAGE_WIDTH
from tffjax.results.style import WIDTH
from tffjax.studies.rankings import broken

CELL, PLACE = 96, 72
"""Sides of a cell with a patch, and with an image and the patch's place in it, in pixels."""

SHOWN, PAGE = 4, 12
"""How many images of each channel and generator, and how many channels, a collage shows."""

DARK, STRONGEST = 128, 16.0
"""A patch whose brightest value is below the first is lightened, at most so many times; more would show rounding."""

_BOX, _EDGE = (230, 30, 30), (190, 190, 190)
_ACROSS = 28  # cells side by side that can be told apart on a page
_LEAST_BOX = 8  # pixels of a box that is seen
_GAP = 4
_LARGEST = 0.75  # inches of a cell
_LETTER, _TITLE_LETTER = 0.052, 0.066  # inches of a letter of a label, and of the title


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
        patches.setdefault(here, []).append(patch_cell(pixels_of(row["patch"]), stretch=True))
        places.setdefault(here, []).append(pixels_of(row["place"]))
    generators = in_order(sorted({generator for _, generator in patches}))
    each = max(_ACROSS // max(len(generators), 1), 1)
    for name, cells, what, formats in (
        ("patches", patches, "patches", ("png", "pdf")),
        ("places", places, "places of the patches", ("png",)),
    ):
        cells = {place: some[:each] for place, some in cells.items()}
        for page, first in enumerate(range(0, len(keys), PAGE), start=1):
            rows = {key: f"{number}. {broken(key)}" for number, key in enumerate(keys[first : first + PAGE], first + 1)}
            if any(key in rows for key, _ in cells):
                figure = draw_collage(cells, rows, generators, title_of(cells, what, by))
                save_figure(figure, folder / f"{name}_{page}", formats, figure.dpi)


def title_of(cells: Mapping[tuple[str, str], Sequence[Any]], what: str, by: str) -> str:
    """What a collage shows, with the number of images that it has."""
    counts = set(map(len, cells.values()))
    most = max(counts, default=0)
    images = "the image" if most == 1 else f"{'up to' if len(counts) > 1 else 'the'} {most} images"
    return f"LRP-max: {what}, {images} of each generator with the largest {by}"


def as_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as a PNG file."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def pixels_of(png: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in a PNG file."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def lightened(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """A dark picture (`DARK`) times 255 over its brightest value, at most `STRONGEST`, and the factor; 1 of others."""
    brightest = int(pixels.max())
    if brightest >= DARK:
        return pixels, 1.0
    factor = min(255 / max(brightest, 1), STRONGEST)
    return np.rint(pixels * factor).astype(np.uint8), factor


def patch_cell(
    pixels: UInt8[np.ndarray, "h w 3"],
    side: int = CELL,
    frame: Int[np.ndarray, " 4"] | None = None,
    stretch: bool = False,
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A patch in the middle of a white square, whose longer side it fills, whatever its size.

    Args:
        pixels: the patch, or what is around it too.
        side: of the square.
        frame: box (top, bottom, left, right) of the patch in the pixels, which is drawn; None draws an edge.
        stretch: lighten dark pixels (`lightened`), with the factor in the corner.
    """
    pixels, factor = lightened(pixels) if stretch else (pixels, 1.0)
    scale = side / max(pixels.shape[:2])
    width, height = (max(round(length * scale), 1) for length in (pixels.shape[1], pixels.shape[0]))
    x, y = (side - width) // 2, (side - height) // 2
    cell = Image.new("RGB", (side, side), "white")
    kind = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR
    cell.paste(Image.fromarray(pixels).resize((width, height), kind), (x, y))
    if frame is None:
        ImageDraw.Draw(cell).rectangle([x, y, x + width - 1, y + height - 1], outline=_EDGE)
    else:
        _draw_box(cell, np.asarray(frame) * scale + (y, y, x, x))
    if factor > 1:
        word, font = f"x{factor:.2g}", ImageFont.load_default(side / 6)
        draw = ImageDraw.Draw(cell)
        draw.rectangle(draw.textbbox((2, side), word, font, "lb"), fill="white")
        draw.text((2, side), word, "black", font, "lb")
    return np.asarray(cell)


def cell_of(
    pixels: UInt8[np.ndarray, "h w 3"], side: int, box: Int[np.ndarray, " 4"]
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """An image in its proportions in the middle of a white square, with the box (top, bottom, left, right) of a patch.

    A small box is drawn a little larger, so that it is seen.
    """
    scale = side / max(pixels.shape[:2])
    width, height = (max(round(length * scale), 1) for length in (pixels.shape[1], pixels.shape[0]))
    x, y = (side - width) // 2, (side - height) // 2
    cell = Image.new("RGB", (side, side), "white")
    cell.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), (x, y))
    _draw_box(cell, np.asarray(box) * scale + (y, y, x, x))
    return np.asarray(cell)


def draw_collage(
    cells: Mapping[tuple[str, str], Sequence[UInt8[np.ndarray, "s s 3"]]],
    rows: Mapping[str, str],
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Cells side by side, at most as wide as a page, with a resolution (`Figure.dpi`) that keeps each of their pixels.

    Args:
        cells: (row, column) -> equally large squares; where there are none the place stays white.
        rows: channel keys, and how they are written.
        columns: generators.
        title: above all.
    """
    shown = {place: some for place, some in cells.items() if place[0] in rows and place[1] in columns}
    side, each = len(next(iter(shown.values()))[0]), max(map(len, shown.values()))
    width, height = each * (side + _GAP) + 2 * _GAP, side + _GAP
    canvas = np.full((height * len(rows), width * len(columns), 3), 255, np.uint8)
    for (row, column), some in shown.items():
        top, left = height * list(rows).index(row), width * columns.index(column)
        for i, cell in enumerate(some):
            start = left + i * (side + _GAP)
            canvas[top : top + side, start : start + side] = cell
    left = _LETTER * max(len(line) for label in rows.values() for line in label.split("\n")) + 0.15
    edge = 0.08  # inches
    dpi = max(canvas.shape[1] / (PAGE_WIDTH - left - edge), (side + _GAP) / _LARGEST)
    inside = np.array(canvas.shape[1::-1]) / dpi
    wide = max(inside[0] + left + edge, WIDTH)
    title = textwrap.fill(title, int(wide / _TITLE_LETTER))
    whole = np.array([wide, inside[1] + 0.38 + 0.13 * (1 + title.count("\n"))])
    figure = Figure(figsize=tuple(whole), dpi=dpi)
    axes = figure.add_axes((left / whole[0], edge / whole[1], *(inside / whole)))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_yticks([height * r + side / 2 for r in range(len(rows))], rows.values(), fontsize=6, parse_math=False)
    middles = [width * c + (width - 3 * _GAP) / 2 for c in range(len(columns))]
    axes.set_xticks(middles, map(shown_name, columns), fontsize=7, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=8, y=1 - 0.05 / whole[1], va="top", parse_math=False)
    return figure


def _draw_box(cell: Image.Image, box: np.ndarray) -> None:
    """Draw a box (top, bottom, left, right) around a place of a cell, red with a white line around it."""
    low, high = box[::2], box[1::2]
    grown = np.maximum(_LEAST_BOX - (high - low), 0) / 2
    low, high = low - grown - 1, high + grown
    draw = ImageDraw.Draw(cell)
    for out, color, line in ((1, "white", 3), (0, _BOX, 2)):
        corners = np.clip([low[1] - out, low[0] - out, high[1] + out, high[0] + out], 0, cell.width - 1)
        draw.rectangle(corners.tolist(), outline=color, width=line if out == 0 else 1)

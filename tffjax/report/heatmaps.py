"""Contact sheets of `tffjax heatmap`."""

import io
from pathlib import Path

from PIL import Image

from tffjax.errors import InputError
from tffjax.report.markup import Part, render
from tffjax.report.sources import Source

QUALITY = 85


def heatmap_part(source: Source) -> Part:
    """The contact sheets of a folder, as the pictures `sheet PATH`."""
    sheets = sorted(source.path.glob("contact_sheet_*.png"), key=lambda path: (len(path.name), path.name))
    images = {f"sheet {sheet}": webp(source.file(sheet.name), "heatmap") for sheet in sheets}
    return Part("heatmaps", render("heatmaps.html", folder=source.name, names=list(images)), images=images)


def webp(path: Path, command: str) -> bytes:
    """A PNG file as WebP.

    Raises:
        InputError: it is missing or damaged; `command` made it.
    """
    try:
        with Image.open(path) as image, io.BytesIO() as file:
            image.convert("RGB").save(file, "WEBP", quality=QUALITY, method=2)
            return file.getvalue()
    except OSError:
        raise InputError(f"{path}: not an image; run tffjax {command} again") from None

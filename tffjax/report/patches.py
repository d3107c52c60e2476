"""Patches of LRP-max: for each channel one picture of all its patches, one of where the best ones are."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageOps

from tffjax.data.reading import read
from tffjax.errors import InputError
from tffjax.report.markup import Card, Part, number, render
from tffjax.report.sources import Source
from tffjax.studies.lrpmax.figures import PLACE, SHOWN, cell_of
from tffjax.studies.lrpmax.patches import files_of, transform_of
from tffjax.studies.lrpmax.tables import patch_file

COLUMNS = 32
"""Of a picture of patches."""

LOSSLESS, QUALITY = 24, 85
"""Patches up to this side have few pixels, each of which is seen; larger ones are compressed with this quality."""

_BOX = ("top", "bottom", "left", "right")


def patches_part(source: Source) -> Part:
    """Patches by channel: `{key: {cell, rows: [{generator, items: [[rank, value, path, box...]], places}]}}`.

    The picture `patches KEY` holds the patches of all items in their order, as squares of side `cell`, `COLUMNS` in a
    row; `places KEY` the first `places` images of each row with the box of the patch, none if the images are not where
    they were.
    """
    order = source.record["identity"]["channels"]
    index: dict[str, list[dict[str, Any]]] = {key: [] for key in order}
    for row in source.table("index").to_pylist():  # by channel, generator and rank
        index[row["key"]].append(row)
    paths = list(dict.fromkeys(row["path"] for rows in index.values() for row in rows))
    generators = dict.fromkeys(row["generator"] for rows in index.values() for row in rows)
    where = {path: place for place, path in enumerate(paths)}
    places = _places(source, index)
    images, channels, covers = {}, {}, []
    for position, (key, rows) in enumerate(index.items()):
        patches = [_patch(source, position, row) for row in rows]
        cell = min(PLACE, max((side for patch in patches for side in patch.size), default=1))
        channels[key] = {"cell": cell, "rows": []}
        for name in generators:
            if own := [row for row in rows if row["generator"] == name]:
                count = sum(_has_place(row) for row in own) if places else 0
                items = [
                    [row["rank"], number(row["value"], 4), where[row["path"]], *(row[side] for side in _BOX)]
                    for row in own
                ]
                channels[key]["rows"].append({"generator": name, "items": items, "places": count})
        if patches:
            images[f"patches {key}"] = _sheet(patches, cell)
            covers.append(patches[0])
        if key in places:
            images[f"places {key}"] = _sheet(places[key], PLACE)
    images["covers"] = _sheet(covers, PLACE)
    data = {"patches": channels, "paths": paths, "covers": [key for key, rows in index.items() if rows]}
    body = _body(source, len(generators), bool(places))
    said = f"strongest neurons explained: {len(channels)} channels on up to {source.arguments['top']} images of each "
    said += f"of {len(generators)} generators." if len(generators) > 1 else "of the generators."
    explained = Card("What the channels look at", f"{sum(map(len, index.values())):,}", said)
    return Part("channels", body, [explained], data, images)


def _patch(source: Source, position: int, row: dict[str, Any]) -> Image.Image:
    if row["value"] <= 0:  # it has no relevance, and so no patch
        return Image.new("RGB", (1, 1), "white")
    path = source.file(f"patches/{patch_file(position + 1, row['key'], row['generator'], row['rank'])}")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        reason = getattr(error, "strerror", None) or "not an image"
        raise InputError(f"{path}: cannot be read ({reason}); run tffjax lrpmax again") from None


def _has_place(row: dict[str, Any]) -> bool:
    return row["rank"] <= SHOWN and row["value"] > 0


def _places(source: Source, index: dict[str, list[dict[str, Any]]]) -> dict[str, list[Image.Image]]:
    """Key -> the images of the rows that have a place, with its box; empty unless all images are there."""
    files = files_of(source.record)
    wanted = [(row["path"], key, number, row) for key, rows in index.items() for number, row in enumerate(rows)
              if _has_place(row)]  # fmt: skip
    transform = transform_of(source.record)
    found: dict[str, dict[int, Image.Image]] = {key: {} for _, key, _, _ in wanted}
    last, image = None, np.empty(0)
    try:
        for path, key, number, row in sorted(wanted, key=lambda task: task[:3]):  # each image is read once
            if path != last:
                last, image = path, read(files[path], transform)
            box = np.array([row[side] for side in _BOX])
            found[key][number] = Image.fromarray(cell_of(image, PLACE, box))
    except (KeyError, InputError):
        return {}
    return {key: [cells[number] for number in sorted(cells)] for key, cells in found.items()}


def _sheet(pictures: Sequence[Image.Image], cell: int) -> bytes:
    """Pictures in the middle of transparent squares, `COLUMNS` in a row, as WebP; small ones without loss."""
    columns = min(COLUMNS, len(pictures))
    sheet = Image.new("RGBA", (cell * columns, cell * -(-len(pictures) // columns)))
    for place, picture in enumerate(pictures):
        fitted = ImageOps.contain(picture, (cell, cell)) if max(picture.size) > cell else picture
        y, x = divmod(place, columns)
        sheet.paste(fitted, (x * cell + (cell - fitted.width) // 2, y * cell + (cell - fitted.height) // 2))
    with io.BytesIO() as file:
        sheet.save(file, "WEBP", lossless=cell <= LOSSLESS, quality=QUALITY, method=2)
        return file.getvalue()


def _body(source: Source, generators: int, places: bool) -> Markup:
    by = {"activation": "largest activation", "relevance": "largest share of relevance in the decision"}
    return render(
        "patches.html",
        channels=len(source.record["identity"]["channels"]),
        run=source.name,
        generators=generators,
        top=source.arguments["top"],
        label="" if source.arguments["label"] == "any" else f"{source.arguments['label']} ",
        by=by[source.arguments["by"]],
        places=places,
    )

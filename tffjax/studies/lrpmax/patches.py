"""Patches of finished runs of LRP-max, with what is around them, and with the relevance in them."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
from jaxtyping import Float, Int, UInt8
from PIL import Image

from tffjax.data import ImageFile, find_images, relative_names
from tffjax.data.preprocessing import Transform, as_resize
from tffjax.data.reading import read
from tffjax.errors import InputError
from tffjax.results.figures import blend
from tffjax.results.record import identity_of, read_record
from tffjax.results.tables import read_table
from tffjax.studies.lrpmax.tables import decode_map, patch_file

_BOX = ("top", "bottom", "left", "right")


class Patch(NamedTuple):
    """Pixels that a channel looks at; with what is around them, the box of the patch in them (half open)."""

    pixels: UInt8[np.ndarray, "h w 3"]
    frame: Int[np.ndarray, " 4"] | None


def read_patches(
    run: str | os.PathLike[str],
    keys: Collection[str],
    generators: Collection[str],
    each: int,
    context: float | None = None,
    heat: bool = False,
) -> dict[tuple[str, str], list[Patch]]:
    """(key, generator) -> patches of its best images, best first; channels that are not active have none.

    Args:
        run: a run directory of `tffjax lrpmax`.
        keys: of channels.
        generators: names.
        each: images of each channel and generator.
        context: side of the square that is shown, in longer sides of the patch; None shows the patch alone.
        heat: the positive relevance of the neuron lies over the pixels, which are gray then.

    Raises:
        InputError: it is no finished run, a file is missing, or `context` is asked for and the images are not where
            they were.
    """
    folder = Path(run)
    order = identity_of(folder, "lrpmax")["channels"]
    rows = [row for row in read_table(folder / "index").to_pylist()
            if row["key"] in keys and row["generator"] in generators and row["rank"] <= each and row["value"] > 0
            ]  # fmt: skip
    maps = _maps(folder, rows) if heat else {}
    images = _images(folder, {row["path"] for row in rows}) if context else {}
    found: dict[tuple[str, str], list[Patch]] = {}
    for row in rows:
        box = np.array([row[side] for side in _BOX])
        if context:
            around = window(box, images[row["path"]].shape[:2], context)
            pixels, frame = images[row["path"]][_slices(around)], box - np.repeat(around[::2], 2)
        else:
            file = patch_file(order.index(row["key"]) + 1, row["key"], row["generator"], row["rank"])
            around, pixels, frame = box, _read(folder / "patches" / file), None
        if heat:
            pixels = blend(pixels, _within(maps[row["key"], row["generator"], row["rank"]], around))
        found.setdefault((row["key"], row["generator"]), []).append(Patch(pixels, frame))
    return found


def window(box: Int[np.ndarray, " 4"], size: tuple[int, int], context: float) -> Int[np.ndarray, " 4"]:
    """The square around the middle of a box, `context` longer sides of the box wide, moved and cut to fit an image.

    Args:
        box: (top, bottom, left, right), half open.
        size: height and width of the image.
        context: at least 1.
    """
    side = round(context * max(box[1] - box[0], box[3] - box[2]))
    sides = np.minimum(side, size)
    start = np.clip((box[::2] + box[1::2] - sides) // 2, 0, np.array(size) - sides)
    return np.stack([start, start + sides], axis=1).ravel()


def files_of(record: Mapping[str, Any]) -> dict[str, ImageFile]:
    """The images of a run by their names in its tables; none if they are not where they were."""
    try:
        files = find_images(Path(path) for path in record["paths"]["data"])
    except InputError:
        return {}
    if len(files) != record["identity"]["images"]["count"]:
        return {}
    return dict(zip(relative_names(files), files, strict=True))


def transform_of(record: Mapping[str, Any]) -> Transform:
    """How a run reads its images."""
    arguments = record["identity"]["arguments"]
    return Transform(as_resize(arguments["resize"]), arguments["crop"])


def _images(folder: Path, paths: Collection[str]) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    record = read_record(folder)
    files, transform = files_of(record), transform_of(record)
    if not paths <= files.keys():
        raise InputError(f"the images of {folder} are not where they were; what is around patches cannot be shown")
    return {path: read(files[path], transform) for path in paths}


def _read(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        reason = getattr(error, "strerror", None) or "not an image"
        raise InputError(f"{path}: cannot be read ({reason}); run tffjax lrpmax again") from None


def _maps(folder: Path, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """(key, generator, rank) -> the stored map."""
    wanted = {(row["key"], row["generator"], row["rank"]) for row in rows}
    filters = [("key", "in", sorted({key for key, _, _ in wanted})), ("rank", "<=", max(rank for *_, rank in wanted))]
    stored = pyarrow.parquet.read_table(folder / "maps.parquet", filters=filters).to_pylist() if wanted else []
    named = {(row["key"], row["generator"], row["rank"]): row for row in stored}
    return {name: named[name] for name in wanted}


def _within(stored: dict[str, Any], box: Int[np.ndarray, " 4"]) -> Float[np.ndarray, "h w"]:
    """The relevance in a box."""
    height, width = stored["map_height"], stored["map_width"]
    whole = np.zeros((max(box[1], stored["map_top"] + height), max(box[3], stored["map_left"] + width)), np.float32)
    codes = np.array(stored["map"], np.int8).reshape(height, width)
    top, left = stored["map_top"], stored["map_left"]
    whole[top : top + height, left : left + width] = decode_map(codes, stored["map_scale"])
    return whole[_slices(box)]


def _slices(box: Int[np.ndarray, " 4"]) -> tuple[slice, slice]:
    return slice(box[0], box[1]), slice(box[2], box[3])

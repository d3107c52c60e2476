"""What `tffjax lrpmax` writes: tables, patches and collages."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from PIL import Image

from tffjax.cli.study import Job, write_skipped
from tffjax.figures import save_figure
from tffjax.lrpmax_figures import collage, patch_cell, place_cell
from tffjax.lrpmax_rows import INDEX, SCHEMA
from tffjax.patches import patch_file
from tffjax.per_image import rows_in_order
from tffjax.preprocessing import decode
from tffjax.rankings import Channel
from tffjax.tables import write_table

PAGE = 12
SHOWN = 4


def write_results(job: Job, rows: pa.Table, channels: Sequence[Channel], skipped: dict[int, str], folder: Path) -> None:
    """Everything but run.json, from the rows of all processes; maps and patches are never all in memory."""
    numbers = {channel.key: number for number, channel in enumerate(channels)}
    number = pa.array([numbers[key] for key in rows["key"].to_pylist()])
    by = [(name, "ascending") for name in ("number", "generator", "rank")]
    index = rows.select(INDEX.names).append_column("number", number)
    order = pyarrow.compute.sort_indices(index, by).to_numpy().astype(np.int64)
    index = index.take(order)
    shown = index.select([name for name in INDEX.names if name != "index"])
    write_table(shown, folder / "index.parquet")
    write_table(shown, folder / "index.csv")
    maps = rows.select(["key", "generator", "rank", "path", *(name for name in SCHEMA.names if name.startswith("map"))])
    with pyarrow.parquet.ParquetWriter(folder / "maps.parquet", maps.schema) as writer:
        for some in rows_in_order(maps, order):
            writer.write_table(some)
    write_skipped(job, skipped, folder)
    cells = _cells(job, index, rows_in_order(rows.select(["patch"]), order), folder / "patches")
    generators = sorted(set(index["generator"].to_pylist()))
    for kind, what in (("patches", "what each channel looks at"), ("places", "where its patches are")):
        for page, start in enumerate(range(0, len(channels), PAGE), start=1):
            some = channels[start : start + PAGE]
            grid = [[cells[kind].get((channel.key, generator), []) for generator in generators] for channel in some]
            if any(cell for row in grid for cell in row):
                title = f"LRP-max: {what}, best {SHOWN} images by {job.asked.arguments['by']}"
                names = [f"{start + i + 1}. {channel.key}" for i, channel in enumerate(some)]
                columns = [generator or "all images" for generator in generators]
                save_figure(collage(grid, names, columns, title), folder / f"{kind}_{page}")


def _cells(
    job: Job, index: pa.Table, patches: Iterable[pa.Table], folder: Path
) -> dict[str, dict[tuple[str, str], list[np.ndarray]]]:
    """Write all patches as PNG files; the pictures of the best ones for the collages."""
    cells: dict[str, dict[tuple[str, str], list[np.ndarray]]] = {"patches": {}, "places": {}}
    pngs = (png for some in patches for png in some["patch"].to_pylist())
    for row, png in zip(index.to_pylist(), pngs, strict=True):
        place = row["key"], row["generator"]
        path = folder / patch_file(row["number"] + 1, row["key"], row["generator"], row["rank"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        if row["rank"] <= SHOWN and row["value"] > 0:
            patch = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            cells["patches"].setdefault(place, []).append(patch_cell(patch))
            image = job.transform(decode(job.files[row["index"]].path))
            box = np.array([row["top"], row["bottom"], row["left"], row["right"]])
            cells["places"].setdefault(place, []).append(place_cell(image, box))
    return cells

"""The rows of LRP-max, one for each neuron that is explained, how they hold its map, and the files made of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from jaxtyping import Float, Int8

from tffjax.files import shortened
from tffjax.pipeline.parts import rows_in_order
from tffjax.results.tables import write_table
from tffjax.studies.lrpmax.figures import write_collages

INDEX = pa.schema(
    [("index", pa.int64()), *((name, pa.string()) for name in ("key", "generator", "path"))]
    + [("rank", pa.int64()), ("score", pa.float32()), ("value", pa.float32())]
    + [(name, pa.int64()) for name in ("row", "column", "top", "bottom", "left", "right")]
)
"""Columns: the place in the list of files, channel, generator, image; rank (from 1) and score in the channel's top
images; the neuron's activation and position; the patch box, half open."""

MAP = pa.schema(
    [(f"map_{name}", pa.int64()) for name in ("top", "left", "height", "width")]
    + [("map_scale", pa.float32()), ("map", pa.list_(pa.int8()))]
)
"""The relevance map, summed over colors, as the smallest crop outside of which codes are zero; see `decode_map`."""

SCHEMA = pa.schema([*INDEX, *MAP, ("patch", pa.binary()), ("place", pa.binary())])
"""`INDEX`, `MAP`, the patch as a PNG file, and for the collages the image with the patch's box, of the best only; a
neuron that is not active has neither."""

_LARGEST = 127


def encode_map(relevance: Float[np.ndarray, "h w"]) -> tuple[Int8[np.ndarray, "h w"], float]:
    """Codes q and a scale with R = scale * q * |q|, up to rounding q.

    With M the largest |R|, the scale is M / 127^2 and R is off by at most sqrt(M |R|) / 127 + M / 64516: 0.8 % at the
    maximum, 2.5 % a tenth of it. The square root keeps the weak pixels that equal steps would set to zero.
    """
    scale = float(np.abs(relevance).max(initial=0)) / _LARGEST**2
    codes = np.sign(relevance) * np.sqrt(np.abs(relevance) / scale) if scale else np.zeros(relevance.shape)
    return np.rint(codes).astype(np.int8), scale


def decode_map(codes: Int8[np.ndarray, "..."], scale: float) -> Float[np.ndarray, "..."]:
    """The relevance that codes of `encode_map` stand for, float32."""
    codes = np.asarray(codes, np.float32)
    return np.float32(scale) * codes * np.abs(codes)


def patch_file(number: int, key: str, generator: str, rank: int) -> str:
    """Where below its folder the patch of the `number`th channel (from 1) in its `rank`th image of a generator lies."""
    channel = re.sub(r"[^A-Za-z0-9.]+", "_", key).strip("_")
    group = shortened(generator.replace("%", "%25").replace("/", "%2F"))  # a name, wherever it comes from, is no path
    return f"{number:03d}_{channel}/{group or 'all'}_{rank:02d}.png"


def write_results(rows: pa.Table, keys: Sequence[str], by: str, folder: Path) -> None:
    """Write tables, patches and collages; maps and patches are never all in memory.

    Args:
        rows: of all processes in any order (`SCHEMA`), best mapped into memory.
        keys: of the channels, in the order in which they are shown.
        by: what made an image a top one.
        folder: takes the files.
    """
    numbers = pa.array([keys.index(key) for key in rows["key"].to_pylist()])
    index = rows.select(INDEX.names).append_column("number", numbers)
    order = pyarrow.compute.sort_indices(index, [(name, "ascending") for name in ("number", "generator", "rank")])
    order = order.to_numpy().astype(np.int64)
    shown = index.select([name for name in INDEX.names if name != "index"]).take(order)
    write_table(shown, folder / "index")
    columns = ["key", "generator", "rank", "path", *MAP.names]
    best = []
    with pyarrow.parquet.ParquetWriter(
        folder / "maps.parquet", rows.select(columns).schema, compression="zstd"
    ) as maps:
        for some in rows_in_order(rows, order):
            maps.write_table(some.select(columns))
            for row in some.drop_columns(MAP.names).to_pylist():
                number = keys.index(row["key"]) + 1
                path = folder / "patches" / patch_file(number, row["key"], row["generator"], row["rank"])
                if row["patch"]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(row["patch"])
                if row["place"]:
                    best.append(row)
    write_collages(best, keys, by, folder)

"""Compiled programs of a study's passes, and words while they are made."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tffjax.compile.passes import compiler_options, micro_batch_of
from tffjax.compile.placement import batch_sharding, put, put_model
from tffjax.compile.prepared import Prepared
from tffjax.data import Batch
from tffjax.kernels.convolution import Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.prepare import prepare
from tffjax.nn import Model
from tffjax.nn.normalization import normalized
from tffjax.nn.padded import check_padding
from tffjax.pipeline.images import Images
from tffjax.pipeline.reporter import Reporter

FIRST_TIME = "the first time takes a while, later runs find it in the cache"


def prepared(
    model: Model,
    sizes: Sequence[Pair],
    batch_size: int,
    composite: str | Composite | None = None,
    precision: str = "float32",
) -> Prepared:
    """The model as passes over batches of images of these sizes take it, on the devices; see `tffjax.prepare`."""
    of_size = {"size": sizes[0]} if sizes else {}
    return put_model(prepare(model, composite, precision=precision, **of_size), batch_size)


def compile_pass(
    function: Callable[..., Any], model: Model, shape: tuple[int, ...], *row_types: Any
) -> jax.stages.Compiled:
    """`function(model, images, *rows, micro_batch=...)`, compiled.

    The program takes pixels, uint8 of this shape, and begins with normalizing them. `row_types` are the types of
    further arrays with one number an image.
    """
    sharding = batch_sharding(shape[0])
    images, pixels = (jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for dtype in (np.float32, np.uint8))
    rows = [jax.ShapeDtypeStruct(shape[:1], dtype, sharding=sharding) for dtype in row_types]
    micro_batch = micro_batch_of(model, images)

    def run(model: Model, pixels: jax.Array, *rows: jax.Array) -> Any:
        return function(model, normalized(pixels, model.card.normalization), *rows, micro_batch=micro_batch)

    return jax.jit(run, compiler_options=compiler_options(model)).lower(model, pixels, *rows).compile()


def compile_sizes(
    reporter: Reporter,
    images: Images,
    what: str,
    function: Callable[..., Any],
    model: Model,
    *row_types: Any,
    variants: int = 0,
) -> dict[Pair, jax.stages.Compiled]:
    """`compile_pass` for every size of the images; with `variants`, pixels are (n, 1 + variants, h, w, 3)."""
    before = (images.batch_size, 1 + variants) if variants else (images.batch_size,)
    programs = {}
    for height, width in images.shapes:
        with reporter.busy(f"compiling {what} for {height}x{width} ({FIRST_TIME})"):
            shape = (*before, height, width, 3)
            programs[height, width] = compile_pass(function, model, shape, *row_types)
    return programs


def check_sizes(model: Model, images: Images) -> None:
    """Refuse images that are filled up for networks where that is not exact; as `check_padding`."""
    for shape in images.shapes if images.padded else ():
        check_padding(model, shape)


def size_types(images: Images) -> tuple[Any, ...]:
    """The types of `sizes_in`; none where images are not filled up."""
    return (np.int32, np.int32) if images.padded else ()


def sizes_in(images: Images, batch: Batch) -> tuple[jax.Array, ...]:
    """Heights and widths of the images of a batch, on the devices, where they are filled up to one size."""
    return tuple(put(np.ascontiguousarray(sizes)) for sizes in batch.sizes.T) if images.padded else ()


def announcing(reporter: Reporter, step: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
    """A step that compiles at the first batch of each size, and says so."""
    seen = set()

    def told(batch: Batch) -> Any:
        first = batch.images.shape not in seen
        seen.add(batch.images.shape)
        with reporter.busy(f"compiling ({FIRST_TIME})") if first else contextlib.nullcontext():
            return step(batch)

    return told

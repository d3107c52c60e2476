"""Part 7: from files on the disk to FF-RS, and what a run waits for."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from gpu import networks
from gpu.checks import model_to_time, precisions_here, shares
from gpu.work import Rows, Setup
from tffjax.compile.passes import compiler_options
from tffjax.data import batches, find_images, plan
from tffjax.data.preprocessing import Transform, decode
from tffjax.nn.card import Normalization
from tffjax.nn.normalization import normalized


def rank(setup: Setup, name: str) -> Rows:
    """Images a second of reading alone and of the whole pipeline: JPEG and PNG files of 256x256, and uint8 records."""
    import grain  # noqa: F401  before the clock starts

    count, batch, size = (8, 4, 32) if setup.quick else (2048, 128, 224)
    model = model_to_time(setup, name)
    formats = [chosen for chosen in precisions_here() if chosen != "tensorfloat32"]
    steps = {chosen: _compiled_step(model, batch, size, chosen) for chosen in formats}
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: _write_files(Path(folder) / kind, kind, count, _photographs(setup)) for kind in ("jpg", "png")}
        records = Path(folder) / "records.npy"
        _write_records(records, count, size)
        sources = {
            "JPEG, 256x256": lambda: _from_files(paths["jpg"], size, batch),
            "PNG, 256x256": lambda: _from_files(paths["png"], size, batch),
            f"uint8 records, {size}x{size}": lambda: _from_records(records, batch),
        }
        for title, source in sources.items():
            row: dict[str, Any] = {"from": title, "cores": len(os.sched_getaffinity(0)), "batch": batch}
            row["reading alone, images/s"] = count / _drained(source())
            for chosen, step in steps.items():
                seconds, waiting = _through(step, model, source())
                row[f"rank, {chosen}, images/s"] = count / seconds
                row[f"waiting for images, {chosen}"] = f"{100 * waiting / seconds:.0f} %"
            yield "pipeline", {"network": networks.NETWORKS[name].title, **row}


def decoding(setup: Setup) -> Rows:
    """Images a second that threads and processes decode, without anything around them."""
    count, workers = (8, (1, 2)) if setup.quick else (1024, (1, 4, 16))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("jpg", "png"):
            paths = sorted(_write_files(Path(folder) / kind, kind, count, _photographs(setup)).rglob(f"*.{kind}"))
            row = {"from": f"{kind}, 256x256", "cores": len(os.sched_getaffinity(0))}
            for many in workers:
                with ThreadPoolExecutor(many) as pool:
                    row[f"{many} threads, images/s"] = count / _timed(pool, paths)
            with ProcessPoolExecutor(workers[-1], multiprocessing.get_context("spawn")) as pool:
                list(pool.map(_decode, paths[: 4 * workers[-1]]))  # processes start
                row[f"{workers[-1]} processes, images/s"] = count / _timed(pool, paths)
            yield "decoding", row


def _timed(pool: Executor, paths: list[Path]) -> float:
    start = time.perf_counter()
    list(pool.map(_decode, paths, chunksize=8))
    return time.perf_counter() - start


def _decode(path: Path) -> np.ndarray:
    return decode(path)


def _compiled_step(model: Any, batch: int, size: int, chosen: str) -> Any:
    def run(model: Any, pixels: jax.Array) -> Any:
        return shares(model, normalized(pixels, Normalization()), precision=chosen)

    return (
        jax.jit(run).lower(model, jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)).compile(compiler_options())
    )


def _photographs(setup: Setup) -> np.ndarray:
    if setup.quick:
        return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with np.load(setup.goldens / "images.npz") as archive:
        return archive["u8_224"]


def _write_files(folder: Path, kind: str, count: int, photographs: np.ndarray) -> Path:
    """Photographs, each shifted in another way."""
    place = folder / "generator" / "1_fake"
    place.mkdir(parents=True)

    def write(index: int) -> None:
        rng = np.random.default_rng(index)
        pixels = np.roll(photographs[index % len(photographs)], tuple(rng.integers(0, 64, 2)), (0, 1))
        image = Image.fromarray(np.pad(pixels, ((0, 32), (0, 32), (0, 0)), mode="reflect"))
        image.save(place / f"{index:05d}.{kind}", **({"quality": 90} if kind == "jpg" else {}))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))
    return folder


def _write_records(path: Path, count: int, size: int) -> None:
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def _from_files(folder: Path, size: int, batch: int) -> Iterator[np.ndarray]:
    files, transform = find_images([folder]), Transform(None, size)
    work = plan(files, transform, batch)
    return (found.images for found in batches(work, files, transform, batch))


def _from_records(path: Path, batch: int) -> Iterator[np.ndarray]:
    records = np.load(path, mmap_mode="r")
    return (np.asarray(records[i : i + batch]) for i in range(0, len(records), batch))


def _drained(source: Iterable[np.ndarray]) -> float:
    start = time.perf_counter()
    for _ in source:
        pass
    return time.perf_counter() - start


def _through(step: Any, model: Any, source: Iterator[np.ndarray]) -> tuple[float, float]:
    """Seconds for all batches, and of these the seconds in which the next batch was waited for."""
    start, waiting, pending = time.perf_counter(), 0.0, None
    while True:
        before = time.perf_counter()
        images = next(source, None)
        waiting += time.perf_counter() - before
        if images is None:
            break
        dispatched = step(model, jnp.asarray(images))
        if pending is not None:
            jax.tree.map(np.asarray, pending)
        pending = dispatched
    jax.tree.map(np.asarray, pending)
    return time.perf_counter() - start, waiting

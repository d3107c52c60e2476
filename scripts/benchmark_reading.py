"""Rates of reading: image files, packed records, packed pixels; in order and shuffled; warm, and cold.

    python scripts/benchmark_reading.py --data images/ --images 4000 --out reading.json

Makes a data set of so many JPEG files from some images (each once more in another quality, so that all differ), packs
it, and reads it through the loader of all studies and through that of training. Ways of reading take turns, `--rounds`
times; a rate is the median, and a ratio is that of rates in the same round. Cold means that the pages of all files are
dropped from the page cache first (`posix_fadvise`), which needs no rights and leaves other programs alone.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tffjax.data import ImageFile, batches, find_images, plan
from tffjax.data.augmentations import Augmentation
from tffjax.data.preprocessing import Transform, decode
from tffjax.nn.card import Normalization
from tffjax.pipeline.packing import Packing, pack
from tffjax.pipeline.reporter import Silent
from tffjax.training.images import TrainingImages

BATCH = 64


def make_images(data: Path, folder: Path, count: int, form: str) -> Path:
    """`count` different images in so many files, half of them real."""
    sources = [decode(file.path) for file in find_images([data])]
    for i in range(count):
        pixels = np.roll(sources[i % len(sources)], 7 * (i // len(sources)), axis=1)
        path = folder / "gan" / ("0_real", "1_fake")[i % 2] / f"{i:06}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **({"quality": 90} if form == "jpg" else {}))
    return folder


def drop_from_cache(folders: Sequence[Path]) -> None:
    """Have the system forget the pages of all files below some folders."""
    os.sync()
    for path in itertools.chain.from_iterable(folder.rglob("*") for folder in folders):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read_bytes(files: Sequence[ImageFile]) -> None:
    """Bytes only, one after the other."""
    for file in files:
        file.path.read_bytes() if file.stored is None else file.stored.read()


def read_batches(files: Sequence[ImageFile], transform: Transform) -> None:
    """As a study reads."""
    for _ in batches(plan(files, transform, BATCH), files, transform, BATCH):
        pass


def read_epoch(files: Sequence[ImageFile]) -> None:
    """As training reads: shuffled, cropped at random, augmented as the paper does."""
    for _ in TrainingImages(tuple(files), Augmentation(256, 224), Normalization(), BATCH, 0).epoch(0):
        pass


def measured(read: Callable[[], None], count: int) -> float:
    """Images a second."""
    begin = time.perf_counter()
    read()
    return count / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--form", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="reading."))
    try:
        table = rates(options, work)
    finally:
        shutil.rmtree(work)
    for (task, cache), of in table.items():
        for way, found in of.items():
            ratios = [own / base for own, base in zip(found, of["files"], strict=True)]
            spread = f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times files"
            print(f"{task:22} {cache:5} {way:8} {statistics.median(found):8.0f} images/s, {spread}")
    if options.out:
        options.out.write_text(
            json.dumps([[*key, way, found] for key, of in table.items() for way, found in of.items()])
        )


def rates(options: argparse.Namespace, work: Path) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(task, cache) -> way -> images a second of each round."""
    folders = {"files": make_images(options.data, work / "files", options.images, options.form)}
    resize = Transform(resize=256)
    for way, packing in (
        ("records", Packing((folders["files"],))),
        ("pixels", Packing((folders["files"],), resize)),
    ):
        pack(packing, work / way, os.cpu_count() or 1, reporter=Silent())
        folders[way] = work / way
    files = {way: find_images([folder]) for way, folder in folders.items()}
    shuffled = np.random.default_rng(0).permutation(options.images).tolist()
    tasks: dict[str, Callable[[Sequence[ImageFile]], None]] = {
        "bytes, in order": read_bytes,
        "bytes, shuffled": lambda files: read_bytes([files[i] for i in shuffled]),
        "batches of a study": lambda files: read_batches(files, resize),
        "batches of training": read_epoch,
    }
    table: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(options.rounds):
        for (task, read), cache, way in itertools.product(tasks.items(), ("warm", "cold"), folders):
            if cache == "cold":
                drop_from_cache([folders[way]])
            rate = measured(lambda read=read, way=way: read(files[way]), options.images)
            table.setdefault((task, cache), {}).setdefault(way, []).append(rate)
    return table


if __name__ == "__main__":
    main()

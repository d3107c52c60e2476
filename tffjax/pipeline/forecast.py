"""How long a study will take and how much it will write, from its first batches."""

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tffjax.data import BatchPlan
from tffjax.errors import InputError
from tffjax.pipeline.images import Images, images_in
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.streaming import Done, stream
from tffjax.pipeline.study import Ended, Pass, Study, Sums
from tffjax.results.words import number_of

WARM, TIMED = 1, 2
"""Batches before the clock starts, which compile, and batches that are timed."""


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Of a pass over images.

    Attributes:
        images: how many there are.
        rate: images a second.
        bytes: that the pass keeps on the disk.
        compiling: seconds before the first batch was done, less what a batch takes.
        finishing: seconds of writing the results; None where that is not known.
        more: whether other passes come after it.
    """

    images: int
    rate: float
    bytes: float
    compiling: float
    finishing: float | None = None
    more: bool = False

    @property
    def seconds(self) -> float:
        """All that is known but compiling."""
        return self.images / self.rate + (self.finishing or 0.0)

    def __str__(self) -> str:
        took, kept = duration(self.seconds), size(self.bytes)
        return f"{self.rate:.1f} images/s, {took} for {number_of(self.images, 'image')}, {kept} to be kept"


def rate_of(batches: Sequence[BatchPlan], times: Sequence[float]) -> float:
    """Images a second, from the moments at which the first batches were done."""
    return images_in(batches[WARM : WARM + TIMED]) / max(times[WARM + TIMED - 1] - times[WARM - 1], 1e-9)


def bytes_of(sums: Sums, folder: Path, done: int, total: int) -> float:
    """What sums keep after so many of all images: arrays, which do not grow, and files, which do."""
    arrays = sum(array.nbytes for array in sums.state().values())
    files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return arrays + files / done * total


def probe(study: Study, images: Images, reporter: Reporter) -> Forecast | None:
    """The forecast of a study's first pass, which is begun for it in a temporary folder; None for too few batches."""
    work = study.next_pass(images, ())
    batches = images.batches(work.only)
    if len(batches) <= WARM + TIMED:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pass"
        folder.mkdir()
        sums, start, times = work.sums(folder), time.perf_counter(), []
        for done in _first(work, images, batches, reporter):
            sums.add(done.batch, done.outputs)
            times.append(time.perf_counter() - start)
        count, rate = images_in(batches), rate_of(batches, times)
        kept = bytes_of(sums, folder, images_in(batches[: WARM + TIMED]), count)
        compiling = max(times[WARM - 1] - len(batches[0].indices) / rate, 0.0)
        finishing, more = None, True
        with contextlib.suppress(InputError):  # what is found in so few images may not do for results
            ended = [Ended(sums, {})]
            more = study.next_pass(images, ended) is not None
            if not more:
                finishing = _seconds_to_finish(study, images, ended, Path(temporary) / "results")
        return Forecast(count, rate, kept, compiling, finishing, more)


def _seconds_to_finish(study: Study, images: Images, ended: Sequence[Ended], results: Path) -> float:
    results.mkdir()
    begin = time.perf_counter()
    study.finish(images, ended, results)
    return time.perf_counter() - begin


def _first(work: Pass, images: Images, batches: Sequence[BatchPlan], reporter: Reporter) -> Iterator[Done]:
    # One more than are looked at: a batch is handed on when the next one has been sent off.
    plan = dataclasses.replace(images.plan, batches=tuple(batches[: WARM + TIMED + 1]))
    step = work.start(reporter)
    return itertools.islice(
        stream(step, plan, images.files, images.transform, images.batch_size, work.variants, 0, images.read),
        WARM + TIMED,
    )


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size(number: float) -> str:
    """Of bytes, in words."""
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"

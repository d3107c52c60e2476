"""What a run says it waits for, by a clock that the test turns."""

import numpy as np
import pytest
from command import save_image
from fake_study import FakeStudy

from tffjax.data import BatchPlan, Plan
from tffjax.data.loading import PREFETCH_BYTES, prefetched
from tffjax.pipeline.reporter import Lines, Silent
from tffjax.pipeline.request import Reading, Request
from tffjax.pipeline.run import run
from tffjax.pipeline.waiting import FADING, Waiting


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def loop(reading: list[float], computing: list[float]) -> Waiting:
    """A loop whose items take so long to get, and to work on."""
    clock = Clock()
    waiting = Waiting(clock)

    def items():
        for seconds in reading:
            clock.now += seconds
            yield seconds

    for _, seconds in zip(waiting.reading(items()), computing, strict=True):
        with waiting.computing():
            clock.now += seconds
    return waiting


@pytest.mark.parametrize(
    ("reading", "computing", "said"),
    [
        ([], [], ""),
        ([3.0], [1.0], "75% waiting for images"),
        ([0.0, 0.0], [1.0, 2.0], "100% waiting for the device"),
        ([1.0] * 50, [4.0] * 50, "80% waiting for the device"),
        ([9.0] + [1.0] * 100, [1.0] + [9.0] * 100, "90% waiting for the device"),  # the beginning is forgotten
    ],
)
def test_words(reading, computing, said):
    assert str(loop(reading, computing)) == said


def test_old_times_fade():
    waiting = loop([1.0, 0.0], [2.0, 0.0])
    np.testing.assert_allclose((waiting.for_images, waiting.for_device), (FADING, 2 * FADING))


@pytest.mark.parametrize(
    ("shape", "batch_size", "versions", "threads", "rows"),
    [
        ((224, 224), 128, 1, 16, 128),
        ((224, 224), 4, 1, 16, 16),
        ((10_000, 10_000), 128, 1, 16, PREFETCH_BYTES // 300_000_000),
        ((10_000, 10_000), 128, 9, 16, 1),
        ((1000, 1000), 1000, 2, 2, PREFETCH_BYTES // 6_000_000),
    ],
)
def test_images_ahead_are_bounded_in_bytes(shape, batch_size, versions, threads, rows):
    work = Plan((BatchPlan((8, 8), (0,)), BatchPlan(shape, (1,))), {})
    assert prefetched(work, batch_size, versions, threads) == rows


def test_nothing_to_read():
    assert prefetched(Plan((), {}), 4, 1, 2) == 4


def test_the_number_of_workers_changes_no_byte_and_progress_says_what_it_waits_for(tmp_path, capsys):
    for seed in range(12):
        save_image(tmp_path / "data" / "0_real" / f"{seed:02}.png", seed, 8)
    for workers in (1, 3):
        reporter = Lines(every=0.0) if workers == 1 else Silent()
        request = Request((tmp_path / "data",), tmp_path / str(workers), Reading(batch_size=2), workers=workers)
        run(FakeStudy(), request, reporter)
    assert " waiting for " in capsys.readouterr().err
    for name in ("run.json", "means.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()

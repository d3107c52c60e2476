"""The pipeline, on a study that needs no network: interrupted and sharded anyhow, it gives the same bytes."""

import contextlib
import errno
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from command import save_image
from fake_study import FakeStudy

from tffjax.errors import InputError
from tffjax.pipeline import streaming
from tffjax.pipeline.forecast import probe
from tffjax.pipeline.images import images_of
from tffjax.pipeline.reporter import Lines, Silent
from tffjax.pipeline.request import Reading, Request, Shard, parse_shard
from tffjax.pipeline.run import run
from tffjax.pipeline.shards import merge

READING = Reading(batch_size=4)
COUNT = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two sizes, two labels, and an image that cannot be read."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(COUNT):
        save_image(folder / f"g{seed % 2}" / ("0_real", "1_fake")[seed % 3 > 0] / f"{seed:02}.png", seed, 8 + seed % 2)
    broken = sorted(folder.rglob("*.png"))[11]
    broken.write_bytes(broken.read_bytes()[:100])
    return folder


def request(data: Path, out: Path, **changes) -> Request:
    return Request((data,), out, **({"reading": READING} | changes))


def files(folder: Path) -> dict[str, bytes]:
    """What runs are compared by: all files but the log."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(FakeStudy(), request(data, out), Silent())
    return files(out)


class Recorder(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


def test_a_run(data, tmp_path, whole):
    assert whole.keys() == {".lock", ".tffjax", "run.json", "means.csv", "means.parquet", "skipped.csv"} | {
        "skipped.parquet"
    }
    record = json.loads(whole["run.json"])
    assert record["results"] == {"images": COUNT - 1, "total": record["results"]["total"], "skipped": 1}
    assert record["identity"]["arguments"]["batch_size"] == 4
    recorder = Recorder()
    assert run(FakeStudy(), request(data, tmp_path / "run"), recorder) == tmp_path / "run"
    assert recorder.lines[-1] == f"29 images; results in {tmp_path / 'run'}"
    assert any(line.startswith("skipped: ") for line in recorder.lines)
    assert files(tmp_path / "run") == whole


def test_a_dry_run_writes_nothing(data, tmp_path):
    recorder = Recorder()
    run(FakeStudy(), request(data, tmp_path / "run", dry_run=True), recorder)
    assert recorder.lines[0] == f"would measure 30 images, into {tmp_path / 'run'}"
    assert re.fullmatch(
        r"[\d.]+ images/s, 0 s for 30 images, 0\.0 MB to be kept; and 0 s to compile", recorder.lines[1]
    )
    assert "the first pass" in recorder.lines[2]
    assert not list(tmp_path.iterdir())


def test_a_forecast_is_what_the_run_takes(data, tmp_path):
    """Where a batch takes 30 ms, counted without what happens before the first."""

    def slow(batch):
        time.sleep(0.03)
        return original(batch)

    original = FakeStudy._brightness
    with mock.patch.object(FakeStudy, "_brightness", staticmethod(slow)):
        found = probe(FakeStudy(), images_of(request(data, tmp_path / "run"), Silent()), Silent())
    assert 0.75 < found.seconds / (8 * 0.03) < 1.25
    assert found.more
    assert found.finishing is None


def test_a_long_pass_says_what_it_takes(data, tmp_path):
    recorder = Recorder()
    run(FakeStudy(), request(data, tmp_path / "run", reading=Reading(batch_size=1)), recorder)
    said = [line for line in recorder.lines if "images/s" in line]
    assert [line.split(":")[0] for line in said] == ["summing", "comparing"]


class Stop:
    """A stream of batches that ends with an error after some of them, counted over all passes."""

    def __init__(self, batches: int, error: BaseException) -> None:
        self.left, self.error = batches, error

    def __call__(self, *arguments):
        for done in streaming.stream(*arguments):
            if self.left == 0:
                raise self.error
            self.left -= 1
            yield done


def interrupted(study, asked: Request, batches: int, error: BaseException, save_seconds: float) -> str:
    with pytest.raises(InputError) as raised:
        run(study, asked, Silent(), save_seconds, Stop(batches, error))
    return str(raised.value)


@pytest.mark.parametrize("save_seconds", [0.0, 100.0])
@pytest.mark.parametrize("batches", range(16))
def test_a_run_that_is_interrupted_at_any_batch_goes_on(data, tmp_path, whole, batches, save_seconds):
    asked = request(data, tmp_path / "run")
    line = interrupted(FakeStudy(), asked, batches, KeyboardInterrupt(), save_seconds)
    assert line == f"interrupted; go on with: tffjax fake --resume {tmp_path / 'run'}"
    run(FakeStudy(), request(data, tmp_path / "run", resume=True), Silent())
    assert files(tmp_path / "run") == whole


def test_a_full_disk_is_named_and_the_run_goes_on(data, tmp_path, whole):
    error = OSError(errno.ENOSPC, "No space left on device", "somewhere")
    line = interrupted(FakeStudy(), request(data, tmp_path / "run"), 3, error, 0.0)
    assert line.startswith("somewhere: No space left on device; when that is mended, go on with: tffjax fake --resume")
    run(FakeStudy(), request(data, tmp_path / "run", resume=True), Silent())
    assert files(tmp_path / "run") == whole


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from fake_study import FakeStudy
from tffjax.pipeline.request import Reading, Request, parse_shard
from tffjax.pipeline.reporter import Silent
from tffjax.pipeline.run import run
original = FakeStudy._brightness
def slow(batch):
    time.sleep(0.05)
    print("batch", flush=True)
    return original(batch)
FakeStudy._brightness = staticmethod(slow)
shard = parse_shard(sys.argv[4], {}) if len(sys.argv) > 4 else None
run(FakeStudy(), Request((Path(sys.argv[1]),), Path(sys.argv[2]), Reading(batch_size=4), shard=shard), Silent(), 0.0)
"""


def killed(data: Path, out: Path, batches: int, *shard: str) -> None:
    """A process that is killed after some batches."""
    command = [sys.executable, "-c", SCRIPT, str(data), str(out), str(Path(__file__).parent), *shard]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(batches):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)


@pytest.mark.extended
def test_a_killed_run_goes_on(data, tmp_path, whole):
    killed(data, tmp_path / "run", 5)
    assert not (tmp_path / "run" / "means.csv").exists()
    run(FakeStudy(), request(data, tmp_path / "run", resume=True), Silent())
    assert files(tmp_path / "run") == whole


def test_a_done_run_is_left_alone(data, tmp_path, whole):
    run(FakeStudy(), request(data, tmp_path / "run"), Silent())
    recorder = Recorder()
    run(FakeStudy(), request(data, tmp_path / "run", resume=True), recorder)
    assert f"{tmp_path / 'run'} is done already" in recorder.lines
    assert recorder.lines[-1] == f"29 images; results in {tmp_path / 'run'}"
    with pytest.raises(InputError, match="holds a finished run; choose another folder or start anew with --overwrite"):
        run(FakeStudy(), request(data, tmp_path / "run"), Silent())
    run(FakeStudy(), request(data, tmp_path / "run", overwrite=True), Silent())
    assert files(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        (FakeStudy(scale=2.0), {}, r"identity.arguments.scale is 2.0 here and was 1.0 there"),
        (FakeStudy(weights="other"), {}, r'identity.weights is "other" here and was "abc" there'),
        (FakeStudy(), {"reading": Reading(batch_size=5)}, r"identity.arguments.batch_size is 5 here and was 4 there"),
    ],
)
def test_another_question_does_not_go_on_with_a_run(data, tmp_path, study, changes, message):
    interrupted(FakeStudy(), request(data, tmp_path / "run"), 3, KeyboardInterrupt(), 0.0)
    with pytest.raises(InputError, match=message):
        run(study, request(data, tmp_path / "run", resume=True, **changes), Silent())


def test_other_images_do_not_go_on_with_a_run(data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    interrupted(FakeStudy(), request(copy, tmp_path / "run"), 3, KeyboardInterrupt(), 0.0)
    save_image(copy / "g0" / "0_real" / "new.png", 99, 8)
    with pytest.raises(InputError, match=r"identity.images.count is 31 here and was 30 there"):
        run(FakeStudy(), request(copy, tmp_path / "run", resume=True), Silent())


def test_a_strict_run_ends_at_an_unreadable_image(data, tmp_path):
    with pytest.raises(InputError, match="an image is unreadable"):
        run(FakeStudy(), request(data, tmp_path / "run", reading=Reading(batch_size=4, strict=True)), Silent())
    assert not (tmp_path / "run" / "means.csv").exists()


def test_what_a_study_refuses_leaves_nothing_behind(data, tmp_path):
    with pytest.raises(InputError, match="no image has the label 7"):
        run(FakeStudy(label=7), request(data, tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()


def test_two_processes_do_not_write_one_run(data, tmp_path):
    refusals = []

    def stream(*arguments):
        with pytest.raises(InputError, match="another process works on") as raised:
            run(FakeStudy(), request(data, tmp_path / "run", resume=True), Silent())
        refusals.append(raised)
        yield from streaming.stream(*arguments)

    run(FakeStudy(), request(data, tmp_path / "run"), Silent(), stream=stream)
    assert len(refusals) == 2


# Shards


def shard(data: Path, out: Path, index: int, count: int, stream=streaming.stream, **changes) -> Path:
    return run(FakeStudy(), request(data, out, shard=Shard(index, count), **changes), Silent(), 0.0, stream)


def merged(data: Path, out: Path, count: int) -> None:
    """Both passes, in as many shards."""
    for _ in range(2):
        for index in reversed(range(count)):
            shard(data, out, index, count)
        finished = merge(FakeStudy(), out, Silent())
    assert finished


@pytest.mark.extended
@pytest.mark.parametrize("count", [1, 2, 3, 8, 40])
def test_any_number_of_shards_gives_the_same_bytes(data, tmp_path, whole, count):
    merged(data, tmp_path / "run", count)
    assert files(tmp_path / "run") == whole


@pytest.mark.extended
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 20))])
def test_shards_that_are_killed_and_run_again_in_any_order_give_the_same_bytes(data, tmp_path, whole, seed):
    """Eight shards, three of them killed at random moments: some before their first state, some in a pass."""
    rng, out, count = np.random.default_rng(seed), tmp_path / "run", 8
    for number in range(2):
        for index in rng.permutation(count)[:3].tolist():
            if seed < 2:
                killed(data, out, int(rng.integers(0, 2)), f"{index}/{count}")
                continue
            stop = Stop(int(rng.integers(0, 2)), KeyboardInterrupt())
            with contextlib.suppress(InputError):
                shard(data, out, index, count, stream=stop)
        if number == 0 and rng.integers(2):
            with pytest.raises(InputError, match=r"are missing|have not ended"):
                merge(FakeStudy(), out, Silent())
        for index in rng.permutation(count).tolist():
            shard(data, out, index, count)
        shard(data, out, int(rng.integers(count)), count)  # once more than needed
        finished = merge(FakeStudy(), out, Silent())
        assert finished == (number == 1)
    assert files(out) == whole


def test_shards_that_do_not_fit_are_refused(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="holds no shards"):
        merge(FakeStudy(), out, Silent())
    shard(data, out, 0, 3)
    with pytest.raises(InputError, match=r"shards 1, 2 of 3 are missing; run them first"):
        merge(FakeStudy(), out, Silent())
    shard(data, out, 1, 3)
    run(FakeStudy(scale=3.0), request(data, out, shard=Shard(2, 3)), Silent())
    with pytest.raises(
        InputError, match=r"2-of-3 was made otherwise: identity.arguments.scale is 1.0 here and was 3.0"
    ):
        merge(FakeStudy(), out, Silent())
    with pytest.raises(InputError, match="was made otherwise"):
        shard(data, out, 2, 3)
    shard(data, out, 2, 3, overwrite=True)
    shard(data, out, 0, 2)
    with pytest.raises(InputError, match="holds shards of 2 and of 3; delete those of the wrong number"):
        merge(FakeStudy(), out, Silent())


def test_a_merger_that_is_interrupted_is_repeated(data, tmp_path, whole):
    out = tmp_path / "run"
    for _, index in itertools.product(range(2), range(2)):
        shard(data, out, index, 2)
        if index:
            with (
                mock.patch("tffjax.pipeline.shards.merged", side_effect=KeyboardInterrupt),
                pytest.raises(InputError, match="interrupted; go on with: tffjax merge"),
            ):
                merge(FakeStudy(), out, Silent())
            merge(FakeStudy(), out, Silent())
    assert files(out) == whole


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/8", {}, Shard(0, 8)),
        ("7/8", {"SLURM_ARRAY_TASK_ID": "3"}, Shard(7, 8)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, Shard(3, 4)),
        ("auto", {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, Shard(1, 2)),
        (
            "auto",
            {f"SLURM_ARRAY_TASK_{k}": v for k, v in zip(("ID", "MIN", "MAX", "COUNT"), "3142", strict=True)},
            None,
        ),
        (
            "auto",
            {f"SLURM_ARRAY_TASK_{k}": v for k, v in zip(("ID", "MIN", "MAX", "COUNT"), "3144", strict=True)},
            (2, 4),
        ),
        ("8/8", {}, None),
        ("1-8", {}, None),
        ("auto", {}, None),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, None),
        ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, None),
        ("auto/3", {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, None),
        ("auto", {"TPU_WORKER_ID": "x", "TPU_WORKER_HOSTNAMES": "a,b"}, None),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, None),
    ],
)
def test_shards_by_name_and_by_environment(text, environment, expected):
    if expected is None:
        with pytest.raises(InputError, match=f"--shard {text}: " if text != "auto" else "--shard auto: "):
            parse_shard(text, environment)
    else:
        assert parse_shard(text, environment) == expected


def test_lines_tell_rate_and_time_left(capsys):
    reporter = Lines(every=0.0)
    with reporter.busy("compiling"), reporter.progress("ranking", 10, "images") as advance:
        advance(4)
        time.sleep(0.01)
        advance(3, "kept 7")
        advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tffjax: compiling ..."
    assert "ranking: 7 of 10 images, " in lines[-2]
    assert lines[-2].endswith("s left (kept 7)")
    assert lines[-1].startswith("tffjax: ranking: 10 of 10 images in ")

"""Several processes and several devices on one job: what they share, and that the results are those of one."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cases
import numpy as np
import pyarrow.parquet
import pytest
import tolerances
from command import refused, save_image

from tffjax.data import BatchPlan, Plan
from tffjax.distributed import Process, gather_bytes, join, share, sum_over_processes, wait_for_all
from tffjax.errors import InputError
from tffjax.nn import checkpoint
from tffjax.rankings import read_ranking

ROOT = Path(__file__).resolve().parents[1]
COUNT = 11  # images: three batches of four, so that one process has two and the other one, not full


def test_every_batch_belongs_to_one_process():
    work = Plan(tuple(BatchPlan((8, 8), (i,)) for i in range(7)), {9: "unreadable"})
    parts = [share(work, Process(index, 3)) for index in range(3)]
    assert [len(part.batches) for part in parts] == [3, 2, 2]
    assert sorted(batch.indices[0] for part in parts for batch in part.batches) == list(range(7))
    assert share(work, Process()) == work
    assert all(part.skipped == work.skipped for part in parts)


def test_one_process_needs_nobody():
    array = np.arange(6.0).reshape(2, 3)
    assert sum_over_processes(array, Process()) is array
    assert gather_bytes(b"abc", Process()) == [b"abc"]
    wait_for_all("here", Process())
    assert join(None, None, None) == join(None, 1, 0) == Process(0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "several processes need --coordinator"),
        ((None, None, 1), "several processes need --coordinator"),
        (("127.0.0.1:1", None, 0), "needs --num-processes N and --process-id I"),
        (("127.0.0.1:1", 2, None), "needs --num-processes N and --process-id I"),
        (("127.0.0.1:1", 2, 2), "with 0 <= I < N"),
    ],
)
def test_what_does_not_make_a_job_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        join(*arguments)


def test_the_command_says_so(tmp_path):
    line = refused("rank", "weights", tmp_path, "--out", tmp_path / "run", "--num-processes", 2)
    assert "several processes need --coordinator HOST:PORT (or auto)" in line


# As processes of their own


@pytest.fixture(scope="module")
def b0(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("b0") / "detector"
    checkpoint.save(cases.B0_SAME.random_model(), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two generators, and a damaged image in the second batch."""
    folder = tmp_path_factory.mktemp("images")
    for seed in range(COUNT):
        save_image(folder / f"g{seed % 2}" / ("0_real", "1_fake")[seed % 3 > 0] / f"{seed:02}.png", seed)
    broken = sorted(folder.rglob("*.png"))[6]
    broken.write_bytes(broken.read_bytes()[:300])
    return folder


SCRIPT = """
import sys
import tffjax.cli.rank
from tffjax.cli.main import main
tffjax.cli.rank.save_figure = lambda figure, path: None
sys.argv[0] = "tffjax"
main()
"""


def begin(*arguments, devices: int = 1, before: str = "", **environment: str) -> subprocess.Popen:
    """`tffjax rank` with so many fake devices, after some Python."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, "-c", before + SCRIPT, "rank", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | flags | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def ended(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == code, err
    return out, err


@pytest.fixture(scope="module")
def options(b0, images) -> tuple:
    return (b0, images, "--own-size", "--batch-size", 4, "--confidence", 0, "--bootstrap", 10, "--k", 27, "--per-image")


@pytest.fixture(scope="module")
def alone(options, tmp_path_factory) -> Path:
    """The run of one process on one device."""
    run = tmp_path_factory.mktemp("alone") / "run"
    ended(begin(*options, "--out", run))
    return run


def statistics(run: Path) -> dict:
    rows = pyarrow.parquet.read_table(run / "statistics.parquet").to_pylist()
    return {(row["label"], row["key"]): row for row in rows}


def assert_same_but_for_rounding(run: Path, alone: Path, atol: float) -> None:
    ours, expected = statistics(run), statistics(alone)
    assert ours.keys() == expected.keys()
    for name in ("omega", "standard_error", "low", "high"):
        a, b = (np.array([rows[key][name] for key in expected], float) for rows in (ours, expected))
        np.testing.assert_allclose(a, b, rtol=tolerances.F64_IDENTITY, atol=atol, equal_nan=True)
    assert all(ours[key]["images"] == expected[key]["images"] for key in expected)
    for name in ("images.csv", "skipped.csv"):
        assert (run / name).read_bytes() == (alone / name).read_bytes()
    for label in ("fake", "real"):
        file = f"ranking_{label}.csv"
        tops = [{c.key for c in read_ranking(folder / file).channels[:27]} for folder in (run, alone)]
        assert tops[0] == tops[1]


def per_image(run: Path) -> dict:
    rows = [row for part in (run / "per_image").iterdir() for row in pyarrow.parquet.read_table(part).to_pylist()]
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


@pytest.fixture(scope="module")
def together(options, tmp_path_factory) -> Path:
    """The run of two processes, one told its place by options, the other by the environment."""
    run, coordinator = tmp_path_factory.mktemp("together") / "run", f"127.0.0.1:{free_port()}"
    variables = {"JAX_COORDINATOR_ADDRESS": coordinator, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
    first = begin(*options, "--out", run, "--coordinator", coordinator, "--num-processes", 2, "--process-id", 0)
    second = begin(*options, "--out", run, **variables)
    (out, _), (silent, _) = ended(first), ended(second)
    assert f"{COUNT - 1} images kept, 0 dropped by --confidence, 1 skipped" in out
    assert "top channels" not in silent
    return run


@pytest.mark.slow
def test_two_processes_give_what_one_gives(together, alone):
    """The same program on the same images: nothing differs but the order in which numbers are added."""
    assert_same_but_for_rounding(together, alone, tolerances.F64_IDENTITY)
    assert per_image(together) == per_image(alone)
    assert {path.name for path in (together / "per_image").iterdir()} == {f"part-{p}-00000.parquet" for p in (0, 1)}
    assert json.loads((together / "run.json").read_text())["identity"]["processes"] == 2
    assert not list(together.glob("state-*"))
    assert "identity.processes is 1 here and was 2 there" in refused("rank", "--resume", together)


SLOW_SAVES = """
import functools, time
import tffjax.cli.rank, tffjax.cli.study
from tffjax.runs import Run
save = Run.save_state
Run.save_state = lambda *arguments: (save(*arguments), time.sleep(5))
tffjax.cli.rank.go_through = functools.partial(tffjax.cli.study.go_through, save_seconds=0.0)
"""


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_go_on_after_both_were_killed(options, together, tmp_path):
    run = tmp_path / "run"

    def both(*arguments, before: str = "") -> list[subprocess.Popen]:
        job = ("--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", 2)
        return [begin(*arguments, *job, "--process-id", index, before=before) for index in (0, 1)]

    processes = both(*options, "--out", run, before=SLOW_SAVES)
    give_up = time.monotonic() + 120
    while not list(run.glob("state-*.npz")) and time.monotonic() < give_up:
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.communicate()
    assert list(run.glob("state-*.npz"))
    assert "results" not in json.loads((run / "run.json").read_text())
    for process in both("--resume", run):
        ended(process)
    for path in sorted(together.rglob("*")):
        if path.is_file() and path.name != "log.jsonl":
            assert (run / path.relative_to(together)).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_four_devices_give_what_one_gives(options, alone, tmp_path):
    run = tmp_path / "run"
    ended(begin(*options, "--out", run, devices=4))
    assert json.loads((run / "run.json").read_text())["environment"]["devices"] == {"cpu": 4}
    assert_same_but_for_rounding(run, alone, tolerances.F32_PROGRAM)
    ours, expected = per_image(run), per_image(alone)
    assert ours.keys() == expected.keys()
    for path, row in expected.items():
        np.testing.assert_allclose(ours[path]["shares"], row["shares"], rtol=0, atol=tolerances.F32_PROGRAM)

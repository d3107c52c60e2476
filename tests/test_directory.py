"""Run directories: started, gone on with, finished, and every way in which that is refused or interrupted."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.directory import State

RECORD = {
    "command": "rank",
    "identity": {"weights": {"weights_sha256": "ab"}, "images": {"count": 3}, "arguments": {"k": 5, "sizes": (1, 2)}},
    "paths": {"weights": "w", "data": ["d"]},
    "environment": {"jax": "1"},
}


def changed(*path, value) -> dict:
    """RECORD with another value at a path of keys."""
    record = json.loads(json.dumps(RECORD))
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return record


def files(folder: Path) -> dict[str, bytes]:
    """What a finished run is compared by: every file but the log."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def started(path: Path, **options) -> Path:
    """A run that was begun and left."""
    with directory.start(path, RECORD, **options) as run:
        run.save(0, State(3, False, {2: "damaged"}, {"sums": np.arange(4.0), "count": np.array(7)}))
    return path


def finished(path: Path) -> Path:
    with directory.start(path, RECORD) as run:
        run.save(0, State(3, False, {2: "damaged"}, {"sums": np.arange(4.0)}))
        finish(run)
    return path


def finish(run: directory.Run) -> None:
    with run.finish() as (folder, results):
        results["kept"] = 2
        (folder / "ranking.csv").write_text("key\n")
        (folder / "patches").mkdir()
        (folder / "patches" / "a.png").write_bytes(b"png")


def test_start_save_resume_finish(tmp_path):
    path = started(tmp_path / "new" / "run")
    with directory.resume(path, RECORD) as run:
        assert not run.done
        position, ended, skipped, arrays = run.load(0)
        assert (position, ended, skipped) == (3, False, {2: "damaged"})
        assert arrays.keys() == {"sums", "count"}
        np.testing.assert_array_equal(arrays["sums"], np.arange(4.0), strict=True)
        assert arrays["count"] == 7
        finish(run)
        assert run.done
    assert files(path).keys() == {".lock", ".tffjax", "run.json", "ranking.csv", "patches/a.png"}
    record = json.loads((path / "run.json").read_text())
    assert record["results"] == {"kept": 2}
    assert record["identity"]["arguments"] == {"k": 5, "sizes": [1, 2]}
    assert files(finished(tmp_path / "at-once")) == files(path)


def test_a_run_has_no_state_before_the_first_is_saved(tmp_path):
    with directory.start(tmp_path / "run", RECORD) as run:
        assert run.load(0) is None


def test_the_log_has_a_line_an_event(tmp_path):
    with directory.start(tmp_path / "run", RECORD) as run:
        run.log("started", devices=2)
        run.log("done")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "done"]
    assert lines[0]["devices"] == 2


@pytest.mark.parametrize(
    ("record", "difference"),
    [
        (changed("command", value="color"), 'command is "color" here and was "rank" there'),
        (changed("identity", "weights", "weights_sha256", value="cd"), 'identity.weights.weights_sha256 is "cd" here'),
        (changed("identity", "images", "count", value=4), "identity.images.count is 4 here and was 3 there"),
        (changed("identity", "arguments", "k", value=9), "identity.arguments.k is 9 here and was 5 there"),
        (changed("identity", "arguments", "new", value=1), "identity.arguments.new is 1 here and was null there"),
    ],
)
def test_a_run_made_otherwise_is_refused_and_left_alone(tmp_path, record, difference):
    path = started(tmp_path / "run")
    before = files(path)
    with pytest.raises(InputError) as caught, directory.resume(path, record):
        pass
    assert difference in str(caught.value)
    assert files(path) == before


def test_where_it_ran_and_lay_does_not_matter(tmp_path):
    path = started(tmp_path / "run")
    with directory.resume(path, changed("paths", "data", value=["moved"]) | {"environment": {"jax": "2"}}) as run:
        assert run.load(0).position == 3


def test_a_long_difference_is_cut(tmp_path):
    with pytest.raises(InputError) as caught, directory.resume(
        started(tmp_path / "run"), changed("identity", "images", "count", value="x" * 500)
    ):  # fmt: skip
        pass
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello", "flip"])
def test_a_damaged_state_is_named(tmp_path, damage):
    path = started(tmp_path / "run")
    state = path / "work" / "pass-0.npz"
    whole = state.read_bytes()
    if damage == "flip":
        at = whole.index(np.arange(4.0).tobytes()) + 8
        state.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    else:
        state.write_bytes(damage(whole))
    with directory.resume(path, RECORD) as run, pytest.raises(InputError, match=r"pass-0\.npz: damaged .*delete it"):
        run.load(0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"command": "rank"}'])
def test_a_damaged_record_is_named(tmp_path, text):
    path = started(tmp_path / "run")
    (path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: .*start another run"), directory.resume(path, RECORD):
        pass


def test_what_is_no_run_directory(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with (
            pytest.raises(InputError, match=r"is not a run directory: it has no run\.json"),
            directory.resume(path, RECORD),
        ):
            pass


HOLD = """
import sys
from pathlib import Path
from tffjax.pipeline import directory
with directory.resume(Path(sys.argv[1]), directory.read_record(Path(sys.argv[1]))):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    path = started(tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        before = files(path)
        for enter in (directory.resume(path, RECORD), directory.start(path, RECORD, overwrite=True)):
            with pytest.raises(InputError, match=r"another process works on .*; wait for it or stop it"), enter:
                pass
        assert files(path) == before
        other.kill()
        other.wait()
    with directory.resume(path, RECORD) as run:
        assert run.load(0).position == 3


def test_what_is_there_is_kept_unless_it_may_be_overwritten(tmp_path):
    file = tmp_path / "file"
    file.touch()
    foreign = tmp_path / "foreign"
    (foreign / "photos").mkdir(parents=True)
    others = tmp_path / "heatmaps"
    others.mkdir()
    (others / directory.MARKER).touch()
    (others / "a.png").touch()
    expected = {
        file: "is a file; give the name of a folder",
        foreign: "is not empty and was not written by tffjax; choose another folder",
        others: "holds other results; choose another folder or start anew with --overwrite",
        started(tmp_path / "begun"): r"holds an unfinished run \(go on with --resume\); choose another folder or start",
        finished(tmp_path / "done"): "holds a finished run; choose another folder or start anew with --overwrite",
    }
    for path, message in expected.items():
        before = files(tmp_path)
        with pytest.raises(InputError, match=message), directory.start(path, RECORD):
            pass
        assert files(tmp_path) == before
    for path in (file, foreign):
        with pytest.raises(InputError, match=expected[path]), directory.start(path, RECORD, overwrite=True):
            pass


@pytest.mark.parametrize("make", [started, finished])
def test_overwrite_leaves_nothing_of_the_old_run(tmp_path, make):
    path = make(tmp_path / "run")
    with directory.start(path, changed("identity", "arguments", "k", value=9), overwrite=True) as run:
        assert run.load(0) is None
        assert not run.done
    assert files(path).keys() == {".lock", ".tffjax", "run.json"}


class Killed(BaseException):
    """Stands in for kill -9 at a place; nothing in the product catches it, but `finally` still directory."""


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize("where", ["tffjax.pipeline.directory.write_record", "tffjax.pipeline.directory.fcntl.flock"])
def test_a_start_that_was_cut_off_can_be_started_again(tmp_path, where):
    path = tmp_path / "run"
    with mock.patch(where, killed), pytest.raises(Killed), directory.start(path, RECORD):
        pass
    (path / ".run.json.tmp123").write_text("{")
    with directory.start(path, RECORD) as run:
        assert not run.done
    assert files(path).keys() == {".lock", ".tffjax", "run.json"}


def test_an_overwriting_that_was_cut_off_leaves_no_run_without_its_files(tmp_path):
    path = finished(tmp_path / "run")
    start = directory.start(path, RECORD, overwrite=True)
    with mock.patch("tffjax.pipeline.directory.shutil.rmtree", killed), pytest.raises(Killed), start:
        pass
    with pytest.raises(InputError, match="is not a run directory"), directory.resume(path, RECORD):
        pass
    with directory.start(path, RECORD, overwrite=True):
        pass
    assert files(path).keys() == {".lock", ".tffjax", "run.json"}


def test_leftovers_of_a_killed_process_go_away(tmp_path):
    path = started(tmp_path / "run")
    (path / ".results.abc").mkdir()
    (path / ".results.abc" / "half.csv").touch()
    for name in (".run.json.tmp12", "work/.pass-0.npz.tmp12"):
        (path / name).touch()
    with directory.resume(path, RECORD):
        left = {entry.relative_to(path).as_posix() for entry in path.rglob("*")}
    assert left == {".lock", ".tffjax", "run.json", "work", "work/pass-0.npz"}


def test_a_finish_that_was_cut_off_can_be_finished(tmp_path):
    whole = files(finished(tmp_path / "whole"))
    for after in range(1, 4):  # renamed files: two results and run.json
        path, moves = started(tmp_path / f"cut-{after}"), 0

        def move(self, target, original=Path.replace, after=after):
            nonlocal moves
            moves += 1
            if moves == after:
                raise Killed
            return original(self, target)

        with directory.resume(path, RECORD) as run, mock.patch.object(Path, "replace", move), pytest.raises(Killed):
            finish(run)
        with directory.resume(path, RECORD) as run:
            assert not run.done
            finish(run)
        assert files(path) == whole


def test_a_state_that_outlived_its_run_goes_away(tmp_path):
    path = finished(tmp_path / "run")
    whole = files(path)
    (path / "work").mkdir()
    (path / "work" / "pass-0.npz").write_bytes(b"old")
    with directory.resume(path, RECORD) as run:
        assert run.done
    assert files(path) == whole


@pytest.mark.parametrize("where", ["os.fsync", "numpy.savez"])
def test_a_full_disk_leaves_the_old_state(tmp_path, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = started(tmp_path / "run")
    before = files(path)
    with directory.resume(path, RECORD) as run:
        with mock.patch(where, full), pytest.raises(OSError, match="No space left"):
            run.save(0, State(4, False, {2: "damaged"}, {"sums": np.zeros(9)}))
        assert files(path) == before
        assert run.load(0).position == 3
        with mock.patch("os.fsync", full), pytest.raises(OSError, match="No space left"):
            finish(run)
    assert files(path) == before

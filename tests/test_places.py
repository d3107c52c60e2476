"""Places of results: what others put there stays, what killed processes left goes, links and the umask are heeded."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tffjax.errors import InputError
from tffjax.files import LONGEST
from tffjax.nn import checkpoint
from tffjax.pipeline import directory
from tffjax.places import clear_up, look, look_for_file, new_file, new_folder, temporary_name
from tffjax.report.sources import Source
from tffjax.results.record import write_record

RECORD = {"command": "rank", "identity": {}, "paths": {}}


def write(path: Path, overwrite: bool, text: str, meanwhile=lambda: None) -> None:
    with new_file(look_for_file(path, overwrite)) as temporary:
        temporary.write_text(text)
        meanwhile()


def write_folder(path: Path, overwrite: bool, text: str, meanwhile=lambda: None) -> None:
    with new_folder(look(path, overwrite)) as temporary:
        (temporary / "result").write_text(text)
        meanwhile()


def file_of(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


def folder_of(path: Path, text: str) -> None:
    path.mkdir(exist_ok=True)
    (path / f"by {text}").write_text(text)


WRITERS = {write: file_of, write_folder: folder_of}


def content(path: Path) -> set[str]:
    return {path.read_text()} if path.is_file() else {file.read_text() for file in path.iterdir()}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("appears", WRITERS.values())
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_at_a_place_stays(tmp_path, write, appears, overwrite):
    out = tmp_path / "out.html"
    with pytest.raises(InputError, match=r"it was not so at the start, and the results are in .*out") as error:
        write(out, overwrite, "ours", lambda: appears(out, "theirs"))
    assert content(out) == {"theirs"}
    assert content(Path(str(error.value).rpartition(" in ")[2])) == {"ours"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("write", "change"), WRITERS.items())
def test_overwriting_replaces_what_was_seen_and_nothing_else(tmp_path, write, change):
    out = tmp_path / "out"
    write(out, False, "first")
    write(out, True, "second")
    assert content(out) == {"second"}
    with pytest.raises(InputError, match=r"the results are in .*out-2$"):
        write(out, True, "third", lambda: change(out, "theirs"))
    assert "theirs" in content(out)
    assert content(tmp_path / "out-2") == {"third"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-2"]


@pytest.mark.parametrize("write", WRITERS)
def test_fifty_races_of_two_writers(tmp_path, write):
    """Both find the place free. One takes it, the other says where its results are; nothing is lost."""
    for race in range(50):
        out, begin, refused = tmp_path / f"{race}", threading.Barrier(2), []

        def work(text, out=out, begin=begin, refused=refused):
            try:
                write(out, False, text, begin.wait)
            except InputError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=work, args=(text,)) for text in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        assert content(out) | content(tmp_path / f"{race}-2") == {"a", "b"}


@pytest.mark.parametrize("write", WRITERS)
def test_the_umask_is_heeded(tmp_path, write):
    before = os.umask(0o027)
    try:
        write(tmp_path / "out", False, "ours")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == (0o640 if (tmp_path / "out").is_file() else 0o750)


def test_a_link_at_a_place_leads_to_the_place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_folder(tmp_path / "link", False, "ours")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == {"ours"}


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    kill = "import os, sys; from pathlib import Path; from tffjax.places import look, new_folder\n"
    kill += "with new_folder(look(Path(sys.argv[1]))) as folder: (folder / 'half').touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", kill, tmp_path / "out"], check=False)
    (left,) = tmp_path.iterdir()
    alive, others = temporary_name(tmp_path / "out"), tmp_path / ".out.tmp-0123abcd-1-0"  # of another machine
    alive.mkdir()
    others.mkdir()
    clear_up(tmp_path / "out")
    assert not left.exists()
    assert alive.exists()
    assert others.exists()


@pytest.mark.parametrize("write", WRITERS)
def test_what_a_killed_process_was_about_to_replace_gets_its_name_again(tmp_path, write):
    """It was killed between the two renames."""
    write(tmp_path / "out", False, "old")
    kill = "import os, sys; from pathlib import Path; from tffjax import places\n"
    kill += "path = Path(sys.argv[1]); path.rename(places.temporary_name(path, 'old')); os._exit(9)"
    subprocess.run([sys.executable, "-c", kill, tmp_path / "out"], check=False)
    assert not (tmp_path / "out").exists()
    clear_up(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert content(tmp_path / "out") == {"old"}


def test_the_names_are_short_enough_and_not_known_before():
    names = {temporary_name(Path("ü" * 127)).name for _ in range(9)}
    assert len(names) == 9
    assert max(len(name.encode()) for name in names) < LONGEST + 50


def test_a_file_is_no_place_for_a_folder_nor_a_folder_for_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        look_for_file(tmp_path / "folder", True)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="is no regular file"):
        look_for_file(tmp_path / "fifo", True)
    with pytest.raises(InputError, match="is not a checkpoint"):
        checkpoint.check_free(tmp_path / "folder", True)


# Links in run directories that come from others


@pytest.fixture
def run(tmp_path) -> Path:
    with directory.start(tmp_path / "run", RECORD):
        pass
    return tmp_path / "run"


@pytest.fixture
def mine(tmp_path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("thesis")
    return tmp_path / "mine"


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "work"])
def test_a_run_does_not_write_through_links(run, mine, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine if name == "work" else mine / "thesis.txt")

    def go_on():
        with directory.resume(run, RECORD) as found:
            found.log("started")
            found.save(0, directory.State(0, False, {}, {}))

    with pytest.raises(InputError, match="a link, and"):
        go_on()
    assert (mine / "thesis.txt").read_text() == "thesis"
    assert len(list(mine.iterdir())) == 1


def test_results_replace_a_link(run, mine):
    (run / "patches").symlink_to(mine)
    (run / "run.json").rename(mine / "run.json")
    (run / "run.json").symlink_to(mine / "run.json")
    before = (mine / "run.json").read_text()
    with directory.resume(run, RECORD) as found, found.finish() as (folder, _):
        (folder / "patches").mkdir()
    assert not (run / "patches").is_symlink()
    assert (mine / "run.json").read_text() == before
    assert (mine / "thesis.txt").exists()


def test_a_report_shows_no_file_from_elsewhere(run, mine):
    (run / "secret.png").symlink_to(mine / "thesis.txt")
    (run / "table.parquet").symlink_to(mine / "thesis.txt")
    source = Source(run, "rank", {})
    for read in (lambda: source.file("secret.png"), lambda: source.file("../x"), lambda: source.table("table")):
        with pytest.raises(InputError, match="a link out of the folder"):
            read()


def test_what_appears_in_a_run_that_is_overwritten_is_not_deleted(run, monkeypatch):
    write_record(run, RECORD | {"results": {}})
    checked = directory.check_free

    def and_then(path, overwrite):
        names = checked(path, overwrite)
        (run / "thesis.txt").touch()
        return names

    monkeypatch.setattr(directory, "check_free", and_then)
    with (
        pytest.raises(InputError, match=r"thesis.txt has appeared just now"),
        directory.start(run, RECORD, overwrite=True),
    ):
        pass
    assert (run / "thesis.txt").exists()

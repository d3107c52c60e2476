"""A run directory: what was asked, how far it got, and its results; interrupted at any moment, it goes on.

RUN/run.json        `command` and `identity`: what was asked of which weights and images; `paths` and `environment`; and
                    once the run is done its `results`
RUN/work/           how far each pass got, `pass-K.npz`, and what it keeps on the way; gone when the run is done
RUN/shards/I-of-N/  the same of one shard
RUN/.lock           locked while a process works on it

The same request gives the same bytes, interrupted or not: nothing that depends on the clock is written, but for
`log.jsonl`. Every file is written to a temporary name, flushed to the disk and then renamed.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tffjax.errors import InputError
from tffjax.files import MARKER, RECORD, delete, flush, from_json, regular, replace_file
from tffjax.places import check_around
from tffjax.results.record import is_done, read_record, write_record

LOCK = ".lock"
WORK = "work"
SHARDS = "shards"


class State(NamedTuple):
    """How far a pass is.

    Attributes:
        position: number of its batches that are done.
        ended: all of them are.
        skipped: index of a file that turned out unreadable -> why.
        sums: what the pass keeps, as arrays.
    """

    position: int
    ended: bool
    skipped: dict[int, str]
    sums: dict[str, np.ndarray]


class Run:
    """A run directory that this process has locked; see `start` and `resume`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says."""
        return read_record(self.path)

    @property
    def done(self) -> bool:
        """Whether the results are there."""
        return is_done(self.path)

    @property
    def work(self) -> Path:
        """A folder for what is of no use once the run is done."""
        folder = self.path / WORK
        if folder.is_symlink():
            raise InputError(f"{folder}: a link, and what a run works with stays in its directory; delete the link")
        folder.mkdir(exist_ok=True)
        return folder

    def clean(self) -> None:
        """Delete what a killed process left behind that is of no use."""
        for pattern in (".results.*", f".{RECORD}.tmp*", f"{WORK}/.*.tmp*", *([WORK, SHARDS] if self.done else [])):
            for leftover in self.path.glob(pattern):
                delete(leftover)

    def discard(self) -> None:
        """Delete the run, which cannot be gone on with."""
        for entry in self.path.iterdir():
            delete(entry)
        self.path.rmdir()

    def folder(self, number: int) -> Path:
        """Where a pass keeps its files."""
        folder = self.work / f"pass-{number}"
        folder.mkdir(exist_ok=True)
        return folder

    def save(self, number: int, state: State) -> None:
        """Replace the state of a pass."""
        reasons = np.frombuffer(json.dumps(state.skipped).encode(), np.uint8)
        sums = {f"sums/{name}": array for name, array in state.sums.items()}
        with replace_file(self._state(number)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, position=np.int64(state.position), ended=state.ended, skipped=reasons, **sums)

    def load(self, number: int) -> State | None:
        """The last state of a pass; None if it has not begun.

        Raises:
            InputError: the file is damaged.
        """
        path = self._state(number)
        if not path.exists():
            return None
        arrays = arrays_of(path, "delete it to start this pass from zero")
        try:
            skipped = from_json(arrays["skipped"].tobytes())
            return State(
                int(arrays["position"]),
                bool(arrays["ended"]),
                {int(index): reason for index, reason in skipped.items()},
                {name.removeprefix("sums/"): a for name, a in arrays.items() if name.startswith("sums/")},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({error}); delete it to start this pass from zero") from None

    def _state(self, number: int) -> Path:
        return self.work / f"pass-{number}.npz"

    def log(self, event: str, **facts: Any) -> None:
        """Append a line with the time to log.jsonl."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts}
        with open(self.path / "log.jsonl", "a", encoding="utf-8", opener=_not_through_a_link) as stream:
            stream.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def finish(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A temporary folder, and a dictionary for the results; when the block ends well the folder's files move into
        the run directory, then the results into run.json, which makes the run done, and `work` and `shards` go away."""
        temporary, results = Path(tempfile.mkdtemp(prefix=".results.", dir=self.path)), dict[str, Any]()
        try:
            yield temporary, results
            for file in temporary.rglob("*"):
                if file.is_file():
                    flush(file)
            for file in sorted(temporary.iterdir()):
                target = self.path / file.name
                if target.is_dir():
                    delete(target)
                file.replace(target)
            write_record(self.path, {**self.record, "results": results})
            for folder in (WORK, SHARDS):
                shutil.rmtree(self.path / folder, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def arrays_of(path: Path, way_out: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, none of which is a pickle.

    Raises:
        InputError: it is damaged; `way_out` says what to do then.
    """
    try:
        with open(path, "rb", opener=regular) as stream, np.load(stream) as archive:
            return dict(archive)
    except Exception as error:  # on foreign bytes zipfile and NumPy raise many kinds
        raise InputError(f"{path}: damaged ({error}); {way_out}") from None


@contextlib.contextmanager
def start(path: Path, record: dict[str, Any], *, overwrite: bool = False) -> Iterator[Run]:
    """Make a run directory and lock it.

    Raises:
        InputError: there is something at `path` (and `overwrite` is off or it is not a run directory), or another
            process works on it.
    """
    seen = check_free(path, overwrite)
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).touch()
    with _locked(path):
        # again: another process may have begun, and ended, in between
        if new := check_free(path, overwrite) - seen - {MARKER, LOCK}:
            raise InputError(f"{path / min(new)} has appeared just now; choose another folder")
        (path / RECORD).unlink(missing_ok=True)  # first: whatever interrupts this, no run is left without its files
        for old in path.iterdir():
            if not old.name.startswith((MARKER, LOCK)):
                delete(old)
        write_record(path, record)
        yield Run(path)


@contextlib.contextmanager
def adopt(path: Path, record: dict[str, Any]) -> Iterator[Run]:
    """Make a run directory of one that so far holds shards only, and lock it."""
    with _locked(path):
        write_record(path, record)
        yield Run(path)


@contextlib.contextmanager
def resume(path: Path, record: dict[str, Any]) -> Iterator[Run]:
    """Lock a run directory whose command and identity are those of `record`.

    Raises:
        InputError: there is none, it was made with other weights, arguments or images (the first differences are
            named), or another process works on it.
    """
    check_same(path, read_record(path), record)
    with _locked(path):
        run = Run(path)
        run.clean()
        yield run


def check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise an InputError, with the first differences, unless the run at `path` was asked the same."""
    ours = [{key: value[key] for key in ("command", "identity")} for value in (found, as_json(wanted))]
    differences = list(_differences(*ours))
    if differences:
        raise InputError(f"{path} was made otherwise: {'; '.join(differences[:5])}; start another run")


def as_json(record: Any) -> Any:
    """The record as it reads back from run.json: tuples become lists."""
    return json.loads(json.dumps(record))


def check_free(path: Path, overwrite: bool) -> set[str]:
    """The names of what is at `path`, where a run may be started; nothing is changed.

    Raises:
        InputError: no run may be started there.
    """
    check_place(path)
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if all(name.startswith((MARKER, LOCK, f".{RECORD}.tmp")) for name in names):
        return names  # empty, or a start was cut off here
    if MARKER not in names:
        raise InputError(f"{path} is not empty and was not written by tffjax; choose another folder")
    if not overwrite:
        raise InputError(f"{path} holds {_what_is_at(path)}; choose another folder or start anew with --overwrite")
    return names


def check_place(path: Path) -> None:
    """Raise an InputError unless there can be a folder of this name."""
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give the name of a folder")
    check_around(path)


def _what_is_at(path: Path) -> str:
    try:
        return "a finished run" if "results" in read_record(path) else "an unfinished run (go on with --resume)"
    except InputError:
        return "other results"


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys((*found, *wanted)):
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif found != wanted:
        yield f"{name} is {_short(wanted)} here and was {_short(found)} there"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a run; the system frees it however the process ends."""
    try:
        stream = open(path / LOCK, "a", opener=_not_through_a_link)  # noqa: SIM115
    except FileNotFoundError:
        raise InputError(f"{path}: no such run directory") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process works on {path}; wait for it or stop it") from None
        yield


def _not_through_a_link(name: str, flags: int) -> int:
    """Open a file that a run appends to; a foreign directory's link could lead to any file of the user."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{name}: a link, and a run writes to its own files only; delete the link") from None
        raise

"""A run directory: what was asked, how far it got, and its results; interrupted at any moment, it goes on.

RUN/run.json        `command` and `identity`: what was asked of which weights and images; `paths` and `environment`; and
                    once the run is done its `results`
RUN/state-P.npz     how far process P got; gone when the run is done
RUN/work/           what the studies keep on the way; gone when the run is done
RUN/.lock-P         locked while process P works on it

The same question gives the same bytes, interrupted or not: nothing that depends on the clock is written, but for
`log.jsonl`. Every file is written to a temporary name, flushed to the disk and then renamed.
"""

import contextlib
import fcntl
import json
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tffjax.errors import InputError
from tffjax.files import flush, replace_file

RECORD = "run.json"
MARKER = ".tffjax"
WORK = "work"


class Run:
    """A run directory that this process has locked; see `start` and `resume`."""

    def __init__(self, path: Path, process: int) -> None:
        self.path = path
        self.process = process
        self._state = path / f"state-{process}.npz"

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says."""
        return read_record(self.path)

    @property
    def done(self) -> bool:
        """Whether the results are there."""
        return "results" in self.record

    @property
    def work(self) -> Path:
        """A folder for what is of no use once the run is done."""
        folder = self.path / WORK
        folder.mkdir(exist_ok=True)
        return folder

    def clean(self) -> None:
        """Delete what a killed process left behind that is of no use."""
        patterns = [f".{self._state.name}.tmp*"]
        if self.process == 0:
            patterns += [".results.*", f".{RECORD}.tmp*"]
        if self.done:
            patterns += [self._state.name, *([WORK] if self.process == 0 else [])]
        for pattern in patterns:
            for leftover in self.path.glob(pattern):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def save_state(self, position: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the state: `position` says how many units of work the arrays account for."""
        with replace_file(self._state) as temporary, temporary.open("wb") as stream:
            np.savez(stream, position=np.int64(position), **arrays)

    def load_state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """The last state (position, arrays), or None if there is none.

        Raises:
            InputError: the file is damaged.
        """
        if not self._state.exists():
            return None
        try:
            with self._state.open("rb") as stream, np.load(stream) as archive:
                arrays = dict(archive)
            return int(arrays.pop("position")), arrays
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{self._state}: damaged ({error}); delete it to start this run from zero") from None

    def log(self, event: str, **facts: Any) -> None:
        """Append a line with the time to log.jsonl."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "process": self.process, "event": event, **facts}
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def finish(self, results: dict[str, Any], processes: int = 1) -> Iterator[Path]:
        """A temporary folder; when the block ends well its files move into the run directory, then `results` into
        run.json, which makes the run done, and the states and `work` go away."""
        temporary = Path(tempfile.mkdtemp(prefix=".results.", dir=self.path))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    flush(file)
            for file in sorted(temporary.iterdir()):
                target = self.path / file.name
                if target.is_dir():
                    shutil.rmtree(target)
                file.replace(target)
            _write_json(self.path / RECORD, {**self.record, "results": results})
            for process in range(processes):
                (self.path / f"state-{process}.npz").unlink(missing_ok=True)
            shutil.rmtree(self.path / WORK, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def start(path: Path, record: dict[str, Any], *, overwrite: bool = False, process: int = 0) -> Iterator[Run]:
    """Make a run directory (process 0; the others find it) and lock it.

    Raises:
        InputError: there is something at `path` (and `overwrite` is off or it is not a run directory), or another
            process works on it.
    """
    if process == 0:
        check_free(path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).touch()
    with _locked(path, process):
        if process == 0:
            (path / RECORD).unlink(missing_ok=True)  # first: whatever interrupts this, no run is left without its files
            for old in path.iterdir():
                if not old.name.startswith((MARKER, ".lock-")):
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            _write_json(path / RECORD, record)
        yield Run(path, process)


@contextlib.contextmanager
def resume(path: Path, record: dict[str, Any], *, process: int = 0) -> Iterator[Run]:
    """Lock a run directory whose command and identity are those of `record`.

    Raises:
        InputError: there is none, it was made with other weights, arguments or images (the first differences are
            named), or another process works on it.
    """
    found, wanted = (
        {key: value[key] for key in ("command", "identity")} for value in (read_record(path), as_json(record))
    )
    differences = list(_differences(found, wanted))
    if differences:
        raise InputError(f"{path} was made otherwise: {'; '.join(differences[:5])}; start another run")
    with _locked(path, process):
        run = Run(path, process)
        run.clean()
        yield run


def read_record(path: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        InputError: `path` is not a run directory.
    """
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not a run directory: it has no {RECORD}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path / RECORD}: cannot be read ({error}); start another run") from None
    if not isinstance(record, dict) or not {"command", "identity", "paths"} <= record.keys():
        raise InputError(f"{path / RECORD}: not the record of a run; start another run")
    return record


def as_json(record: Any) -> Any:
    """The record as it reads back from run.json: tuples become lists."""
    return json.loads(json.dumps(record))


def check_free(path: Path, overwrite: bool) -> None:
    """Raise an InputError unless a run may be started at `path`."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give the name of a folder")
    names = [entry.name for entry in path.iterdir()] if path.exists() else []
    if all(name.startswith((MARKER, ".lock-", f".{RECORD}.tmp")) for name in names):
        return  # empty, or a start was cut off here
    if MARKER not in names:
        raise InputError(f"{path} is not empty and was not written by tffjax; choose another folder")
    if not overwrite:
        raise InputError(f"{path} holds {_what_is_at(path)}; choose another folder or start anew with --overwrite")


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
def _locked(path: Path, process: int) -> Iterator[None]:
    """Hold the lock of one process' part of a run; the system frees it however the process ends."""
    lock = path / f".lock-{process}"
    try:
        stream = lock.open("w")
    except FileNotFoundError:
        raise InputError(f"{path}: no such run directory") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process works on {path}; wait for it or stop it") from None
        yield


def _write_json(path: Path, value: Any) -> None:
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.write("\n")

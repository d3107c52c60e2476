"""Where results go: a place is looked at before the work, and taken once the results are whole; what others put there
meanwhile stays.

Until then results have a temporary name beside it, `.NAME.tmp-HOST-PID-RANDOM`, and what they replace is called
`.NAME.old-HOST-PID-RANDOM` until they have the name. A killed process leaves these behind; the next one that looks at
the same place removes them, or gives what was replaced its name again where nothing has it.
"""

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tffjax.errors import InputError
from tffjax.files import delete, flush, no_room, shortened

_NEW, _OLD = "tmp", "old"


class Place(NamedTuple):
    """A name for results, links followed, and a stamp of what they may replace there; None is nothing."""

    path: Path
    seen: tuple[int, ...] | None


def look(path: Path, overwrite: bool = False) -> Place:
    """A place as it is now: with `overwrite`, what is there may be replaced. Clears up after killed processes.

    Whether anything may be there at all is for the caller to say.
    """
    path = path.resolve()
    clear_up(path)
    return Place(path, _stamp(path) if overwrite else None)


def take(new: Path, place: Place) -> None:
    """Give a file or folder the name of its place; what is replaced is deleted when the new one has the name.

    Raises:
        InputError: something else is there by now. It stays, and the new one takes the next free name.
    """
    path, old = place.path, temporary_name(place.path, _OLD)
    try:
        if place.seen is not None:
            with contextlib.suppress(FileNotFoundError):
                path.rename(old)
            if _stamp(old) not in (place.seen, None):
                _name(old, path)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        _name(new, path)
    except OSError as error:
        kept = next(name for number in itertools.count(2) if not os.path.lexists(name := _numbered(path, number, new)))
        _name(new, kept)
        raise InputError(
            f"{path}: {error.strerror}; it was not so at the start, and the results are in {kept}"
        ) from None
    finally:
        if os.path.lexists(old):
            delete(old)


def look_for_file(path: Path, overwrite: bool) -> Place:
    """The place of a file.

    Raises:
        InputError: there is something and `overwrite` is off, or something that is no file.
    """
    place = look(path, overwrite)  # first: it may give something its name again
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already; choose another name or pass --overwrite")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; choose another name")
    check_around(place.path)
    return place


def check_around(path: Path) -> None:
    """Raise an InputError unless a file or folder of this name can be made, and the folders above it."""
    around = next(folder for folder in (path, *path.parents) if folder.exists())
    if not around.is_dir() and around != path:
        raise InputError(f"{around} is a file, so there can be no folder in it; choose another place")
    if not os.access(around if around.is_dir() else around.parent, os.W_OK | os.X_OK):
        raise InputError(f"{around} is read-only; choose another place")


@contextlib.contextmanager
def new_file(place: Place) -> Iterator[Path]:
    """A name to write a file to; it takes its place when the block ends well, and vanishes when it does not.

    Raises:
        InputError: as `take`.
    """
    with _new(place) as temporary:
        yield temporary
        flush(temporary)


@contextlib.contextmanager
def new_folder(place: Place) -> Iterator[Path]:
    """A folder to write to, with the rights that the umask leaves; it takes its place when the block ends well.

    Raises:
        InputError: as `take`.
    """
    with _new(place) as temporary:
        temporary.mkdir()
        yield temporary


@contextlib.contextmanager
def _new(place: Place) -> Iterator[Path]:
    place.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(place.path)
    try:
        with _room(place.path):
            yield temporary
        take(temporary, place)
    finally:
        with contextlib.suppress(OSError):  # it has its name, or was never made
            delete(temporary)


@contextlib.contextmanager
def _room(path: Path) -> Iterator[None]:
    """That there is no room is one line, whatever a library makes of it."""
    try:
        yield
    except Exception as error:
        if why := no_room(error):
            raise InputError(f"{path}: {why}; make room, then give the command again") from None
        raise


def temporary_name(path: Path, kind: str = _NEW) -> Path:
    """A name beside a path that nobody has and nobody can guess."""
    return path.with_name(f"{_prefix(path, kind)}{os.getpid()}-{secrets.token_hex(4)}")


def clear_up(path: Path) -> None:
    """Delete what killed processes of this machine left beside a path; what they were about to replace gets it back."""
    for kind in (_OLD, _NEW):
        prefix = _prefix(path, kind)
        for entry in path.parent.iterdir() if path.parent.is_dir() else ():
            if entry.name.startswith(prefix) and not _lives(entry.name.removeprefix(prefix).partition("-")[0]):
                with contextlib.suppress(OSError):
                    if kind == _OLD and not os.path.lexists(path):
                        _name(entry, path)
                    else:
                        delete(entry)


def _prefix(path: Path, kind: str) -> str:
    return f".{shortened(path.name)}.{kind}-{_here()}-"


@functools.cache
def _here() -> str:
    """Where process ids mean what they say: this machine, or container."""
    space = ""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):
        return True
    return True


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.lstat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _name(new: Path, path: Path) -> None:
    """Rename, but not onto anything; an empty folder counts for nothing."""
    if new.is_dir() and not new.is_symlink():
        new.rename(path)  # the system refuses it where a file, or a folder with something in it, is
        return
    try:
        path.hardlink_to(new)  # as this where anything is
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        new.rename(path)
    else:
        new.unlink()


def _numbered(path: Path, number: int, new: Path) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if new.is_file() else Path(f"{path}-{number}")

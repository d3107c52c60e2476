"""Folders of results that are written whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tffjax.errors import InputError
from tffjax.files import MARKER
from tffjax.pipeline.directory import check_place
from tffjax.places import look, new_folder


def check_output(path: Path, overwrite: bool) -> None:
    """See whether a command can write its results to a folder of this name; nothing is changed.

    Raises:
        InputError: `path` exists and is not an empty folder, and `overwrite` is off or it was not made by tffjax; or
            the folder around it is a file or read-only.
    """
    path = path.resolve()
    if path.is_mount():
        raise InputError(f"{path} is a mount point; give the name of a folder in it")
    check_place(path)
    if path.exists() and any(path.iterdir()):
        if not overwrite:
            raise InputError(f"{path} is not empty; choose another folder or pass --overwrite")
        if not (path / MARKER).exists():
            raise InputError(f"{path} was not written by tffjax, so it is not overwritten; choose another folder")


@contextlib.contextmanager
def output_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends well and vanishes when it does not.

    What appears at `path` meanwhile stays; the folder then takes another name beside it.

    Raises:
        InputError: as `check_output`, at the start, and at the end, where it says what name the folder took.
    """
    place = look(path, overwrite)  # first: it may give something its name again
    check_output(path, overwrite)
    with new_folder(place) as temporary:
        (temporary / MARKER).touch()
        yield temporary

"""Folders of results that are written whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tffjax.errors import InputError
from tffjax.files import MARKER
from tffjax.nn.checkpoint import replace_folder
from tffjax.pipeline.directory import check_place


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

    Raises:
        InputError: as `check_output`.
    """
    check_output(path, overwrite)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o755)
        (temporary / MARKER).touch()
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

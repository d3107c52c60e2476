"""Names of files; single files written whole or not at all (folders: `tffjax.nn.checkpoint.replace_folder`)."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def file_name(name: str) -> str:
    """The name of something, such as an ablation, as part of a file's name."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` when the block ends well and vanishes when it does not.

    It is on the disk before it is renamed. A killed process leaves the name, `.NAME.tmpPID`, behind.
    """
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def flush(path: Path) -> None:
    """Return when the file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())

"""Names of files; single files written whole or not at all (folders: `tffjax.nn.checkpoint.replace_folder`)."""

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

MARKER = ".tffjax"
"""In every folder of results; nothing else is overwritten."""

RECORD = "run.json"
"""The record of a run directory."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory: it has a record and the marker."""
    return (folder / MARKER).exists() and (folder / RECORD).exists()


def file_name(name: str) -> str:
    """The name of something, such as an ablation, as part of a file's name."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> part of a file's name (`file_name`), with a number behind it where another one, in any case, has it."""
    found: dict[str, str] = {}
    for name in names:
        plain, taken = file_name(name), {other.casefold() for other in found.values()}
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        found[name] = plain if plain.casefold() not in taken else next(n for n in numbered if n.casefold() not in taken)
    return found


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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

"""Names of files; single files written whole or not at all (others' places: `tffjax.places`)."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MARKER = ".tffjax"
"""In every folder of results; nothing else is overwritten."""

LONGEST = 120
"""Bytes of a name that becomes part of a file's name; systems take 255."""

RECORD = "run.json"
"""The record of a run directory."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory: it has a record and the marker."""
    return (folder / MARKER).exists() and (folder / RECORD).exists()


def utf8(name: str) -> str:
    """A name of the file system for tables, which take UTF-8: where it is none, its other bytes, and %, become %XX."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        escaped = ("%25" if byte == b"%" else f"%{byte[0]:02X}" if byte[0] > 127 and len(byte) == 1 else None
                   for byte in (os.fsencode(c) for c in name))  # fmt: skip
        return "".join(c if code is None else code for c, code in zip(name, escaped, strict=True))


def printable(text: str) -> str:
    """A text with its control characters, which a terminal would obey, as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def file_name(name: str) -> str:
    """The name of something, such as an ablation, as part of a file's name: letters, digits, `._-`, not too long."""
    return shortened("".join(c if c.isalnum() or c in "._-" else "-" for c in name))


def shortened(name: str) -> str:
    """A name of at most `LONGEST` bytes; where it was cut, it ends in a hash of the whole."""
    content = name.encode("utf-8", "surrogateescape")
    if len(content) <= LONGEST:
        return name
    return f"{content[: LONGEST - 9].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:8]}"


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

    It is on the disk before it is renamed. A killed process leaves the name, `.NAME.tmp-...`, behind.
    """
    temporary = path.with_name(f".{shortened(path.name)}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def no_room(error: BaseException | None) -> str | None:
    """What the system says if an error, or what it comes from, is that there is no room; None if it is something else.

    Libraries turn it into errors of their own, some without a cause but the words.
    """
    while error is not None:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                return os.strerror(code)
        error = error.__cause__ or error.__context__
    return None


def reserve(folder: Path, num_bytes: int) -> None:
    """See whether so much can be written in a folder, for libraries that say so in their own way, and too late.

    Raises:
        OSError: it cannot.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, num_bytes))


def regular(name: str, flags: int) -> int:
    """An `opener` that does not wait for a writer, as a FIFO would, and opens regular files only.

    Raises:
        OSError: as of `open`, and for what is no regular file.
    """
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "no regular file", name)
    return descriptor


def read_text(path: Path) -> str:
    """The text of a regular file.

    Raises:
        OSError, UnicodeDecodeError: it is none.
    """
    with open(path, encoding="utf-8", opener=regular) as stream:
        return stream.read()


def from_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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

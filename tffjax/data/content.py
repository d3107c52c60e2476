"""What a file holds, by which it is known again."""

import hashlib
import io
import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """What the system says of a file; while it stays the same, so do the bytes.

    Attributes:
        num_bytes: size.
        mtime_ns, ctime_ns: times of the last change of the bytes, and of anything; 0 of what is no file of its own.
    """

    num_bytes: int
    mtime_ns: int = 0
    ctime_ns: int = 0

    @classmethod
    def of(cls, stat: os.stat_result) -> "Stamp":
        """That of a file."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Content(NamedTuple):
    """SHA-256 of the bytes of an image, and the stamp of the file that they were read from."""

    sha256: bytes
    stamp: Stamp

    @classmethod
    def of(cls, file: io.BufferedIOBase) -> "Content":
        """That of an open file, which is read to its end."""
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        return cls(digest, Stamp.of(os.fstat(file.fileno())))

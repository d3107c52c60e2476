"""Standard output and error that may end before the run does: a run never fails because nobody reads its words."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class Lasting:
    """A text stream whose words are dropped once it cannot be written: its reader has left, or its disk is full.

    That a disk is full is said once on standard error; that a reader such as `head` has left is no trouble.
    """

    def __init__(self, stream: Any) -> None:
        """`stream` takes the words as long as it can."""
        self._stream = stream
        self._lost = False

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        if not self._lost:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:  # the latter of a closed one
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._lost = True
        with contextlib.suppress(OSError, ValueError):
            silence(self._stream)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError, ValueError):
                print(f"tffjax: standard output cannot be written ({error.strerror}); the run goes on", file=sys.stderr)


def silence(stream: Any) -> None:
    """Let what a stream still holds, and all that comes, go nowhere; Python would complain of it when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Standard output and error are `Lasting`; one that was closed from the start goes nowhere.

    What they cannot encode, such as a name that is no UTF-8, or any letter but ASCII where LC_ALL is C, is escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        out, err = Lasting(sys.stdout or nowhere), Lasting(sys.stderr or nowhere)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield

"""Where the words of a study go."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TextIO, runtime_checkable

import pyarrow as pa

Advance = Callable[..., None]
"""To be called with the number of units done since the last call, and perhaps a word on how it goes."""


@runtime_checkable
class Reporter(Protocol):
    """What a study tells a person. The command line has its own (`tffjax.cli.console`); `Lines` is that of Python."""

    def say(self, text: str) -> None:
        """A result."""

    def table(self, table: pa.Table, title: str, formats: Mapping[str, str]) -> None:
        """A table of results: the columns in `formats`, name to format specification."""

    def warn(self, text: str) -> None:
        """Something that the person should know, and that ends nothing."""

    def busy(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Something without a known length is going on while the block runs."""

    def progress(self, what: str, total: int, unit: str) -> contextlib.AbstractContextManager[Advance]:
        """A known number of units is worked on while the block runs."""


class Silent:
    """Tells nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def table(self, table: pa.Table, title: str, formats: Mapping[str, str]) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Nothing."""
        yield

    @contextlib.contextmanager
    def progress(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """Nothing."""
        yield lambda count, note="": None


class Lines(Silent):
    """Progress and warnings as plain lines, by default on standard error; results are what the functions return."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        """`every` so many seconds there is a line on how far a pass is."""
        self._stream, self._every = stream, every

    def warn(self, text: str) -> None:
        """A line."""
        self._print(text)

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A line at the beginning."""
        self._print(f"{what} ...")
        yield

    @contextlib.contextmanager
    def progress(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """Lines with rate and time left."""
        start = last = time.monotonic()
        done = first = 0

        def advance(count: int, note: str = "") -> None:
            nonlocal done, first, last
            now, done = time.monotonic(), done + count
            first = first or done  # what an interrupted run had done before is not of this one's rate
            if now - last >= self._every and done < total:
                rate = (done - first) / (now - start)
                left = f", {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left" if rate else ""
                self._print(f"{what}: {done} of {total} {unit}{left}{note and f' ({note})'}")
                last = now

        yield advance
        self._print(f"{what}: {done} of {total} {unit} in {time.monotonic() - start:.0f} s")

    def _print(self, text: str) -> None:
        print(f"tffjax: {text}", file=self._stream or sys.stderr, flush=True)

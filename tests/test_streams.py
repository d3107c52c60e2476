"""Standard output that ends before the run."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tffjax.cli.streams import Lasting


@contextlib.contextmanager
def left_by_its_reader():
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


@contextlib.contextmanager
def full():
    """A file on a full disk."""
    stream = Path("/dev/full").open("w")  # noqa: SIM115  closing it fails
    yield stream
    with contextlib.suppress(OSError):
        stream.close()


@contextlib.contextmanager
def closed():
    """A stream that takes nothing any more."""
    with left_by_its_reader() as stream:
        pass
    yield stream


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (left_by_its_reader, ""),
        (closed, ""),
        (full, "tffjax: standard output cannot be written (No space left on device); the run goes on"),
    ],
)
def test_words_that_nobody_reads_end_no_run(make, said):
    words = io.StringIO()
    with make() as stream, contextlib.redirect_stderr(words):
        lasting = Lasting(stream)
        for _ in range(3):
            assert lasting.write("a result") == 8
            lasting.flush()
    assert words.getvalue().splitlines() == [said] * bool(said)


def test_a_lasting_stream_is_its_stream(tmp_path):
    with (tmp_path / "words").open("w", encoding="utf-8") as stream:
        lasting = Lasting(stream)
        lasting.write("a result")
        lasting.flush()
        assert (lasting.encoding, lasting.isatty(), lasting.fileno()) == ("utf-8", False, stream.fileno())
    assert (tmp_path / "words").read_text() == "a result"


def tffjax(redirection: str, *arguments: str) -> subprocess.CompletedProcess:
    """The command with a redirection of the shell; its code is printed on standard error last."""
    words = " ".join([sys.executable, "-m", "tffjax", *arguments])
    shell = ["bash", "-c", f"({words}; echo code $? >&2) {redirection}"]
    return subprocess.run(shell, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.extended
@pytest.mark.parametrize("redirection", [">&-", "| true", "| head -c 1"])
def test_the_command_ends_well_without_standard_output(redirection):
    ended = tffjax(redirection, "--help")
    assert ended.stderr.strip() == "code 0"


@pytest.mark.extended
def test_the_code_of_bad_input_needs_no_standard_error():
    words = f"{sys.executable} -m tffjax predict 2>&-; echo code $?"
    ended = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout.strip() == "code 2"

"""The command line in this process, and small image folders for it."""

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tffjax.cli.main import main


class Ended(NamedTuple):
    """How a run of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on standard error: why it failed."""
        return self.err.splitlines()[-1]


class Stream(io.StringIO):
    """Stands in for standard output and error; the names are what a text stream has beyond a string buffer."""

    name = "<captured>"
    mode = "w"


def tffjax_command(*arguments) -> Ended:
    """Run the command line in this process."""
    out, err = Stream(), Stream()
    with (
        mock.patch.object(sys, "argv", ["tffjax", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def refused(*arguments) -> str:
    """The one line with which a run that must end with 2 ends."""
    ended = tffjax_command(*arguments)
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.last.startswith("tffjax: error: ")
    return ended.last


def done(*arguments) -> Ended:
    """A run that must end well."""
    ended = tffjax_command(*arguments)
    assert ended.code == 0, ended.err
    return ended


def save_image(path: Path, seed: int, side: int = 64) -> Path:
    """A small PNG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path

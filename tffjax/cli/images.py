"""Options of commands that read images."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from tffjax.cli.numbers import BATCH_SIZE, SIDE, THREADS
from tffjax.data.preprocessing import Resize


class _Size(click.ParamType):
    """A number of pixels, or HEIGHTxWIDTH."""

    name = "PIXELS|HxW"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Resize:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", value)
        if not match:
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH, such as 256 or 256x256")
        sides = [int(side) for side in match.groups() if side]
        if max(sides) > SIDE.max:
            self.fail(f"{value!r} is more than {SIDE.max} pixels", parameter, context)
        return (sides[0], sides[1]) if match[2] else sides[0]


labels_option = click.option(
    "--labels",
    metavar="real=NAME,fake=NAME",
    help="Names of the folders of the labels, such as real=nature,fake=ai. [default: real=0_real,fake=1_fake]",
)
workers_option = click.option(
    "--workers", type=THREADS, help="Images read at a time. [default: one a core, at most 16]"
)
_SIZE_OPTIONS = (
    click.option(
        "--resize",
        type=_Size(),
        help="Resize the shorter side to this many pixels, or every image to a height and width, its ratio not kept.",
    ),
    click.option("--crop", type=SIDE, help="Crop a square of this size from the center."),
)
_BATCH_OPTIONS = (
    click.option("--batch-size", type=BATCH_SIZE, help="Images a pass. [default: 16 on a CPU, else 128]"),
    click.option(
        "--max-shapes",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Refuse more different image sizes than this; each needs a compile.",
    ),
    click.option("--strict", is_flag=True, help="Fail if an image is unreadable, instead of skipping it."),
    labels_option,
    workers_option,
)


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--resize and --crop."""
    return _apply(_SIZE_OPTIONS, command)


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that go through any number of images."""
    return _apply((*_SIZE_OPTIONS, *_BATCH_OPTIONS), command)


def _apply(options: Sequence[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command

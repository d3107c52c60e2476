"""Options of commands that read images."""

from collections.abc import Callable, Sequence
from typing import Any

import click

labels_option = click.option(
    "--labels",
    metavar="real=NAME,fake=NAME",
    help="Names of the folders of the labels, such as real=nature,fake=ai. [default: real=0_real,fake=1_fake]",
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Images read at a time. [default: one a core, at most 16]"
)
_SIZE_OPTIONS = (
    click.option("--resize", type=click.IntRange(min=1), help="Resize the shorter side to this many pixels."),
    click.option("--crop", type=click.IntRange(min=1), help="Crop a square of this size from the center."),
)
_BATCH_OPTIONS = (
    click.option("--batch-size", type=click.IntRange(min=1), help="Images a pass. [default: 16 on a CPU, else 128]"),
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

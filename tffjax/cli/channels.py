"""Options that say which channels of a ranking are meant, the same for all commands that take one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tffjax.errors import InputError
from tffjax.studies.rankings import parse_key, read_keys


class Keys(click.ParamType):
    """Channel keys with commas between them, or a file of keys; gives the keys."""

    name = "key,key,..."

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> list[str]:
        """The keys."""
        if not isinstance(value, str):
            return value
        is_file = os.path.isfile(value)  # noqa: PTH113  Path's raises an error where many keys are too long for a name
        try:
            channels = read_keys(Path(value)) if is_file else map(parse_key, value.split(","))
            return [channel.key for channel in channels]
        except InputError as error:
            self.fail(str(error) if is_file else f"{error}; and there is no file {value}")


_CHOICE = (
    click.option(
        "--keys", type=Keys(), help="These channels only, in this order, in quotes; or a file with a key a line."
    ),
    click.option(
        "--where",
        metavar="[not-]color-conditional[:GENERATOR]",
        help="Only channels that --color found to respond to grayscale on all its generators (or not: on none), or on "
        "this one.",
    ),
    click.option("--color", type=click.Path(path_type=Path), help="Run of tffjax color, for --where."),
)
_RANKING = click.option(
    "--ranking", type=click.Path(path_type=Path), help="Ranking, such as ranking_fake.csv of tffjax rank."
)

k_option = click.option(
    "--k",
    type=click.IntRange(min=1),
    help="How many channels. [default: 114; EfficientNet-B0: 27; with --keys or --where: all]",
)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--keys, --where and --color."""
    for option in reversed(_CHOICE):
        command = option(command)
    return command


def ranking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--ranking, --keys, --where and --color."""
    return _RANKING(choice_options(command))

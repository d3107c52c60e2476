"""The correct class of every image, for networks with several outputs: what their data say, or a table."""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.nn.class_names import output_of

FROM_DATA = "label"
"""Stands for the classes that the data say."""


def classes_of(files: Sequence[ImageFile], card: Card) -> Int[np.ndarray, " n"]:
    """The output that the data say of every image: its class, or else the name of the folder that it lies in.

    The class is that of `<generator>/<class>/0_real`, a list's column `category`, or TFDS's feature of that name. It is
    the index of an output or, where the card knows names (`tffjax convert --class-names`), a name or a synonym in one.

    Raises:
        InputError: no output, or several, for an image.
    """
    known = functools.cache(functools.partial(output_of, names=card.class_names, count=card.num_outputs))
    said = [file.category or file.path.parent.name for file in files]
    for file, text in zip(files, said, strict=True):
        if known(text) is None:
            names = "" if card.class_names else "; names need tffjax convert --class-names"
            raise InputError(
                f"{file.path}: {text or 'no folder'!r} is not one class of this network, whose {card.num_outputs} "
                f"outputs count from 0; say the class in a list's column category, or by the folder{names}"
            )
    return np.array([known(text) for text in said], np.int64)


def classes_in(path: Path, names: Sequence[str], card: Card) -> Int[np.ndarray, " n"]:
    """The output that a CSV with the columns path and class says of every image, by its name or that of its file.

    Raises:
        InputError: no such table, or no output in it for an image.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = {row["path"]: int(row["class"]) for row in csv.DictReader(stream)}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, UnicodeDecodeError):
        raise InputError(f"{path}: not a CSV with the columns path and class (a whole number)") from None
    found = [table.get(name, table.get(Path(name).name, -1)) for name in names]
    for name, output in zip(names, found, strict=True):
        if not 0 <= output < card.num_outputs:
            raise InputError(f"{path}: no class from 0 to {card.num_outputs - 1} for {name}")
    return np.array(found)

"""Networks with several outputs: the correct class of every image, and what becomes of it (the paper, supplement G)."""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.files import regular
from tffjax.nn.card import Card
from tffjax.nn.class_names import output_of
from tffjax.studies.predictions import class_probability

FROM_DATA = "label"
"""Stands for the classes that the data say."""

OWN_TOP = "the network's own top-1 on the original images, without --classes"


def correct_classes(
    card: Card, given: str | None, files: Sequence[ImageFile], names: Sequence[str]
) -> Int[np.ndarray, " n"] | None:
    """The correct output of every image by the option --classes; None where it is not given.

    Raises:
        InputError: as `classes_of` and `classes_in`; or the network has one output.
    """
    if given is None:
        return None
    if card.num_outputs == 1:
        raise InputError("--classes is for networks with several outputs; a detector's labels are in its folders")
    return classes_of(files, card) if given == FROM_DATA else classes_in(Path(given), names, card)


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
        with open(path, newline="", encoding="utf-8", opener=regular) as stream:
            table = {row["path"]: int(row["class"]) for row in csv.DictReader(stream)}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error):
        raise InputError(f"{path}: not a CSV with the columns path and class (a whole number)") from None
    found = [table.get(name, table.get(Path(name).name, -1)) for name in names]
    for name, output in zip(names, found, strict=True):
        if not 0 <= output < card.num_outputs:
            raise InputError(f"{path}: no class from 0 to {card.num_outputs - 1} for {name}")
    return np.array(found)


def class_table(
    card: Card,
    what: str,
    variants: Sequence[str],
    logits: Float[np.ndarray, "v n outputs"],
    classes: Int[np.ndarray, " n"] | None,
) -> pa.Table:
    """What becomes of the correct class under some variants, of the images or of the network: one row a variant.

    Columns: the variant, named `what`; `num`; `median_probability` of the correct class, its `drop` from the first
    variant, and `accuracy`, the share of images whose largest logit is the correct one, all from 0 to 1, as metrics
    are; `network`, which graph and normalization that is. Without `classes`, the network's own top-1 under the first
    variant stands for the correct class, and `agreement` for the `accuracy`: how many images keep it. Of variants of
    the same name, probabilities and accuracies are averaged.
    """
    share = "agreement" if classes is None else "accuracy"
    classes = logits[0].argmax(axis=1) if classes is None else classes
    probability, correct = class_probability(logits, classes), logits.argmax(axis=2) == classes
    names = list(dict.fromkeys(variants))
    rows = [[index for index, variant in enumerate(variants) if variant == name] for name in names]
    medians = np.array([np.median(probability[some].mean(axis=0)) for some in rows])
    return pa.table(
        {
            what: names,
            "num": np.full(len(names), len(classes)),
            "median_probability": medians,
            "drop": medians[0] - medians,
            share: np.array([correct[some].mean() for some in rows]),
            "network": [card.network] * len(names),
        }
    )


def class_formats(table: pa.Table) -> dict[str, str]:
    """Columns of a `class_table` as a person reads them, but for the network."""
    what, num, *percent, _ = table.column_names
    return {what: "", num: "d", **dict.fromkeys(percent, ".1%")}

"""Tables of what a network says about images: logits, scores, probabilities, and metrics of each generator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from jaxtyping import Float, Int
from scipy.special import expit, softmax

from tffjax.data import ImageFile
from tffjax.data.labels import label_numbers, label_word
from tffjax.errors import InputError
from tffjax.files import utf8
from tffjax.nn.card import Card
from tffjax.results.detection import Scored
from tffjax.results.metrics import measure
from tffjax.results.tables import has_table, read_table


def prediction_table(card: Card, files: Sequence[ImageFile], logits: Float[np.ndarray, "n outputs"]) -> pa.Table:
    """One row an image: where it comes from and what the network says.

    With one output: its `logit`, `score`, the logit that the image is fake, and the `probability` of that. With more:
    `output`, the index of the largest logit, its `class` where the card has names, its `logit` and softmax
    `probability`. Labels are `real`, `fake` or null.
    """
    columns = {
        "path": [utf8(str(file.path)) for file in files],
        "generator": [file.generator for file in files],
        "category": [file.category for file in files],
        "label": pa.array([label_word(file.label) for file in files], pa.string()),
    }
    if card.num_outputs == 1:
        columns["logit"] = logits[:, 0]
        columns["score"] = fake_score(logits[:, 0], card)
        columns["probability"] = fake_probability(logits[:, 0], card)
    else:
        top = logits.argmax(axis=1)
        rows = np.arange(len(top))
        columns["output"] = top
        if card.class_names:
            columns["class"] = card.names_of(top)
        columns["logit"] = logits[rows, top]
        columns["probability"] = class_probability(logits, top)
    return pa.table(columns)


def fake_score(logit: Float[np.ndarray, "*n"], card: Card) -> Float[np.ndarray, "*n"]:
    """The logit that an image is fake, in float64: the network's, turned round if its high logits mean real."""
    return logit.astype(np.float64) * (1 if card.high_means == "fake" else -1)


def fake_probability(logit: Float[np.ndarray, "*n"], card: Card) -> Float[np.ndarray, "*n"]:
    """Probability of being fake, in float64: sigmoid(logit), or sigmoid(-logit) if a high logit means real."""
    return expit(fake_score(logit, card))


def class_probability(
    logits: Float[np.ndarray, "*variants n outputs"], classes: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "*variants n"]:
    """Softmax probability of one output of each image, in float64."""
    return softmax(logits.astype(np.float64), axis=-1)[..., np.arange(len(classes)), classes]


IMAGENET_CLASSES = 1000


def kind_of(card: Card) -> str:
    """What a network is, in a word or two."""
    if card.num_outputs == 1:
        return "detector"
    return "ImageNet network" if card.num_outputs == IMAGENET_CLASSES else "classifier"


def decision(card: Card, logits: Float[np.ndarray, " outputs"], output: int | None = None) -> str:
    """What a network says of an image, as far as it is explained: its probability that it is fake, or of an output."""
    if card.num_outputs == 1:
        return f"p(fake) = {fake_probability(logits, card)[0]:.3f}"
    index = int(logits.argmax()) if output is None else output
    probability = class_probability(logits[None], np.array([index]))[0]
    name = card.class_names[index] if card.class_names else card.output_text(index)
    return f"{name}, p = {probability:.3f}"


def scored(table: pa.Table) -> Scored:
    """Generators and labels of a table with an image a row."""
    generator = np.array(table["generator"].to_pylist(), dtype=object)
    return Scored(generator, label_numbers(table["label"].to_pylist()))


def read_predictions(path: Path) -> pa.Table:
    """A table of `prediction_table`: the Parquet file of that name, in full precision, or else the CSV file.

    Raises:
        InputError: there is none.
    """
    if has_table(path.with_suffix("")):
        return read_table(path.with_suffix(""))
    try:
        nulls = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
        return pyarrow.csv.read_csv(path, convert_options=nulls)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if path.is_file() else "no such file"
        raise InputError(f"{path}: cannot be read as predictions ({reason})") from None


def threshold_from(path: Path) -> float:
    """The calibrated threshold (`tffjax.results.metrics.Metrics`) of other predictions, over all their labeled images.

    Args:
        path: predictions.csv of `tffjax predict`, or a table with the columns label (real, fake) and score. The Parquet
            file of the same name beside it, in full precision, is read in its place.

    Raises:
        InputError: there is no such table, or it lacks a column, a label or real or fake images.
    """
    table = read_predictions(path)
    try:
        label = label_numbers(table["label"].to_pylist())
        score = np.array(table["score"].to_pylist(), np.float64)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: not predictions of a detector; expected the columns label (real or fake) and score (the logit "
            "that the image is fake)"
        ) from None
    if not {0, 1} <= set(label.tolist()):
        raise InputError(f"{path}: holds no labeled real and fake images, from which to take a threshold")
    return measure(score[label >= 0], label[label >= 0]).threshold

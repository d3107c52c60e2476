"""What a network says about images: logits, probabilities, and per-generator metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Array, Float
from scipy.special import expit, softmax

from tffjax.card import Card
from tffjax.compilation import in_micro_batches
from tffjax.data import ImageFile
from tffjax.metrics import score
from tffjax.models import Model
from tffjax.passes import Pass, micro_batch_of


def forward(model: Model, images: Float[Array, "n h w c"], micro_batch: int | None = None) -> Float[Array, "n outputs"]:
    """Logits of a batch, `micro_batch` images at a time; by default as `tffjax.passes.micro_batch_of` says."""
    return in_micro_batches(model, images, micro_batch or micro_batch_of(model, images))


def logits_of(model: Model, images: Float[Any, "n h w c"]) -> Float[Array, "n outputs"]:
    """`forward`, compiled once for each shape; the images are on one device or spread over several."""
    return _forward(model, images, micro_batch=micro_batch_of(model, images))


_forward = Pass(forward, static_argnames=("micro_batch",))


def prediction_table(card: Card, files: Sequence[ImageFile], logits: Float[np.ndarray, "n outputs"]) -> pa.Table:
    """One row an image: where it comes from and what the network says.

    With one output: `logit` and `probability` of being fake, sigmoid of the logit, or one minus that where the card
    says that a high logit means real. With more: `output`, the index of the largest logit, its `logit` and softmax
    `probability`. Labels are `real`, `fake` or null.
    """
    columns = {
        "path": [str(file.path) for file in files],
        "generator": [file.generator for file in files],
        "category": [file.category for file in files],
        "label": pa.array(
            [None if file.label is None else ("real", "fake")[file.label] for file in files], pa.string()
        ),
    }
    if card.num_outputs == 1:
        columns["logit"] = logits[:, 0]
        columns["probability"] = fake_probability(logits[:, 0], card)
    else:
        top = logits.argmax(axis=1)
        rows = np.arange(len(top))
        columns |= {"output": top, "logit": logits[rows, top]}
        columns["probability"] = softmax(logits.astype(np.float64), axis=1)[rows, top]
    return pa.table(columns)


def fake_probability(logit: Float[np.ndarray, " n"], card: Card) -> Float[np.ndarray, " n"]:
    """Probability of being fake, in float64: sigmoid(logit), or sigmoid(-logit) if a high logit means real."""
    return expit(logit.astype(np.float64) * (1 if card.high_means == "fake" else -1))


def metrics_table(predictions: pa.Table) -> pa.Table:
    """AP and accuracies (`tffjax.metrics`) per generator, then over all images; labeled images only.

    Each row has its own calibrated threshold.
    """
    labeled = predictions.filter(pyarrow.compute.is_valid(predictions["label"]))
    generator = np.array(labeled["generator"].to_pylist(), dtype=object)
    label = np.array([int(name == "fake") for name in labeled["label"].to_pylist()])
    probability = labeled["probability"].to_numpy()
    names = list(dict.fromkeys(generator))
    groups = [(name, generator == name) for name in names]
    if len(names) > 1:
        groups.append(("all", np.ones(len(label), bool)))
    rows = [{"generator": name, **vars(score(probability[members], label[members]))} for name, members in groups]
    return pa.Table.from_pylist(rows)

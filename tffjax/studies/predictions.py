"""Tables of what a network says about images: logits, probabilities, and metrics of each generator."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Float
from scipy.special import expit, softmax

from tffjax.data import ImageFile
from tffjax.nn.card import Card
from tffjax.results.metrics import score


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
    """AP and accuracies (`tffjax.results.metrics`) per generator, then over all images; labeled images only.

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

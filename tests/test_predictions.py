"""From logits to tables: probabilities of being fake, largest outputs, metrics per generator."""

import math
from pathlib import Path

import cases
import numpy as np
import pytest

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.results.detection import metrics_table
from tffjax.results.tables import write_table
from tffjax.studies.predictions import fake_probability, fake_score, prediction_table, scored, threshold_from

LOGITS = np.float32([0, math.log(3), -math.log(3)])


def test_probability_is_the_sigmoid_of_the_logit():
    probability = fake_probability(LOGITS, cases.RESNET50.card())
    assert probability.dtype == np.float64
    np.testing.assert_allclose(probability, [1 / 2, 3 / 4, 1 / 4], rtol=1e-7)  # the logits are float32


def test_probability_is_turned_round_where_a_high_logit_means_real():
    card = cases.RESNET50.card(high_means="real")
    np.testing.assert_allclose(fake_probability(LOGITS, card), [1 / 2, 1 / 4, 3 / 4], rtol=1e-7)


@pytest.mark.parametrize(("high_means", "logits"), [("fake", [-50, -40, 0]), ("real", [50, 40, 0])])
def test_small_probabilities_keep_their_order(high_means, logits):
    # 1 - sigmoid(40) would be exactly 0
    low, higher, half = fake_probability(np.float32(logits), cases.RESNET50.card(high_means=high_means))
    assert 0 < low < higher < half == 1 / 2


def test_table_of_a_detector():
    files = [
        ImageFile(Path("a/0_real/x.png"), 0, "a"),
        ImageFile(Path("b/cat/1_fake/y.png"), 1, "b", "cat"),
        ImageFile(Path("z.png")),
    ]
    rows = prediction_table(cases.B0_SAME.card(), files, LOGITS[:, None]).to_pylist()
    assert [row["path"] for row in rows] == ["a/0_real/x.png", "b/cat/1_fake/y.png", "z.png"]
    assert [(row["generator"], row["category"], row["label"]) for row in rows] == [
        ("a", "", "real"),
        ("b", "cat", "fake"),
        ("", "", None),
    ]
    assert [row["logit"] for row in rows] == [row["score"] for row in rows] == LOGITS.tolist()
    assert [row["probability"] for row in rows] == pytest.approx([1 / 2, 3 / 4, 1 / 4])


def test_table_of_a_classifier():
    logits = np.log(np.float32([[1, 2, 5], [6, 1, 1]]))  # softmax: the numbers divided by 8
    table = prediction_table(cases.RESNET50.card(3), [ImageFile(Path("a")), ImageFile(Path("b"))], logits)
    assert table["output"].to_pylist() == [2, 0]
    assert table["logit"].to_pylist() == [logits[0, 2], logits[1, 0]]
    assert table["probability"].to_pylist() == pytest.approx([5 / 8, 6 / 8])


def metrics_of(*rows: tuple[str, int | None, float]) -> list[dict]:
    files = [ImageFile(Path("x"), label, generator) for generator, label, _ in rows]
    logits = np.float32([[logit] for *_, logit in rows])
    table = prediction_table(cases.B0_SAME.card(), files, logits)
    return metrics_table(scored(table), {"": table["score"].to_numpy()}).to_pylist()


def test_metrics_per_generator_then_over_all():
    rows = metrics_of(("b", 0, -1), ("b", 1, 1), ("a", 0, 2), ("a", 1, 3), ("b", 1, -2))
    assert [row["generator"] for row in rows] == ["b", "a", "all"]
    b, a, everything = rows
    assert (b["num_real"], b["num_fake"]) == (1, 2)
    assert (b["real"], b["fake"]) == (1, 1 / 2)
    assert (a["ap"], a["real"], a["fake"]) == (1, 0, 1)
    assert (a["real_calibrated"], a["fake_calibrated"]) == (1, 1)
    assert a["threshold"] == 3
    assert (everything["num_real"], everything["num_fake"]) == (2, 3)
    # from high to low: fake, real, fake, real, fake
    assert everything["ap"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_one_generator_has_no_row_for_all():
    assert [row["generator"] for row in metrics_of(("a", 0, -1), ("a", 1, 1))] == ["a"]


def test_a_generator_with_one_label_has_its_accuracy_only():
    fakes, _, everything = metrics_of(("a", 1, 1), ("b", 0, -1), ("a", 1, -1))
    assert fakes["fake"] == 1 / 2
    assert math.isnan(fakes["ap"])
    assert math.isnan(fakes["threshold"])
    assert fakes["num_real"] == 0
    assert not math.isnan(everything["ap"])


def test_images_without_label_do_not_count():
    (row,) = metrics_of(("a", 0, -1), ("a", 1, 1), ("", None, 5))
    assert (row["num_real"], row["num_fake"]) == (1, 1)


def test_a_score_is_turned_round_where_a_high_logit_means_real():
    card = cases.RESNET50.card(high_means="real")
    assert fake_score(np.float32([50, -60]), card).tolist() == [-50, 60]


def predictions(*rows: tuple[int | None, float]):
    files = [ImageFile(Path("x"), label, "g") for label, _ in rows]
    return prediction_table(cases.B0_SAME.card(), files, np.float32([[logit] for _, logit in rows]))


def test_a_threshold_from_other_predictions_is_that_of_the_full_precision(tmp_path):
    write_table(predictions((0, 0.5), (1, 1.000001), (None, 99.0)), tmp_path / "predictions")
    for path in (tmp_path / "predictions.csv", tmp_path / "predictions.parquet"):
        assert threshold_from(path) == np.float32(1.000001)
    (tmp_path / "predictions.parquet").unlink()
    assert threshold_from(tmp_path / "predictions.csv") == 1.0  # a table of somebody else


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("a,b\n1,2\n", "expected the columns label"),
        ("label,score\nfake,1\n", "no labeled real and fake"),
        ("label,score\nyes,1\n", "expected the columns label"),
    ],
)
def test_what_is_no_threshold(text, message, tmp_path):
    if text:
        (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        threshold_from(tmp_path / "p.csv")

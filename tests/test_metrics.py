"""Detection metrics against figures worked by hand and against scikit-learn."""

import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as sklearn

from tffjax.results.detection import Scored, interval_table, metrics_table, threshold_hint
from tffjax.results.generators import ALL, by_generator, fixed_threshold, in_order, names_of, plain_name, shown_name
from tffjax.results.metrics import measure


def arrays(*pairs: tuple[float, int]) -> tuple[np.ndarray, np.ndarray]:
    score, label = zip(*pairs, strict=True)
    return np.array(score, float), np.array(label)


# From high to low: fake, real, fake, fake, real. Precision and recall at the fakes: 1 and 1/3, 2/3 and 2/3, 3/4 and 1.
MIXED = arrays((4, 1), (3, 0), (2, 1), (-2, 1), (-3, 0))


def test_all_figures_by_hand():
    found = measure(*MIXED)
    assert found.ap == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found.auc == pytest.approx(4 / 6)  # pairs in the right order: 2 + 1 + 1
    assert (found.accuracy, found.real, found.fake) == (3 / 5, 1 / 2, 2 / 3)
    # tpr (1 - fpr) at each: 1/3, 1/6, 1/3, 1/2, 0: the fourth is the largest
    assert found.threshold == -2
    assert (found.accuracy_calibrated, found.real_calibrated, found.fake_calibrated) == (4 / 5, 1 / 2, 1)
    # right of 5: nothing 2; then 3, 2, 3, 4, 3
    assert (found.threshold_best, found.accuracy_best, found.real_best, found.fake_best) == (-2, 4 / 5, 1 / 2, 1)
    assert found.tpr_at_1_fpr == found.tpr_at_5_fpr == 1 / 3
    # from (fpr, tpr) = (1/2, 1/3) up to (1/2, 2/3): 1 - tpr is 1/2 between
    assert found.eer == 1 / 2
    assert (found.num_real, found.num_fake) == (2, 3)


def test_the_highest_threshold_wins_a_tie():
    # tpr (1 - fpr): 1/2, 1/4, 1/2, 0
    assert measure(*arrays((3, 1), (1, 0), (-1, 1), (-3, 0))).threshold == 3


def test_equal_scores_are_one_threshold():
    found = measure(*arrays((1, 1), (1, 0), (-1, 1), (-1, 0)))
    assert (found.ap, found.auc, found.threshold, found.eer) == (1 / 2, 1 / 2, 1, 1 / 2)


def test_one_half_is_not_fake_at_one_half():
    found = measure(*arrays((0, 1), (0, 0)))
    assert (found.real, found.fake) == (1, 0)


def test_a_detector_that_is_always_wrong_calls_nothing_fake_and_has_a_finite_threshold():
    found = measure(*arrays((2, 0), (-2, 1)))
    assert 2 < found.threshold < 2 + 1e-9
    assert (found.real_calibrated, found.fake_calibrated) == (1, 0)
    assert found.eer == 1


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone(label):
    found = measure(*arrays((2, label), (-2, label)))
    known = {"accuracy", ("real", "fake")[label], "num_real", "num_fake"}
    assert {name for name, value in vars(found).items() if not np.isnan(value)} == known
    assert found.accuracy == (found.real, found.fake)[label] == 1 / 2


def test_no_images():
    found = vars(measure(np.zeros(0), np.zeros(0, int)))
    assert (found.pop("num_real"), found.pop("num_fake")) == (0, 0)
    assert np.isnan(list(found.values())).all()


def test_a_given_threshold_is_used_even_with_one_label():
    found = measure(*arrays((2, 1), (-2, 1), (-1, 1)), threshold=-1.0)
    assert (found.threshold, found.fake_calibrated, found.accuracy_calibrated) == (-1, 2 / 3, 2 / 3)
    assert np.isnan(found.real_calibrated)
    assert np.isnan(measure(*MIXED, threshold=np.nan).fake_calibrated)


SCORES = {
    "random": st.floats(-30, 30, width=32),
    "tied": st.integers(-2, 2).map(float),
    "saturated": st.floats(30, 90, width=32),  # whose probabilities are all 1, or nearly
}


@pytest.mark.extended
@pytest.mark.parametrize("kind", SCORES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_figures_are_scikit_learns(kind, data):
    rows = data.draw(st.lists(st.tuples(SCORES[kind], st.integers(0, 1)), min_size=2, max_size=40))
    score, label = arrays(*rows)
    assume(0 < label.sum() < len(label))
    found = measure(score, label)
    assert found.ap == pytest.approx(sklearn.average_precision_score(label, score), abs=1e-12)
    assert found.ap == pytest.approx(oracles.average_precision(score, label))
    assert found.auc == pytest.approx(sklearn.roc_auc_score(label, score), abs=1e-12)
    at = {
        "": score > 0,
        "_calibrated": score >= found.threshold,
        "_best": score >= found.threshold_best,
    }
    for suffix, called in at.items():
        ours = [getattr(found, name + suffix) for name in ("accuracy", "real", "fake")]
        recalls = sklearn.recall_score(label, called, average=None, labels=[0, 1])
        assert ours == pytest.approx([sklearn.accuracy_score(label, called), *recalls])
    fpr, tpr, thresholds = sklearn.roc_curve(label, score, drop_intermediate=False)
    finite = np.where(np.isinf(thresholds), np.nextafter(score.max(), np.inf), thresholds)
    balance = tpr * (1 - fpr)
    assert found.threshold == finite[np.flatnonzero(balance >= balance.max() - 1e-12)[0]]
    assert found.accuracy_best == pytest.approx(max(sklearn.accuracy_score(label, score >= cut) for cut in finite))
    for percent in (1, 5):
        assert getattr(found, f"tpr_at_{percent}_fpr") == pytest.approx(tpr[fpr <= percent / 100 + 1e-12].max())
    # the equal error rate lies on the curve, and on the diagonal from (0, 1) to (1, 0)
    below, above = tpr[fpr <= found.eer + 1e-12].max(), tpr[fpr >= found.eer - 1e-12].min()
    inside = np.interp(found.eer, fpr, tpr)
    assert min(above, inside) - 1e-9 <= 1 - found.eer <= max(below, inside) + 1e-9


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-30, 30), st.integers(0, 1)), min_size=1, max_size=20), st.integers(0, 1))
def test_one_label_is_scikit_learns_where_it_has_a_value(rows, only):
    score, label = arrays(*((value, only) for value, _ in rows))
    found = measure(score, label)
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(label, score > 0))
    assert np.isnan([found.auc, found.ap, found.threshold]).all()


def test_large_logits_keep_their_rank():
    """Their probabilities are all exactly 1.0 in float64, so that the AP of the probabilities is that of a coin."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 50)
    logits = np.concatenate([rng.normal(50, 2, 50), rng.normal(70, 2, 50)])
    assert sklearn.average_precision_score(label, expit(logits)) == 0.5
    found = measure(logits, label)
    assert (found.ap, found.auc, found.accuracy_calibrated, found.eer) == (1, 1, 1, 0)
    assert 50 < found.threshold < 70


# The table


def images(*rows: tuple[str, int, float]) -> tuple[Scored, np.ndarray]:
    generator, label, score = zip(*rows, strict=True)
    return Scored(np.array(generator, dtype=object), np.array(label)), np.array(score, float)


TWO = images(("b", 0, -1), ("b", 1, 1), ("ProGAN", 0, 2), ("ProGAN", 1, 3), ("b", 1, -2), ("c", -1, 9))


def test_groups_are_the_generators_as_they_come_and_then_all():
    groups = by_generator(TWO[0].generator, TWO[0].label >= 0)
    assert {name: members.sum() for name, members in groups.items()} == {"b": 3, "ProGAN": 2, ALL: 5}
    assert list(by_generator(np.array(["a", "a"]))) == ["a"]
    assert names_of(np.array(["b", "a", "b"])) == ["b", "a"]


def test_the_threshold_of_progan_is_one_half():
    for name in ("progan", "ProGAN", "Pro-GAN"):
        assert fixed_threshold(name) == 0
    assert fixed_threshold("stylegan2") is None
    assert plain_name("SPADE") == plain_name("GauGAN") == "gaugan"


def test_a_row_for_each_variant_and_group_at_the_baselines_threshold():
    of, score = TWO
    rows = metrics_table(of, {"baseline": score, "turned": -score}, "setting").to_pylist()
    assert [(row["setting"], row["generator"]) for row in rows] == [
        (setting, name) for setting in ("baseline", "turned") for name in ("b", "ProGAN", ALL)
    ]
    assert [row["threshold"] for row in rows] == [1, 0, 3] * 2
    given = metrics_table(of, {"": score}, threshold=2.5).to_pylist()
    assert [row["threshold"] for row in given] == [2.5] * 3
    assert list(given[0])[:3] == ["generator", "ap", "auc"]


def many(n: int = 400) -> tuple[Scored, np.ndarray]:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, n)
    return Scored(np.array(["a", "b"] * (n // 2), dtype=object), label), rng.normal(label, 1.0)


def test_intervals_hold_their_estimates_and_are_seeded():
    of, score = many()
    table = interval_table(of, score)
    assert table.equals(interval_table(of, score))
    assert not table.equals(interval_table(of, score, seed=1))
    rows = {(row["generator"], row["metric"]): row for row in table.to_pylist()}
    points = {row["generator"]: row for row in metrics_table(of, {"": score}).to_pylist()}
    for (name, metric), row in rows.items():
        assert row["estimate"] == points[name][metric]
        assert 0 <= row["low"] <= row["high"] <= 1
        if metric not in ("accuracy_best", "tpr_at_1_fpr", "tpr_at_5_fpr"):  # maxima, which resampling raises
            assert row["low"] <= row["estimate"] <= row["high"]
    assert {name for name, _ in rows} == {"a", "b", ALL}
    wide, narrow = (rows[name, "ap"]["high"] - rows[name, "ap"]["low"] for name in ("a", ALL))
    assert narrow < wide


def test_an_interval_is_that_of_images_drawn_one_by_one():
    """The same percentiles from resampled images, half of a standard error apart at most."""
    of, score = many()
    (row,) = [row for row in interval_table(of, score).to_pylist() if (row["generator"], row["metric"]) == (ALL, "auc")]
    rng, drawn = np.random.default_rng(2), []
    for _ in range(500):
        picked = np.concatenate([rng.choice(np.flatnonzero(of.label == y), (of.label == y).sum()) for y in (0, 1)])
        drawn.append(sklearn.roc_auc_score(of.label[picked], score[picked]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.5 * float(np.std(drawn)))


def test_one_label_has_no_interval_of_what_needs_both():
    of, score = images(("a", 1, 1.0), ("a", 1, -1.0))
    rows = {row["metric"]: row for row in interval_table(of, score, replicates=20).to_pylist()}
    assert np.isnan([rows["ap"][name] for name in ("estimate", "low", "high")]).all()
    assert (rows["fake"]["low"], rows["fake"]["high"]) == (0, 1)


def test_a_wrong_threshold_is_said():
    of, score = many()
    shifted = metrics_table(of, {"": np.where(of.label == 1, 9.0, 5.0)})
    hint = threshold_hint(shifted)
    assert hint.startswith("0.5 is the wrong threshold for a (AP 1.000, accuracy ")
    assert hint.count("at logit 9.00") == 3
    assert "--threshold-from" in hint
    assert threshold_hint(metrics_table(of, {"": score})) is None


def test_generators_are_shown_as_in_the_paper():
    names = ["crn", "stylegan", "all", "GauGAN", "progan", "style-gan2", "", "crn"]
    assert in_order(names) == ["progan", "style-gan2", "stylegan", "GauGAN", "crn", "", "all"]
    assert [shown_name(name) for name in names[:2]] == ["crn", "StyleGAN"]
    assert [shown_name(name) for name in ("style-gan2", "")] == ["StyleGAN2", "all images"]

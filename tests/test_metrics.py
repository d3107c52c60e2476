"""Detection metrics against figures worked by hand."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tffjax.results.metrics import calibrated_threshold, score


def arrays(*pairs: tuple[float, int]) -> tuple[np.ndarray, np.ndarray]:
    probability, label = zip(*pairs, strict=True)
    return np.array(probability), np.array(label)


# From high to low: fake, real, fake, fake, real. Precision and recall at the fakes: 1 and 1/3, 2/3 and 2/3, 3/4 and 1.
MIXED = arrays((0.9, 1), (0.8, 0), (0.7, 1), (0.3, 1), (0.2, 0))


def test_average_precision_by_hand():
    assert score(*MIXED).ap == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_calibrated_threshold_by_hand():
    # tpr and fpr at each threshold: .9: 1/3, 0; .8: 1/3, 1/2; .7: 2/3, 1/2; .3: 1, 1/2; .2: 1, 1.
    # tpr * (1 - fpr): 1/3, 1/6, 1/3, 1/2, 0: the fourth is the largest
    assert calibrated_threshold(*MIXED) == 0.3


def test_all_figures_by_hand():
    metrics = score(*MIXED)
    assert metrics.real == 1 / 2  # 0.2 is below 0.5, 0.8 is not
    assert metrics.fake == 2 / 3  # 0.9 and 0.7 are above
    assert metrics.threshold == 0.3
    assert metrics.real_calibrated == 1 / 2  # 0.2 is below 0.3
    assert metrics.fake_calibrated == 1  # an image at the threshold counts as fake
    assert (metrics.num_real, metrics.num_fake) == (2, 3)


def test_a_perfect_detector_on_a_shifted_scale():
    metrics = score(*arrays((0.1, 0), (0.2, 0), (0.3, 1), (0.4, 1)))
    assert (metrics.ap, metrics.fake, metrics.fake_calibrated, metrics.real_calibrated) == (1, 0, 1, 1)
    assert metrics.threshold == 0.3


def test_the_highest_threshold_wins_a_tie():
    # .9: tpr 1/2, fpr 0; .6: 1/2, 1/2; .4: 1, 1/2; .1: 1, 1; products 1/2, 1/4, 1/2, 0
    assert calibrated_threshold(*arrays((0.9, 1), (0.6, 0), (0.4, 1), (0.1, 0))) == 0.9


def test_equal_probabilities_are_one_threshold():
    # called fake at .7: one fake, one real; at .2: all. Precision 1/2 for the first half of recall, 1/2 for the second
    metrics = score(*arrays((0.7, 1), (0.7, 0), (0.2, 1), (0.2, 0)))
    assert metrics.ap == pytest.approx(1 / 2)
    assert metrics.threshold == 0.7  # tpr 1/2, fpr 1/2: 1/4, against 0 for all


def test_one_half_is_not_fake_at_one_half():
    metrics = score(*arrays((0.5, 1), (0.5, 0)))
    assert (metrics.real, metrics.fake) == (1, 0)


def test_a_detector_that_is_always_wrong_calls_nothing_fake():
    # every threshold has product 0; the highest one is above all probabilities
    metrics = score(*arrays((0.9, 0), (0.1, 1)))
    assert metrics.threshold == np.inf
    assert (metrics.real_calibrated, metrics.fake_calibrated) == (1, 0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone(label):
    metrics = score(*arrays((0.9, label), (0.2, label)))
    assert np.isnan([metrics.ap, metrics.threshold, metrics.real_calibrated, metrics.fake_calibrated]).all()
    present, absent = (metrics.real, metrics.fake) if label == 0 else (metrics.fake, metrics.real)
    assert present == 1 / 2
    assert np.isnan(absent)
    assert (metrics.num_real, metrics.num_fake) == ((2, 0) if label == 0 else (0, 2))


def test_no_images():
    metrics = score(np.zeros(0), np.zeros(0, int))
    assert np.isnan([metrics.ap, metrics.real, metrics.fake, metrics.threshold]).all()
    assert (metrics.num_real, metrics.num_fake) == (0, 0)


def test_a_given_threshold_is_used_even_with_one_label():
    metrics = score(*arrays((0.9, 1), (0.2, 1), (0.3, 1)), threshold=0.3)
    assert metrics.threshold == 0.3
    assert metrics.fake_calibrated == 2 / 3
    assert np.isnan(metrics.real_calibrated)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=12))
def test_average_precision_against_its_definition(rows):
    probability, label = arrays(*((level / 5, label) for level, label in rows))
    if 0 < label.sum() < len(label):
        assert score(probability, label).ap == pytest.approx(oracles.average_precision(probability, label))

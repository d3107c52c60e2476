"""The color study: golden activations and p-values, tests on hand-made samples, tables and figures."""

import importlib.resources
import itertools
import math

import cases
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tolerances
from scipy import stats
from scipy.special import logit
from small import noise, small_model

from tffjax.data.ablations import ORIGINAL, Ablation
from tffjax.data.preprocessing import center_crop, normalize
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.nn.card import Normalization
from tffjax.nn.resnet import ResNet50
from tffjax.nn.sites import site_outputs
from tffjax.results.detection import Scored, metrics_table
from tffjax.results.figures import save_figure
from tffjax.results.metrics import measure
from tffjax.studies.classes import class_table
from tffjax.studies.color import figures as color_figures
from tffjax.studies.color.activations import max_activations
from tffjax.studies.color.statistics import (
    channel_table,
    compare,
    density_table,
    effect_size,
    extremes,
    names_of,
    share_table,
)
from tffjax.studies.color.tables import (
    detected,
    grayscale_table,
    whisker_table,
)
from tffjax.studies.predictions import class_probability
from tffjax.studies.rankings import Channel, all_channels

# Maximal activations


def golden_variants(size, count) -> np.ndarray:
    """RGB and grayscale of the golden images, (n, 2, h, w, 3)."""
    with np.load(cases.SHARED / "golden" / "images.npz") as archive:
        pixels = [center_crop(image, size) for image in archive["u8"][:count]]
    gray = [Ablation("grayscale")(image, "") for image in pixels]
    return normalize(np.stack([pixels, gray], axis=1), Normalization())


def golden_channels(golden, model, stored) -> tuple[Channel, ...]:
    sizes = {channel.site: channel.channels for channel in all_channels(model)}
    pairs = zip(stored["layer"].tolist(), stored["channel"].tolist(), strict=True)
    return tuple(Channel(site, index, sizes[site]) for site, index in pairs)


def check_golden(golden, model, size, count, dtype, suffix, rtol):
    stored = golden.load("maxact.npz")
    images = jnp.asarray(golden_variants(size, count), dtype)
    logits, maxima = max_activations(model.astype(dtype), images, golden_channels(golden, model, stored))
    for variant, name in enumerate(("rgb", "gray")):
        np.testing.assert_allclose(maxima[:, variant], stored[f"{name}{size}_{suffix}"][:count], rtol=rtol)
    return stored, np.asarray(logits), np.asarray(maxima)


@pytest.mark.parity
def test_golden_activations_and_p_values(golden, golden_model):
    rtol = tolerances.GOLDEN_F32_MAXIMUM
    stored, logits, maxima = check_golden(golden, golden_model, 224, 4, np.float32, "f32", rtol)
    expected = golden.load("logits.npz")["orig_f64_224"]
    np.testing.assert_allclose(logits[:, 0, 0], expected, atol=tolerances.GOLDEN_F32_LOGIT_ABSOLUTE[224])
    found = [compare(before, after) for before, after in zip(maxima[:, 0].T, maxima[:, 1].T, strict=True)]
    np.testing.assert_array_equal([(test.statistic, test.p) for test in found], stored["mt4"][:, :2])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_golden_activations_at_another_size(golden, golden_model):
    check_golden(golden, golden_model, 356, 2, np.float32, "f32", tolerances.GOLDEN_F32_MAXIMUM)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_golden_activations_in_float64(golden, golden_model, x64):
    check_golden(golden, golden_model, 224, 1, np.float64, "f64", tolerances.GOLDEN_F64_MAXIMUM)


def test_golden_p_values_of_40_images(golden):
    stored = golden.load("maxact.npz")
    found = [compare(b, a) for b, a in zip(stored["mt40_rgb"].T, stored["mt40_gray"].T, strict=True)]
    np.testing.assert_array_equal([(test.statistic, test.p) for test in found], stored["mt40"][:, :2])


@pytest.fixture(scope="module")
def small():
    return small_model(jnp.float32)


@pytest.fixture(scope="module")
def small_images():
    return noise(16, count=6, dtype=jnp.float32)


def test_many_channels_at_once_are_those_of_a_loop_over_channels(small, small_images):
    channels = np.random.default_rng(1).permutation(np.array(all_channels(small), dtype=object))
    channels = tuple(Channel(*channel) for channel in channels)
    _, together = max_activations(small, small_images, channels)
    logits, outputs = site_outputs(small, small_images)
    for k, channel in enumerate(channels):
        loop = [max(image[:, :, channel.index].ravel().tolist()) for image in np.asarray(outputs[channel.site])]
        np.testing.assert_allclose(together[:, k], loop, rtol=tolerances.F32_PROGRAM, atol=1e-6)
        if k < 3:
            alone_logits, alone = max_activations(small, small_images, (channel,))
            np.testing.assert_allclose(alone[:, 0], together[:, k], rtol=tolerances.F32_PROGRAM, atol=1e-6)
            np.testing.assert_allclose(alone_logits, logits, rtol=tolerances.F32_PROGRAM, atol=1e-6)


def test_variants_and_batches_do_not_matter(small, small_images):
    channels = all_channels(small)[::3]
    batch = max_activations(small, small_images, channels)
    stacked = max_activations(small, small_images.reshape(2, 3, *small_images.shape[1:]), channels)
    single = [max_activations(small, image[None], channels) for image in small_images]
    for part in range(2):
        assert stacked[part].shape[:2] == (2, 3)
        other = np.concatenate([one[part] for one in single])
        np.testing.assert_allclose(other, batch[part], rtol=tolerances.F32_PROGRAM, atol=1e-6)
        flat = stacked[part].reshape(batch[part].shape)
        np.testing.assert_allclose(flat, batch[part], rtol=tolerances.F32_PROGRAM, atol=1e-6)


def test_another_list_of_the_same_sites_is_no_new_program(small, small_images, monkeypatch):
    site = all_channels(small)[0]
    max_activations(small, small_images, (site, site._replace(index=1)))

    def fail(*_):
        raise AssertionError("traced again")

    monkeypatch.setattr("tffjax.studies.color.activations.in_micro_batches", fail)
    first, second = (site._replace(index=index) for index in (2, 3))
    _, there = max_activations(small, small_images, (first, second))
    _, back = max_activations(small, small_images, (second, first))
    np.testing.assert_array_equal(there, back[:, ::-1])
    assert not np.array_equal(there, back)


@pytest.mark.parametrize("batch_norm", ["folded", "reset"])
def test_a_folded_network_is_refused(batch_norm, small_images):
    folded = Model(ResNet50(batch_norm=batch_norm), {})
    with pytest.raises(InputError, match="folded"):
        max_activations(folded, small_images, (Channel("conv1", 0, 64),))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ((), "no channels"),
        ((Channel("nowhere", 0, 4),), r"no channel nowhere.#0\(T=4\)"),
    ],
)
def test_channels_that_cannot_be_had(small, small_images, channels, message):
    with pytest.raises(InputError, match=message):
        max_activations(small, small_images, channels)


# Tests on one channel


def test_mood_by_hand():
    """Grand median 4.5. Above it 1 before and 3 after; expected 2 and 2; Yates takes 1/2 off each difference of 1."""
    found = compare(np.array([1.0, 2, 3, 8]), np.array([4.0, 5, 6, 7]))
    assert found.statistic == pytest.approx(4 * 0.5**2 / 2)
    assert found.p == pytest.approx(math.erfc(math.sqrt(found.statistic / 2)))
    assert found.note == ""


def test_effect_by_hand():
    """Medians 3 and 10; deviations 2 1 0 1 2 and 4 2 0 2 4, of which the median is 2."""
    before, after = np.array([1.0, 2, 3, 4, 5]), np.array([6.0, 8, 10, 12, 14])
    assert effect_size(before, after) == ((3 - 10) / 2, 2)
    assert compare(before, after).effect == -3.5
    assert compare(after, before).effect == 3.5
    assert (compare(before, after).median_before, compare(before, after).median_after) == (3, 10)


def test_paired_by_counting_all_signs():
    """Differences 1 2 -3 4 5: the smaller rank sum is 3; all 2^5 signs are equally likely under the hypothesis."""
    difference = np.array([1.0, 2, -3, 4, 5])
    sums = [sum(rank for rank, sign in zip(range(1, 6), signs, strict=True) if sign)
            for signs in itertools.product((0, 1), repeat=5)]  # fmt: skip
    expected = 2 * np.mean([total <= 3 for total in sums])
    base = np.array([10.0, 30, 20, 50, 40])
    assert compare(base + difference, base).p_paired == pytest.approx(expected)


def test_the_paired_test_sees_what_mood_cannot(rng):
    before = rng.normal(0, 10, 40)
    found = compare(before, before - rng.uniform(0.5, 1, 40))
    assert found.p > 0.5
    assert found.p_paired < 1e-6
    assert 0 < found.effect < 0.5


@pytest.mark.parametrize("size", [1, 2, 3, 40, 41])
def test_identical_samples(size, rng):
    sample = rng.normal(size=size)
    found = compare(sample, sample.copy())
    assert (found.statistic, found.p, found.p_paired, found.effect) == (0, 1, 1, 0)


@pytest.mark.parametrize("size", [1, 5])
def test_all_equal(size):
    ones = np.ones(size)
    found = compare(ones, ones)
    assert found == (0, 1, 1, 1, 1, 0, "all equal")


def test_no_value_above_the_grand_median():
    found = compare(np.ones(5), np.array([1.0, 0, 0, 0, 0]))
    assert (found.statistic, found.p) == (0, 1)
    assert found.effect == math.inf
    assert found.note == "no value above the grand median"


def test_constant_before_and_constant_after():
    found = compare(np.zeros(20), np.ones(20))
    assert found.p < 1e-6
    assert found.effect == -math.inf
    assert found.note == "no spread around the medians"


def test_half_precision_of_the_network_does_not_matter(rng):
    before, after = rng.normal(size=(2, 30)).astype(np.float32)
    assert compare(before, after) == compare(before.astype(np.float64), after.astype(np.float64))


# Tables of tests

CHANNELS = tuple(Channel("conv1", index, 64) for index in (5, 9, 7, 30))


@pytest.fixture
def tests(rng) -> pa.Table:
    """Two generators; channels shifted by 0, 1, 10, and a dead one."""
    generator = np.array(["b"] * 30 + ["a"] * 20)
    before = rng.normal(size=(50, 4)) * [1, 1, 1, 0]
    return channel_table(CHANNELS, generator, before, before - [0, 1, 10, 0])


def test_channel_table(tests):
    rows = tests.to_pylist()
    assert [row["generator"] for row in rows] == ["b"] * 4 + ["a"] * 4
    assert [row["key"] for row in rows] == [channel.key for channel in CHANNELS] * 2
    assert [row["num"] for row in rows] == [30] * 4 + [20] * 4
    assert [row["color_conditional"] for row in rows[:4]] == [False, rows[1]["p"] <= 0.05, True, False]
    assert [row["effect"] > 2 for row in rows[:4]] == [False, False, True, False]
    assert [row["note"] for row in rows[:4]] == ["", "", "", "all equal"]


def test_no_images_are_refused():
    with pytest.raises(InputError, match="no images"):
        channel_table(CHANNELS, np.zeros(0, "U1"), np.zeros((0, 4)), np.zeros((0, 4)))


def test_adjusted_by_hand(monkeypatch):
    """Benjamini-Hochberg of .01 .04 .03 .5: p * 4 / rank is .04 .0533 .06 .5 in order; .04 takes from .03's .06."""
    raw = iter([0.01, 0.04, 0.03, 0.5])
    real = compare(np.arange(3.0), np.arange(3.0))
    monkeypatch.setattr("tffjax.studies.color.statistics.compare", lambda *_: real._replace(p=next(raw)))
    rows = channel_table(CHANNELS, np.array(["a"] * 3), np.zeros((3, 4)), np.zeros((3, 4))).to_pylist()
    np.testing.assert_allclose([row["p_adjusted"] for row in rows], [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert [row["color_conditional"] for row in rows] == [True, True, True, False]  # the paper's criterion is raw


def test_adjustment_is_within_a_generator(tests):
    for name in ("a", "b"):
        rows = [row for row in tests.to_pylist() if row["generator"] == name]
        expected = stats.false_discovery_control([row["p"] for row in rows])
        np.testing.assert_array_equal([row["p_adjusted"] for row in rows], expected)


def test_shares(tests):
    b, a = share_table(tests).to_pylist()
    assert (b["generator"], b["num"], b["num_channels"], b["num_noted"]) == ("b", 30, 4, 1)
    rows = [row for row in tests.to_pylist() if row["generator"] == "b"]
    assert b["num_conditional"] == sum(row["p"] <= 0.05 for row in rows) >= 1
    assert b["share"] == b["num_conditional"] / 4
    assert b["share_paired"] == 0.5  # the shift of 1 and that of 10
    assert b["share_adjusted"] <= b["share"]
    assert (a["generator"], a["num"]) == ("a", 20)


def test_extremes_leave_degenerate_channels_to_the_end(tests):
    most, least = extremes(tests, 2)
    assert most == [CHANNELS[2].key, CHANNELS[1].key]
    assert least == [CHANNELS[0].key, CHANNELS[3].key]  # the last one is dead
    assert [len(part) for part in extremes(tests, 3)] == [3, 1]


def test_names_come_as_they_come():
    assert names_of(np.array(["b", "a", "b"])) == ["b", "a"]
    assert names_of(np.array(["b", "a", "b"], dtype=object)) == ["b", "a"]


def test_density_by_hand():
    """A sum of Gaussians around the values with Scott's factor n^(-1/5) times the standard deviation."""
    before, after = np.tile([0.0, 1, 3], 10), np.tile([2.0, 2, 5], 10)
    table = density_table(before, after)
    grid = table["activation"].to_numpy()
    width = 30 ** (-1 / 5) * before.std(ddof=1)
    expected = np.exp(-(((grid[:, None] - before) / width) ** 2) / 2).sum(axis=1) / (
        30 * width * math.sqrt(2 * math.pi)
    )
    np.testing.assert_allclose(table["before"], expected)
    assert 0.95 < np.trapezoid(table["after"], grid) < 1


def test_a_sample_without_spread_is_a_line():
    sample = np.full(30, 2.0)
    table = density_table(sample, np.linspace(0, 1, 30))
    before = table["before"].to_numpy()
    assert table["activation"].to_numpy()[np.isinf(before)].tolist() == [2]
    assert not np.isinf(table["after"]).any()
    assert np.isinf(density_table(sample, sample)["after"]).sum() == 1


def test_few_images_are_a_histogram():
    """Sturges: log2(6) + 1 bins, four of width 1; each image counts 1 / 3."""
    table = density_table(np.array([0.0, 0.5, 4]), np.array([1.5, 2.5, 3.9]))
    assert table["activation"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert table["before"].to_pylist() == pytest.approx([0, 2 / 3, 2 / 3, 0, 0, 0, 0, 1 / 3, 1 / 3, 0])
    assert table["after"].to_pylist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 0])
    assert len(density_table(np.ones(1), np.ones(1))) == 4  # one bin around the value


# Tables of probabilities


def test_only_fakes_that_were_detected_count():
    before = np.array([0.9, 0.9, 0.2, 0.19])
    assert detected(np.array([0, 1, 1, 1]), before).tolist() == [False, True, True, False]


def test_whiskers_by_hand():
    before, after = np.array([0.5, 0.6, 0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.3, 0.4, 1.0])
    (row,) = whisker_table(np.array(["a"] * 5), before, after).to_pylist()
    assert (row["generator"], row["num"]) == ("a", 5)
    assert row["drop"] == pytest.approx(40)
    assert [row[f"{part}_before"] for part in ("low", "q1", "median", "q3", "high")] == pytest.approx(
        [50, 60, 70, 80, 90]
    )
    # quartiles 20 and 40, so nothing beyond 70 is reached
    assert [row[f"{part}_after"] for part in ("low", "q1", "median", "q3", "high")] == pytest.approx(
        [10, 20, 30, 40, 40]
    )


def test_no_image_left_is_an_empty_table():
    nothing = np.zeros(0)
    table = whisker_table(np.zeros(0, "U1"), nothing, nothing)
    assert table.num_rows == 0
    assert "drop" in table.column_names


GENERATOR = np.array(["progan"] * 4 + ["Other"] * 4)
LABEL = np.array([0, 0, 1, 1] * 2)
PROBABILITY = np.array([[0.1, 0.6, 0.7, 0.9, 0.05, 0.1, 0.2, 0.3], [0.1, 0.2, 0.4, 0.9, 0.05, 0.3, 0.1, 0.3]])
NAMES = (ORIGINAL, "grayscale")


def by_ablation(names, generator, label, probability) -> pa.Table:
    return metrics_table(Scored(generator, label), dict(zip(names, logit(probability), strict=True)), "ablation")


def test_metrics_use_the_threshold_of_the_original():
    rows = by_ablation(NAMES, GENERATOR, LABEL, PROBABILITY).to_pylist()
    assert [(row["ablation"], row["generator"]) for row in rows] == [
        (ablation, name) for ablation in NAMES for name in ("progan", "Other", "all")
    ]
    other, gray = rows[1], rows[4]
    assert other["threshold"] == gray["threshold"] == logit(0.2)
    assert (other["real_calibrated"], other["fake_calibrated"]) == (1, 1)
    assert (gray["real_calibrated"], gray["fake_calibrated"]) == (0.5, 0.5)
    assert gray["ap"] == measure(PROBABILITY[1, 4:], LABEL[4:]).ap


def test_one_label_has_no_threshold():
    rows = by_ablation(NAMES, GENERATOR, np.ones(8, int), PROBABILITY).to_pylist()
    assert all(math.isnan(row["threshold"]) == math.isnan(row["fake_calibrated"]) for row in rows)
    assert [row["threshold"] for row in rows if not math.isnan(row["threshold"])] == [0, 0]  # ProGAN
    assert rows[3]["fake"] == 0.25


def test_table_beside_the_published_one():
    metrics = by_ablation((*NAMES, "jpeg:30"), GENERATOR, LABEL, np.stack([*PROBABILITY, PROBABILITY[0]]))
    rows = {(row["input"], row["generator"]): row for row in grayscale_table(metrics, "ResNet-50").to_pylist()}
    assert len(rows) == 6
    progan = rows["Grayscale", "progan"]
    assert [progan[f"published_{name}"] for name in ("ap", "acc_real", "acc_fake")] == [99.9, 100.0, 81.5]
    assert (progan["acc_real"], progan["acc_fake"]) == (100, 50)  # at 0.5
    baseline = rows["Baseline", "progan"]
    assert (baseline["acc_real"], baseline["acc_fake"]) == (50, 100)
    other = rows["Grayscale", "Other"]
    assert (other["acc_real"], other["acc_fake"]) == (50, 50)  # at the baseline's threshold
    assert (other["num_real"], other["num_fake"], other["published_ap"]) == (2, 2, None)


def test_a_detector_without_published_numbers():
    table = grayscale_table(by_ablation(NAMES, GENERATOR, LABEL, PROBABILITY), None)
    assert table["published_ap"].null_count == table.num_rows


def test_the_shipped_table_is_the_published_one(shared):
    shipped = importlib.resources.files("tffjax") / "published" / "table-i-grayscale.csv"
    assert shipped.read_bytes() == (shared / "published" / "table-i-grayscale.csv").read_bytes()


def test_classes_by_hand():
    logits = np.log(np.array([[[1.0, 2, 5], [6, 1, 1]], [[5.0, 2, 1], [2, 4, 2]]]))  # softmax: divided by 8
    classes, card = np.array([2, 0]), cases.RESNET50.card(3)
    np.testing.assert_allclose(class_probability(logits, classes), [[5 / 8, 6 / 8], [1 / 8, 2 / 8]])
    before, after = class_table(card, "ablation", NAMES, logits, classes).to_pylist()
    assert before["median_probability"] == pytest.approx(11 / 16)
    assert after["drop"] == pytest.approx(1 / 2)
    assert (before["num"], before["drop"], before["accuracy"], after["accuracy"]) == (2, 0, 1, 0)
    before, after = class_table(card, "ablation", NAMES, logits, None).to_pylist()  # the own top-1 is that class
    assert (before["drop"], before["agreement"], after["agreement"]) == (0, 1, 0)
    assert after["drop"] == pytest.approx(1 / 2)
    assert after["network"] == "resnet50, padding symmetric, epsilon 1e-05, imagenet normalization"
    before, both = class_table(
        card, "setting", ["baseline", "random-2", "random-2"], logits[[0, 0, 1]], classes
    ).to_pylist()
    assert both["median_probability"] == pytest.approx((3 / 8 + 4 / 8) / 2)
    assert (before["accuracy"], both["accuracy"]) == (1, 1 / 2)


# Figures


def figures(tests) -> dict:
    metrics = by_ablation((*NAMES, "jpeg:30", "jpeg:90"), GENERATOR, LABEL, np.concatenate([PROBABILITY] * 2))
    rows = {(row["key"], row["generator"]): row for row in tests.to_pylist()}
    line, curve = density_table(np.ones(30), np.ones(30)), density_table(np.arange(30.0), np.ones(30))
    keys = [CHANNELS[2].key, CHANNELS[3].key]
    panels = {place: (row, curve if place[0] == keys[0] else line) for place, row in rows.items() if place[0] in keys}
    return {
        "whiskers": color_figures.whiskers(whisker_table(GENERATOR, *PROBABILITY)),
        "shares": color_figures.shares(share_table(tests)),
        "densities": color_figures.density_grid(panels, keys, ["a", "b"]),
        "curves": color_figures.curves(metrics, "jpeg"),
    }


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_figures_are_a_column_wide_and_can_be_written(tests, tmp_path):
    for name, figure in figures(tests).items():
        assert figure.get_size_inches()[0] == 3.5
        save_figure(figure, tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 8


def test_places_of_channels_that_a_generator_was_not_tested_on_stay_white():
    row = {"num": 3, "median_before": 1.0, "median_after": 1.0, "p": 1.0, "effect": 0.0, "note": ""}
    panels = {("conv1.#0(T=64)", "a"): (row, density_table(np.arange(3.0), np.arange(3.0)))}
    figure = color_figures.density_grid(panels, ["conv1.#0(T=64)", "conv1.#1(T=64)"], ["a", "b"])
    assert {"a\nn = 3", "b\nn = 0"} <= set(texts(figure))
    assert [len(axes.lines) > 0 for axes in figure.axes] == [True, False, False, False]


def test_figures_say_how_many_images(tests):
    made = figures(tests)
    assert {"ProGAN\nn = 4", "Other\nn = 4"} <= set(texts(made["whiskers"]))
    drops = whisker_table(GENERATOR, *PROBABILITY)["drop"].to_pylist()
    assert {f"{drop:.1f}" for drop in drops} <= set(texts(made["whiskers"]))
    assert {"b\nn = 30", "a\nn = 20"} <= set(texts(made["shares"]))
    assert {"b\nn = 30", "a\nn = 20"} <= set(texts(made["densities"]))
    assert sum("all equal" in text for text in texts(made["densities"])) == 2
    assert {"ProGAN (n = 4)", "all (n = 8)"} <= set(texts(made["curves"]))


def test_a_median_that_does_not_move_has_no_sign():
    table = whisker_table(np.array(["a"] * 3), np.full(3, 0.5), np.full(3, 0.5003))
    assert table["drop"].to_pylist() == pytest.approx([-0.03])
    assert "0.0" in texts(color_figures.whiskers(table))
    assert "-0.0" not in texts(color_figures.whiskers(table))


def test_curves_go_from_the_original_to_the_lowest_quality(tests):
    axes = figures(tests)["curves"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [ORIGINAL, "90", "30"]
    progan = axes.lines[0].get_ydata()
    # the table's rows stand at 30 (PROBABILITY[0]) and 90 (PROBABILITY[1])
    assert progan[0] == progan[2] == pytest.approx(100 * measure(PROBABILITY[0, :4], LABEL[:4]).ap)
    assert progan[1] == pytest.approx(100 * measure(PROBABILITY[1, :4], LABEL[:4]).ap)


def test_curves_of_a_classifier():
    logits = np.log(np.array([[[1.0, 2, 5], [6, 1, 1]], [[5.0, 2, 1], [2, 4, 2]]]))
    table = class_table(cases.RESNET50.card(3), "ablation", (ORIGINAL, "blur:2"), logits, np.array([2, 0]))
    axes = color_figures.curves(table, "blur", "median_probability", "median probability [%]").axes[0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([1100 / 16, 300 / 16])

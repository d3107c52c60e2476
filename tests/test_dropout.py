"""Feature-map dropout: golden logits, constants by hand, shared work, mask sets, tables, search and figures."""

import dataclasses
import math
from pathlib import Path

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tolerances

import tffjax
from tffjax.compile.logits import forward
from tffjax.compile.passes import compiler_options
from tffjax.compile.placement import put, put_model
from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn import Dense, Model, canonize
from tffjax.nn.card import Card
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.ops import Plain, no_tap
from tffjax.nn.sites import sites_of
from tffjax.results.figures import save_figure
from tffjax.results.published import dropout_numbers
from tffjax.studies.dropout import logits as dropout
from tffjax.studies.dropout.figures import dropout_curves, effect_map
from tffjax.studies.dropout.logits import GROUPS, STEP, masked_logits, plan_chunks
from tffjax.studies.dropout.search import find_k, greedy
from tffjax.studies.dropout.settings import (
    BASELINE,
    Setting,
    check_settings,
    counted,
    family,
    low_k,
    paper_name,
    paper_order,
    random_k,
    singles,
    top_k,
)
from tffjax.studies.dropout.tables import (
    dropout_table,
    effect_correlation,
    effect_table,
    mean_score,
    score_table,
    with_published,
)
from tffjax.studies.rankings import Channel, Ranking, all_channels, parse_key

NETWORKS = pytest.mark.parametrize("network", [cases.RESNET50, cases.B0_SAME], ids=lambda network: network.name)

# The golden numbers


def golden_settings(stored: dict[str, np.ndarray]) -> list[Setting]:
    names = [f"{kind}{k}" for kind in ("top", "low") for k in (5, 27, 114)]
    return [Setting(name, tuple(map(parse_key, stored[f"{name}_keys"]))) for name in names]


def assert_golden(golden, model, images, **tolerance):
    stored = golden.load("dropout.npz")
    settings = [*golden_settings(stored), Setting("none", ())]
    found = masked_logits(model, images, settings)
    assert found.shape == (len(images), 7, 1)
    for index, setting in enumerate(settings):
        expected = stored[f"{setting.name}_f64"][: len(images)]
        np.testing.assert_allclose(found[:, index, 0], expected, **tolerance, err_msg=setting.name)


@pytest.mark.parity
def test_golden_logits_in_single_precision(golden, golden_model):
    images = cases.golden_images(224)
    assert_golden(golden, golden_model, images, rtol=0, atol=tolerances.GOLDEN_F32_DROPOUT)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_golden_logits_in_double_precision(golden, golden_model, x64):
    images = cases.golden_images(224)[:1].astype(np.float64)
    assert_golden(golden, golden_model.astype(jnp.float64), images, rtol=tolerances.GOLDEN_F64_LOGIT)


# What a channel that is switched off becomes


class Chain(nn.Module):
    """Four convolutions, each with batch norm and ReLU, and a residual sum."""

    batch_norm: str = "statistics"
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x, ops=Plain(), tap=no_tap):
        for number, (features, stride) in enumerate([(4, 1), (6, 2), (6, 1), (8, 2)]):
            shape = {"features": features, "stride": stride, "kernel_size": 3, "padding": 1}
            y = conv_bn(self, f"conv{number}", f"bn{number}", x, ops, tap, **shape)
            x = ops.relu(ops.add(x, y, "add") if number == 2 else y, f"relu{number}")
        return Dense(2, name="fc")(ops.mean_pool(x, "pool"), ops)

    def batch_norm_pairs(self):
        return [(f"conv{number}", f"bn{number}") for number in range(4)]


@pytest.fixture(scope="module")
def chain() -> Model:
    with jax.enable_x64(True):
        return Model(Chain(), cases.random_variables(Chain(), 3)).astype(jnp.float64)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 16, 16, 3))


def constant(model: Model, bn: str, channels=slice(None)) -> np.ndarray:
    """What batch norm makes of 0: beta - m g / sqrt(v + epsilon)."""
    params, stats = model.variables["params"][bn], model.variables["batch_stats"][bn]
    values = params["bias"] - stats["mean"] * params["scale"] / np.sqrt(stats["var"] + model.module.epsilon)
    return np.asarray(values)[channels]


def every_channel(model: Model, *sites: str) -> tuple[Channel, ...]:
    return tuple(channel for channel in all_channels(model) if channel.site in sites)


def test_a_channel_becomes_the_constant_that_batch_norm_makes_of_zero(chain, images, x64):
    setting = Setting("some", tuple(Channel("conv3", index, 8) for index in (1, 4, 6)))
    kept = {}

    def tap(site, y):
        kept[site] = y
        return y

    chain(jnp.asarray(images), tap=tap)
    stats, params = (chain.variables[name]["bn3"] for name in ("batch_stats", "params"))
    y = (np.asarray(kept["conv3"]) - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["scale"] + params["bias"]
    y = np.array(y)
    y[..., [1, 4, 6]] = constant(chain, "bn3", [1, 4, 6])
    dense = chain.variables["params"]["fc"]
    expected = np.maximum(y, 0).mean(axis=(1, 2)) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(masked_logits(chain, images, [setting])[:, 0], expected, rtol=1e-12)
    assert not np.allclose(expected, forward(chain, jnp.asarray(images)))


def in_folded_network(model: Model, images, channels: tuple[Channel, ...]):
    """Logits of the canonized network with these channels replaced by their folded biases."""
    chosen: dict[str, list[int]] = {}
    for channel in channels:
        chosen.setdefault(channel.site, []).append(channel.index)

    @jax.jit
    def logits(folded, images):
        def tap(site, y):
            indices = np.array(chosen.get(site, []), int)
            return y.at[..., indices].set(folded.variables["params"][site]["bias"][indices])

        return folded(images, tap=tap)

    return logits(canonize(model), images)


def test_in_a_folded_chain_a_channel_becomes_its_folded_bias(chain, images, x64, rng):
    chosen = rng.choice(24, 9, replace=False)
    channels = tuple(all_channels(chain)[index] for index in chosen)
    found = masked_logits(chain, images, [Setting("some", channels)])[:, 0]
    np.testing.assert_allclose(found, in_folded_network(chain, images, channels), rtol=tolerances.F64_PROGRAM)


@pytest.mark.slow
@NETWORKS
def test_in_a_folded_network_a_channel_becomes_its_folded_bias(network, x64, rng):
    model = network.random_model().astype(jnp.float64)
    images = rng.standard_normal((2, 64, 64, 3))
    names = all_channels(model)
    channels = tuple(names[index] for index in rng.choice(len(names), len(names) // 20, replace=False))
    found = masked_logits(model, images, [Setting("some", channels)])[:, 0]
    np.testing.assert_allclose(found, in_folded_network(model, images, channels), rtol=tolerances.F64_PROGRAM)
    assert np.abs(found - masked_logits(model, images, [BASELINE])[:, 0]).min() > 1e-3


TAILS = {  # sites without which an image cannot reach the output
    "b0-same": ("_conv_head",),
    "resnet50": ("layer4.0.conv3", "layer4.0.downsample.0", "layer4.1.conv3", "layer4.2.conv3"),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(cases.RESNET50, marks=pytest.mark.slow), cases.B0_SAME],
    ids=lambda network: network.name,
)
def without_tail(request):
    """A network, images, and their logits with nothing, then with the tail, then with nothing switched off."""
    model = request.param.random_model()
    images = np.random.default_rng(3).standard_normal((6, 32, 32, 3)).astype(np.float32)
    tail = Setting("tail", every_channel(model, *TAILS[request.param.name]))
    return model, images, masked_logits(model, images, [BASELINE, tail, BASELINE])


def test_with_nothing_switched_off_logits_are_those_of_predict_bit_for_bit(without_tail):
    model, images, found = without_tail
    predicted = jax.jit(forward).lower(model, images).compile(compiler_options())(model, images)
    assert len(np.unique(predicted)) == 6
    np.testing.assert_array_equal(found[:, 0], predicted)
    np.testing.assert_array_equal(found[:, 2], predicted)


def test_without_what_leads_to_the_output_a_network_is_a_constant(without_tail):
    model, _, found = without_tail
    if model.card.architecture == "resnet50":
        # the residual sums of layer4 hold constants only: relu(relu(relu(d + c0) + c1) + c2)
        y, dense = constant(model, "layer4.0.downsample.1"), model.variables["params"]["fc"]
        for block in range(3):
            y = np.maximum(y + constant(model, f"layer4.{block}.bn3"), 0)
    else:
        y, dense = constant(model, "_bn1"), model.variables["params"]["_fc"]
        y = y / (1 + np.exp(-y))
    expected = y @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(found[:, 1], [expected] * 6, rtol=tolerances.F32_PROGRAM)


def test_a_channel_that_is_not_finite_can_be_switched_off(chain, images, x64):
    params = dict(chain.variables["params"])
    broken = dict(params["conv0"], kernel=params["conv0"]["kernel"].at[..., 2].set(jnp.nan))
    model = dataclasses.replace(chain, variables=chain.variables | {"params": params | {"conv0": broken}})
    off, other = (Setting(str(index), (Channel("conv0", index, 4),)) for index in (2, 1))
    found = masked_logits(model, images, [off, other])
    np.testing.assert_allclose(found[:, 0], masked_logits(chain, images, [off])[:, 0], rtol=1e-12)
    assert np.isnan(found[:, 1]).all()


# Many settings at once


@pytest.fixture(scope="module")
def many(chain) -> list[Setting]:
    """Every channel of the chain alone, some together, and nothing, in a random order."""
    rng = np.random.default_rng(2)
    channels = all_channels(chain)
    together = [
        Setting(f"{k} of all", tuple(channels[index] for index in rng.choice(24, k, replace=False)))
        for k in (2, 5, 12, 24)
    ]
    settings = [*singles(channels), *together, BASELINE]
    return [settings[index] for index in rng.permutation(len(settings))]


@pytest.fixture(scope="module")
def together(chain, images, many) -> np.ndarray:
    with jax.enable_x64(True):
        return masked_logits(chain, images, many)


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.F64_PROGRAM * np.abs(expected).max())


def test_settings_are_independent(chain, images, many, together, x64):
    for index, setting in enumerate(many):
        assert_same(masked_logits(chain, images, [setting])[:, 0], together[:, index])
    assert len(np.unique(together[0, :, 0].round(9))) > 20


def test_order_does_not_matter(chain, images, many, together, x64, rng):
    order = rng.permutation(len(many))
    assert_same(masked_logits(chain, images, [many[index] for index in order]), together[:, order])


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_chunk_does_not_matter(chain, images, many, together, chunk, x64):
    chunks = plan_chunks(chain, images, many, chunk)
    assert max(len(part.settings) for part in chunks) <= chunk
    assert_same(masked_logits(chain, images, many, chunk), together)


def test_a_batch_on_two_devices(chain, images, many, together, x64):
    assert jax.device_count() == 2
    spread = put(jnp.asarray(images))
    assert len(spread.sharding.device_set) == 2
    assert_same(masked_logits(put_model(chain, len(images)), spread, many), together)


@pytest.mark.extended
@NETWORKS
def test_every_setting_is_planned_once_and_few_programs_are_compiled(network):
    model = network.random_model()
    images = jax.ShapeDtypeStruct((8, 224, 224, 3), jnp.float32)
    settings = [BASELINE, *singles(all_channels(model)[::3])]
    chunks = plan_chunks(model, images, settings)
    assert sorted(index for part in chunks for index in part.settings) == list(range(1, len(settings)))
    assert len({part._replace(settings=()) for part in chunks}) <= GROUPS
    names = [site.name for site in sites_of(model, (224, 224))]
    for part in chunks:
        assert part.first <= min(names.index(settings[index].channels[0].site) for index in part.settings)
        assert len(part.settings) <= part.width
    idle = sum(part.width - len(part.settings) for part in chunks)
    assert idle < 0.05 * len(settings)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("network", "site"),
    [(cases.RESNET50, "layer4.0.conv1"), (cases.B0_SAME, "_blocks.12._expand_conv")],
    ids=["resnet50", "b0-same"],
)
def test_the_work_before_the_first_masked_site_is_shared(network, site):
    model = network.random_model()
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    channels = every_channel(model, site)[:16]
    (part, *others) = plan_chunks(model, image, [Setting(c.key, (c,)) for c in channels])
    assert all(other._replace(settings=()) == part._replace(settings=()) for other in others)
    sites = sites_of(model, (224, 224))
    masks = jax.ShapeDtypeStruct((part.width, sum(site.channels for site in sites)), jnp.bool_)
    lower = jax.jit(dropout._apply_masks, static_argnames=("sites", "first", "micro_batch")).lower
    ours = lower(model, image, masks, sites=sites, first=part.first, micro_batch=part.micro_batch).cost_analysis()[
        "flops"
    ]
    plain = jax.jit(forward).lower(model, image).cost_analysis()["flops"]
    assert ours / part.width < plain / 3


def test_neighboring_groups_differ_by_a_step():
    model = cases.RESNET50.random_model()
    sites = sites_of(model, (224, 224))
    work = dropout._work(model, sites, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    # 4.09 G multiply-adds, 11.1 M output values
    values = sum(site.channels * site.height * site.width for site in sites)
    assert work.sum() == pytest.approx(4.09e9 + 64 * values, rel=0.005)
    behind = (work.sum() - np.cumsum(work)) / work.sum()
    starts = dropout._group_starts(work)
    assert starts == sorted(starts)
    assert len(set(starts)) == GROUPS
    for site, start in enumerate(starts):
        assert start <= site
        assert start == starts[-1] or behind[start] <= behind[site] / STEP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": [Setting("x", (Channel("conv9", 0, 4),))]}, r"no channel conv9.#0\(T=4\)"),
        ({"settings": [Setting("x", (Channel("conv0", 0, 64),))]}, r"no channel conv0.#0\(T=64\)"),
        ({"settings": [Setting("x", (Channel("conv0", 4, 4),))]}, r"no channel conv0.#4\(T=4\)"),
        ({"chunk": 0}, "the chunk must be at least 1"),
    ],
)
def test_what_cannot_be_masked(chain, images, change, message, x64):
    arguments = {"settings": [BASELINE], "chunk": None} | change
    with pytest.raises(InputError, match=message):
        masked_logits(chain, images, **arguments)


def test_a_canonized_network_is_refused(chain, images, x64):
    with pytest.raises(InputError, match="before batch norm"):
        masked_logits(canonize(chain), images, [BASELINE])


# Mask sets


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    channels = tuple(Channel("conv", index, 20) for index in (7, 3, *range(8, 20), 0, 1, 2, 4, 5, 6))
    return Ranking(channels, np.linspace(1, 0, 20))


def test_top_and_low(ranking):
    assert [channel.index for channel in top_k(ranking, 3).channels] == [7, 3, 8]
    assert [channel.index for channel in low_k(ranking, 3).channels] == [4, 5, 6]
    assert (top_k(ranking, 3).name, low_k(ranking, 20).name) == ("top-3", "low-20")
    assert set(top_k(ranking, 20).channels) == set(low_k(ranking, 20).channels)


def test_random_sets_are_outside_the_top_and_hold_no_channel_twice(ranking):
    for k in (1, 6, 10):
        for setting in random_k(ranking, k, 5, seed=0):
            assert len(set(setting.channels)) == len(setting.channels) == k
            assert not set(setting.channels) & set(ranking.channels[:k])
    assert [setting.name for setting in random_k(ranking, 6, 2, 0)] == ["random-6/0", "random-6/1"]


def test_every_draw_has_its_own_stream(ranking):
    five = random_k(ranking, 6, 5, seed=1)
    assert random_k(ranking, 6, 3, seed=1) == five[:3]
    assert len({frozenset(setting.channels) for setting in five}) == 5
    assert {frozenset(s.channels) for s in random_k(ranking, 6, 5, seed=2)} != {frozenset(s.channels) for s in five}


def test_no_draws_need_no_channels_to_draw_from(ranking):
    assert random_k(ranking, 20, 0, seed=0) == ()


def test_every_channel_outside_the_top_is_drawn_equally_often(ranking):
    drawn = [channel for setting in random_k(ranking, 4, 2000, seed=0) for channel in setting.channels]
    counts = [drawn.count(channel) for channel in ranking.channels[4:]]
    assert sum(counts) == 8000
    # 500 each; the standard deviation is sqrt(2000 * 1/4 * 3/4) = 19.4
    assert max(abs(count - 500) for count in counts) < 5 * 19.4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ranking: top_k(ranking, 21), "from 1 to 20, the number of ranked channels; got 21"),
        (lambda ranking: low_k(ranking, 0), "got 0"),
        (lambda ranking: random_k(ranking, 21, 1, 0), "got 21"),
        (
            lambda ranking: random_k(ranking, 11, 1, 0),
            "only 9 of 20 are left; give a ranking of more channels, a k of at most half of them, or --random 0",
        ),
        (lambda ranking: random_k(ranking, 5, 1, -1), "the seed must be at least 0, got -1"),
        (lambda ranking: check_settings([top_k(ranking, 2), top_k(ranking, 2)]), "top-2 is asked for twice"),
    ],
)
def test_impossible_sets(ranking, make, message):
    with pytest.raises(InputError, match=message):
        make(ranking)


def test_names():
    assert [family(name) for name in ("random-6/0", "top-6", "single a.#0(T=2)", "a-6/0")] == [
        "random-6",
        "top-6",
        "single a.#0(T=2)",
        "a-6/0",
    ]
    assert [counted(name) for name in ("random-6/12", "random-6", "low-114", "baseline", "file")] == [
        ("random", 6),
        ("random", 6),
        ("low", 114),
        None,
        None,
    ]


# Tables

CARD = Card("resnet50", 1)


def files_of(*kinds: tuple[str, int | None]) -> list[ImageFile]:
    return [ImageFile(Path(f"{index}.png"), label, generator) for index, (generator, label) in enumerate(kinds)]


def logit(*probabilities: float) -> np.ndarray:
    p = np.array(probabilities)
    return np.log(p / (1 - p))


@pytest.fixture
def scores() -> pa.Table:
    """Two generators and an image without label: the baseline, top-2 and two draws of random-2."""
    files = files_of(("ProGAN", 0), ("ProGAN", 1), ("stylegan", 0), ("stylegan", 1), ("stylegan", 1), ("", None))
    logits = np.stack(
        [
            logit(0.1, 0.9, 0.2, 0.3, 0.8, 0.5),
            logit(0.1, 0.4, 0.2, 0.1, 0.3, 0.5),
            logit(0.3, 0.9, 0.6, 0.1, 0.7, 0.5),
            logit(0.9, 0.3, 0.2, 0.3, 0.7, 0.5),
        ],
        axis=1,
    )[..., None]
    names = ("baseline", "top-2", "random-2/0", "random-2/1")
    return score_table(CARD, files, [Setting(name, ()) for name in names], logits)


def test_scores_of_every_image_and_setting(scores):
    settings = ["baseline", "top-2", "random-2/0", "random-2/1"]
    assert scores.column_names == ["path", "generator", "category", "label", *settings]
    assert scores["label"].to_pylist() == ["real", "fake", "real", "fake", "fake", None]
    assert scores["top-2"].to_pylist() == pytest.approx(logit(0.1, 0.4, 0.2, 0.1, 0.3, 0.5).tolist())


def rows_of(table: pa.Table) -> dict[tuple[str, str], dict]:
    return {(row["setting"], row["generator"]): row for row in table.to_pylist()}


def test_table_in_the_layout_of_e1_by_hand(scores):
    rows = rows_of(dropout_table(scores))
    assert list(rows) == [
        (setting, generator)
        for setting in ("baseline", "top-2", "random-2")
        for generator in ("ProGAN", "stylegan", "all")
    ]
    assert all(rows[setting, "ProGAN"]["threshold"] == 0 for setting in ("baseline", "top-2"))
    assert all(
        rows[setting, "stylegan"]["threshold"] == pytest.approx(logit(0.3)[0]) for setting in ("baseline", "top-2")
    )
    base, top = rows["baseline", "stylegan"], rows["top-2", "stylegan"]
    assert (base["ap"], base["real"], base["fake"], base["fake_calibrated"]) == (1, 1, 1 / 2, 1)
    # from high to low: fake 0.3, real 0.2, fake 0.1
    assert top["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert (top["real"], top["fake"], top["real_calibrated"]) == (1, 0, 1)
    assert (top["num_real"], top["num_fake"]) == (1, 2)
    assert (rows["baseline", "all"]["num_real"], rows["baseline", "all"]["num_fake"]) == (2, 3)


def test_random_draws_are_averaged_as_probabilities(scores):
    row = rows_of(dropout_table(scores))["random-2", "stylegan"]
    # (0.6 + 0.2) / 2 = 0.4 real; 0.2 and 0.7 fake
    assert row["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert (row["real"], row["fake"], row["real_calibrated"], row["fake_calibrated"]) == (1, 1 / 2, 0, 1 / 2)
    progan = rows_of(dropout_table(scores))["random-2", "ProGAN"]
    assert (progan["ap"], progan["real"], progan["fake"]) == (1 / 2, 0, 1)  # 0.6 either way: a tie
    single = rows_of(dropout_table(scores, average=False))
    assert (single["random-2/0", "ProGAN"]["ap"], single["random-2/1", "ProGAN"]["ap"]) == (1, 1 / 2)


def test_a_mean_of_probabilities_that_all_are_1_in_float64():
    mean = mean_score(np.array([[40.0, 50, 60, -800], [60, 50, 40, 800]]))
    assert mean[1] == pytest.approx(50)
    # 1 - mean p = (e^-40 + e^-60) / 2
    assert mean[0] == mean[2] == pytest.approx(40 + math.log(2), rel=1e-9)
    assert mean[3] == pytest.approx(0)


def test_a_generator_of_fakes_only():
    files = files_of(("a", 1), ("a", 1))
    settings = [BASELINE, Setting("top-1", ())]
    table = dropout_table(score_table(CARD, files, settings, logit(0.9, 0.2)[:, None, None].repeat(2, axis=1)))
    assert [row["fake"] for row in table.to_pylist()] == [1 / 2, 1 / 2]
    assert np.isnan(table["threshold"]).all()


def test_published_numbers_stand_beside_ours(scores):
    table = with_published(dropout_table(scores), "ResNet-50")
    rows = rows_of(table)
    assert rows["baseline", "stylegan"]["published_ap"] == 0.993
    assert rows["baseline", "stylegan"]["published_real_calibrated"] == 0.96
    assert rows["baseline", "stylegan"]["published_fake_calibrated"] == 0.956
    assert rows["baseline", "ProGAN"]["published_ap"] == 1
    assert rows["top-2", "ProGAN"]["published_ap"] is None
    assert rows["baseline", "all"]["published_ap"] is None
    assert dropout_numbers("EfficientNet-B0", "random-27", "BigGAN") == (0.845, 0.594, 0.891)
    assert with_published(dropout_table(scores), None)["published_ap"].null_count == len(table)
    of_b0 = with_published(dropout_table(scores), "EfficientNet-B0")
    assert rows_of(of_b0)["baseline", "stylegan"]["published_ap"] == 0.99


def test_the_published_table_is_the_shared_one(shared):
    ours = Path(tffjax.__file__).parent / "published" / "table-e1-dropout.csv"
    assert ours.read_bytes() == (shared / "published" / "table-e1-dropout.csv").read_bytes()


def test_a_classifier_has_no_table():
    card = Card("resnet50", 1000)
    with pytest.raises(InputError, match="with one output, this network has 1000"):
        score_table(card, files_of(("a", 1)), [BASELINE], np.zeros((1, 1, 1000), np.float32))


def effects_of(card: Card, sign: int) -> pa.Table:
    channels = tuple(Channel("conv", index, 4) for index in range(4))
    label = np.array([1, 1, 0])
    baseline = sign * np.float32([4, 2, -3])
    logits = sign * np.float32([[3, 4, 5, 1], [1, 2, 0, 1], [9, 9, 9, 9]])
    omega = Ranking(channels[:3][::-1], np.array([0.5, 0.3, 0.1]))
    return effect_table(card, singles(channels), logits, baseline, label, omega)


@pytest.mark.parametrize("high_means", ["fake", "real"])
def test_effects_of_single_channels_by_hand(high_means):
    card = Card("resnet50", 1, high_means=high_means)
    effects = effects_of(card, 1 if high_means == "fake" else -1)
    assert effects.to_pylist() == [
        {"key": "conv.#3(T=4)", "omega": None, "effect": 2.0},
        {"key": "conv.#0(T=4)", "omega": 0.1, "effect": 1.0},
        {"key": "conv.#2(T=4)", "omega": 0.5, "effect": 0.5},
        {"key": "conv.#1(T=4)", "omega": 0.3, "effect": 0.0},
    ]
    # ranks of omega 1, 3, 2 against those of the effect 3, 2, 1: 1 - 6 (4 + 1 + 1) / (3 * 8)
    assert effect_correlation(effects) == pytest.approx(1 - 6 * 6 / 24)


def test_no_correlation_with_a_constant():
    effects = pa.table({"key": ["a", "b"], "omega": [0.5, 0.5], "effect": [1.0, 2.0]})
    assert np.isnan(effect_correlation(effects))


def test_effects_need_fake_images():
    channel = Channel("conv", 0, 1)
    arguments = (np.zeros((1, 1)), np.zeros(1), np.zeros(1, int), Ranking((channel,), np.ones(1)))
    with pytest.raises(InputError, match="there are none"):
        effect_table(CARD, singles([channel]), *arguments)


# Search


def synthetic(fake: dict[str, list[float]], random: float | None = None, ap: float = 0.9):
    """`evaluate` for curves of the fake accuracy, one a generator, and the ks that it was asked for."""
    asked = []

    def evaluate(ks):
        asked.append(list(ks))
        rows = []
        for generator, curve in fake.items():
            values = {"baseline": curve[0]} | {f"top-{k}": curve[k] for k in ks}
            values |= {} if random is None else {f"random-{k}": random for k in ks}
            for setting, value in values.items():
                rows.append({"setting": setting, "generator": generator, "ap": ap, "fake_calibrated": value,
                             "num_real": 10, "num_fake": 10})  # fmt: skip
        return pa.Table.from_pylist(rows)

    return evaluate, asked


def falling(at: int, length: int = 101, low: float = 0.1) -> list[float]:
    return [0.9] * at + [low] * (length - at)


@pytest.mark.parametrize("at", [1, 2, 3, 17, 31, 32, 33, 50])
def test_the_smallest_k_is_found(at):
    evaluate, asked = synthetic({"a": falling(at)})
    found = find_k(evaluate, 100)
    assert (found.k, found.warning) == (at, None)
    assert asked[0] == [1, 2, 4, 8, 16, 32, 50]
    assert sum(map(len, asked)) <= 7 + 5
    ks = sorted(k for call in asked for k in call)
    assert found.curve["setting"].to_pylist() == ["baseline", *(f"top-{k}" for k in ks)]


def test_every_generator_must_fall_by_ap_or_accuracy():
    evaluate, _ = synthetic({"a": falling(5), "b": falling(12), "all": falling(30)})
    assert find_k(evaluate, 100).k == 12
    # AP at 0.6 is 3/4 of its way from 0.9 to 1/2
    base, fallen = synthetic({"a": [0.9] * 101})[0], synthetic({"a": [0.9] * 101}, ap=0.6)[0]

    def by_k(ks):
        rows = base([]).to_pylist()
        rows += [row for k in ks for row in (fallen if k >= 9 else base)([k]).to_pylist()[1:]]
        return pa.Table.from_pylist(rows)

    assert find_k(by_k, 100).k == 9
    assert find_k(by_k, 100, share=0.8).k is None
    assert find_k(by_k, 100, metric="ap").k == 9
    assert find_k(by_k, 100, metric="fake").k is None
    assert find_k(evaluate, 100, metric="fake").k == 12
    assert find_k(evaluate, 100, metric="ap").k is None


def test_the_share_of_the_way_to_chance():
    slope = [0.9 - 0.01 * k for k in range(101)]
    # from 0.9 to 0.5 are 0.4: half of it after 20 channels, three quarters after 30
    for share, k in ((0.5, 20), (0.75, 30), (1.0, 40)):
        evaluate, _ = synthetic({"a": [0.9, *(value - 1e-9 for value in slope[1:])]})
        found = find_k(evaluate, 100, share)
        assert found.k == k
        assert f"{share:.0%}" in found.criterion


def test_random_channels_that_fall_too_are_a_warning():
    evaluate, _ = synthetic({"a": falling(5)}, random=0.2)
    found = find_k(evaluate, 100)
    assert found.k == 5
    assert "5 random channels make a substantial drop too (on a)" in found.warning
    assert find_k(synthetic({"a": falling(5)}, random=0.85)[0], 100).warning is None


def test_no_drop_is_said():
    found = find_k(synthetic({"a": falling(60)})[0], 100)
    assert (found.k, found.warning) == (None, "no k up to 50 has a substantial drop")


def test_a_curve_that_rises_again_gives_an_edge():
    curve = [0.9] * 101
    curve[3:7] = [0.1] * 4  # falls at 3...6, then at 40 for good
    curve[40:] = [0.1] * 61
    assert find_k(synthetic({"a": curve})[0], 100).k == 3
    curve[4] = 0.9  # of these, 4 is tried: the search does not see 3
    assert find_k(synthetic({"a": curve})[0], 100).k == 40


def test_a_generator_at_chance_does_not_count():
    evaluate, _ = synthetic({"a": falling(7), "b": [0.5] * 101}, ap=0.5)
    assert find_k(evaluate, 100).k == 7
    with pytest.raises(InputError, match="not above chance on any generator"):
        find_k(synthetic({"b": [0.5] * 101}, ap=0.5)[0], 100)


@pytest.mark.parametrize(("arguments", "message"), [((100, 0.0), "share"), ((100, 1.5), "share"), ((1, 0.5), "two")])
def test_impossible_searches(arguments, message):
    with pytest.raises(InputError, match=message):
        find_k(synthetic({"a": falling(7)})[0], *arguments)


def test_greedy_does_not_choose_twins():
    # channels 0 and 1 do the same, channel 2 a little less, channel 3 nothing
    def effect(channels):
        indices = {channel.index for channel in channels}
        return 5.0 * bool(indices & {0, 1}) + 3.0 * (2 in indices)

    channels = [Channel("conv", index, 4) for index in (3, 0, 1, 2)]
    steps = greedy(lambda sets: np.array([effect(channels) for channels in sets]), channels, 3)
    assert [(step.channel.index, step.effect) for step in steps] == [(0, 5.0), (2, 8.0), (3, 8.0)]
    assert len(greedy(lambda sets: np.zeros(len(sets)), channels, 9)) == 4


# Figures


def test_the_layout_of_table_e1():
    names = ["file", "low-5", "top-27", "random-5", "top-5", "baseline"]
    ordered = [paper_name(name) for name in sorted(names, key=paper_order)]
    assert ordered == ["k = 0", "top-k, k = 5", "top-k, k = 27", "random-k, k = 5", "low-k, k = 5", "file"]


def texts(figure) -> str:
    parts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_ylabel(), axes.get_xlabel()]
    return " | ".join(parts)


@pytest.mark.extended
def test_curves_show_every_generator_and_how_many_images(scores, tmp_path):
    figure = dropout_curves(dropout_table(scores), dropout_table(scores, average=False), "$title_")
    assert len(figure.axes) == 3 * 3
    assert "StyleGAN\n(1 real, 2 fake)" in texts(figure)
    assert "top k" in texts(figure)
    assert "low k" not in texts(figure)
    middle = figure.axes[4]  # stylegan, accuracy on fake: 1/2 and 1 of the draws at the threshold 0.3
    low, high = middle.collections[0].get_paths()[0].vertices[:, 1].min(), 1
    assert low == pytest.approx(1 / 2)
    assert middle.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(high)
    assert {float(min(line.get_xdata())) for line in middle.lines} == {0}  # from k = 0 on
    assert {line.get_ydata()[0] for line in middle.lines} == {middle.lines[0].get_ydata()[0]}
    save_figure(figure, tmp_path / "curves")
    first = (tmp_path / "curves.png").read_bytes()
    save_figure(figure, tmp_path / "curves")
    assert (tmp_path / "curves.png").read_bytes() == first


def test_effects_against_omega(tmp_path):
    figure = effect_map(effects_of(CARD, 1), ("stem", "conv"), 2, "title")
    assert "rank correlation -0.50\n3 channels, 2 fake images" in texts(figure)
    np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), [[0.1, 1], [0.5, 0.5], [0.3, 0]])
    save_figure(figure, tmp_path / "effects")
    constant = pa.table({"key": ["conv.#0(T=1)"], "omega": [0.0], "effect": [0.0]})
    save_figure(effect_map(constant, ("conv",), 1, "title"), tmp_path / "constant")

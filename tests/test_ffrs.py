"""FF-RS: shares against relevance maps, sums over images against plain loops, the golden numbers of the library."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SmallNet, noise
from test_explain import released, with_float32_epsilons

from tffjax.errors import InputError
from tffjax.lrp.composites import composite_of
from tffjax.lrp.explain import relevance
from tffjax.nn import Model
from tffjax.studies.ffrs import tables as ffrs_tables
from tffjax.studies.ffrs.bootstrap import image_keys, poisson_weights, subset_level
from tffjax.studies.ffrs.statistic import Design, Totals, is_confident, omega, order, relevance_shares, standard_error
from tffjax.studies.rankings import Channel

SITE_CHANNELS = (3, 1, 4)
CHANNELS = tuple(Channel(f"site{s}", i, n) for s, n in enumerate(SITE_CHANNELS) for i in range(n))
FAKE, REAL = 1, 0


# One batch


def detector() -> Model:
    """The small network with one output, in double precision."""
    module = SmallNet(outputs=1)
    return Model(module, cases.random_variables(module, seed=0)).astype(jnp.float64)


@pytest.mark.extended
def test_shares_against_relevance_maps(x64):
    """r = sum of max(R, 0) / sum of |R|, in loops over the maps of +f and of -f."""
    model, images, signs = detector(), noise(24, 4), jnp.array([1, -1, -1, 1])
    sites = ("stem", "depthwise", "project", "head")
    found = jax.jit(relevance_shares)(model, images, signs)
    maps_of = {sign: relevance(model, images, maps=sites, sign=sign).maps for sign in (1, -1)}
    expected, totals = np.zeros((4, 26)), np.zeros((4, 4))
    for image, sign in enumerate(signs):
        column = 0
        for s, site in enumerate(sites):
            values = np.asarray(maps_of[int(sign)][site][image])
            totals[image, s] = sum(abs(r) for r in values.ravel())
            for channel in range(values.shape[2]):
                expected[image, column] = sum(max(r, 0) for r in values[:, :, channel].ravel()) / totals[image, s]
                column += 1
    np.testing.assert_allclose(found.totals, totals, rtol=tolerances.F64_PROGRAM)
    np.testing.assert_allclose(found.shares, expected, rtol=tolerances.F64_PROGRAM, atol=tolerances.F64_PROGRAM)
    np.testing.assert_allclose(found.logits, model(images), rtol=tolerances.F64_PROGRAM)
    assert np.ptp(expected) > 0.1


def test_the_two_signs_share_the_relevance(x64):
    """The share of f and that of -f in one channel: positive and negative relevance; over a site they add up to 1."""
    model, images = detector(), noise(24, 2)
    both = sum(jax.jit(relevance_shares)(model, images, jnp.full(2, sign)).shares for sign in (1, -1))
    ends = np.cumsum([6, 6, 6, 8])
    for start, end in zip([0, *ends], ends, strict=False):
        np.testing.assert_allclose(both[:, start:end].sum(axis=1), 1, rtol=tolerances.F64_PROGRAM)


def test_a_site_without_relevance_has_no_share(x64):
    model = detector()
    dead = jax.tree.map(jnp.zeros_like, model.variables["params"]["project"])
    model = Model(model.module, {"params": {**model.variables["params"], "project": dead}})
    found = relevance_shares(model, noise(24, 2), jnp.array([1, 1]))
    np.testing.assert_array_equal(np.asarray(found.totals) > 0, [[True, False, False, True]] * 2)
    np.testing.assert_array_equal(found.shares[:, 6:18], 0)
    assert np.isfinite(found.shares).all()


@pytest.mark.extended
def test_the_result_does_not_depend_on_the_micro_batch(x64):
    model, images, signs = detector(), noise(24, 4), jnp.array([1, -1, 1, -1])
    for whole, parts in zip(
        relevance_shares(model, images, signs, micro_batch=4),
        relevance_shares(model, images, signs, micro_batch=1),
        strict=True,
    ):
        np.testing.assert_allclose(whole, parts, rtol=tolerances.F64_PROGRAM, atol=tolerances.F64_PROGRAM)


@pytest.mark.parametrize(
    ("probability", "fake", "confidence", "kept"),
    [
        (0.9, True, 0.9, True),
        (0.89, True, 0.9, False),
        (0.1, False, 0.9, True),
        (0.11, False, 0.9, False),
        (0.05, True, 0.9, False),
        (0.95, False, 0.9, False),
        (0.0, True, 0.0, True),
        (1.0, False, 0.0, True),
    ],
)
def test_the_confidence_filter_by_hand(probability, fake, confidence, kept):
    assert is_confident(np.array([probability]), np.array([fake]), confidence).tolist() == [kept]


# Sums over images


class Images:
    """Random shares of some images, a fifth of the sites unreached."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.totals = np.where(rng.random((count, len(SITE_CHANNELS))) < 0.2, 0, rng.random((count, 3)) + 0.1)
        reached = np.repeat(self.totals, SITE_CHANNELS, axis=1) > 0
        self.shares = (rng.random((count, sum(SITE_CHANNELS))) * reached).astype(np.float32)
        self.generators = [("a", "b")[i % 2] for i in range(count)]
        self.categories = [("cat", "dog", "")[i % 3] for i in range(count)]
        self.names = [f"{generator}/{i}.png" for i, generator in enumerate(self.generators)]
        self.fake, self.kept = rng.random(count) < 0.6, rng.random(count) < 0.7

    def select(self, chosen) -> "Images":
        found = object.__new__(Images)
        for name, values in vars(self).items():
            setattr(found, name, [values[i] for i in chosen] if isinstance(values, list) else values[chosen])
        return found

    def __len__(self) -> int:
        return len(self.names)


DESIGN = Design(SITE_CHANNELS, (("a", ""), ("b", ""), ("a", "cat"), ("b", "dog"), ("c", "")), 4, 6, seed=3)


def summed(images: Images, batch: int = 7, design: Design = DESIGN) -> Totals:
    totals = Totals.zero(design)
    for start in range(0, len(images), batch):
        part = images.select(list(range(start, min(start + batch, len(images)))))
        weights = design.weights(part.generators, part.categories, image_keys(part.names))
        totals.add(part.shares, part.totals.astype(np.float32), weights, part.fake, part.kept)
    return totals


def slow_omega(images: Images, label: int, weight=lambda image: 1.0) -> list[float]:
    """The definition: for each channel the weighted mean over the kept images whose relevance reaches its site."""
    result = []
    for column, channel in enumerate(CHANNELS):
        site, top, bottom = int(channel.site[4:]), 0.0, 0.0
        for image in range(len(images)):
            if images.fake[image] == label and images.kept[image] and images.totals[image, site] > 0:
                top += weight(image) * float(images.shares[image, column])
                bottom += weight(image)
        result.append(top / bottom if bottom else np.nan)
    return result


def assert_equal(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=tolerances.F64_IDENTITY, atol=0, equal_nan=True)


@pytest.mark.parametrize("label", [REAL, FAKE])
def test_every_row_against_loops(label):
    images = Images(40)
    totals = summed(images)
    groups, subsets, replicates = (omega(totals, DESIGN, label, part) for part in DESIGN.parts)
    assert_equal(omega(totals, DESIGN, label)[0], slow_omega(images, label))
    for row, (generator, category) in zip(groups, DESIGN.groups, strict=True):
        belongs = [
            float(g == generator and category in ("", c))
            for g, c in zip(images.generators, images.categories, strict=True)
        ]
        assert_equal(row, slow_omega(images, label, belongs.__getitem__))
    keys = image_keys(images.names)
    level = subset_level(keys, 4)
    for subset, row in enumerate(subsets):
        assert_equal(row, slow_omega(images, label, lambda image, subset=subset: float(level[image] >= subset)))
    weights = poisson_weights(keys, 6, 3)
    assert weights.std() > 0.5
    for replicate, row in enumerate(replicates):
        assert_equal(row, slow_omega(images, label, weights[replicate].__getitem__))


def test_counts_of_images_against_loops():
    images = Images(40)
    totals = summed(images)
    for label in (REAL, FAKE):
        for counted, (generator, category) in enumerate([("", ""), *DESIGN.groups]):
            mine = [
                kept
                for fake, kept, g, c in zip(images.fake, images.kept, images.generators, images.categories, strict=True)
                if fake == label and generator in ("", g) and category in ("", c)
            ]
            assert totals.images[label, counted].tolist() == [sum(mine), len(mine) - sum(mine)]


def test_the_standard_error_by_hand():
    """Shares 1/4, 1/2, 3/4 in one channel: variance 1/16, standard error sqrt(1/16 / 3); one image has none."""
    design = Design((1,), (), 1, 0, seed=0)
    totals = Totals.zero(design)
    shares = np.array([[0.25], [0.5], [0.75], [0.125]], np.float32)
    fake, kept = np.array([True, True, True, False]), np.ones(4, bool)
    totals.add(shares, np.ones((4, 1), np.float32), np.ones((2, 4)), fake, kept)
    assert_equal(omega(totals, design, FAKE), [[0.5]])
    assert_equal(standard_error(totals, design, FAKE), [(1 / 48) ** 0.5])
    assert_equal(omega(totals, design, REAL), [[0.125]])
    assert np.isnan(standard_error(totals, design, REAL)).all()


def test_the_standard_error_is_that_of_the_sample():
    images = Images(40)
    ours = standard_error(summed(images), DESIGN, FAKE)
    for column, channel in enumerate(CHANNELS):
        mine = images.fake & images.kept & (images.totals[:, int(channel.site[4:])] > 0)
        values = images.shares[mine, column].astype(np.float64)
        np.testing.assert_allclose(ours[column], values.std(ddof=1) / np.sqrt(len(values)), rtol=tolerances.FIXED_POINT)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), batch=st.integers(1, 40), cut=st.integers(0, 30), random=st.randoms())
def test_neither_order_nor_batches_nor_processes_matter(seed, batch, cut, random):
    images = Images(30, seed)
    mixed = random.sample(range(30), 30)
    whole = summed(images)
    parts = summed(images.select(mixed[:cut]), batch).merge(summed(images.select(mixed[cut:]), batch))
    for ours, expected in zip(vars(parts).values(), vars(whole).values(), strict=True):
        assert_equal(ours, expected)


def test_a_site_that_nothing_reaches_is_counted_and_comes_last():
    images = Images(40)
    images.totals[:, 1] = 0
    images.shares[:, 3] = 0
    totals = summed(images)
    kept = int(images.kept.sum())
    assert ffrs_tables.unreached(totals, DESIGN, ("site0", "site1", "site2"))["site1"] == kept
    for site in (0, 2):
        missing = int((images.totals[images.kept, site] == 0).sum())
        assert missing > 0
        assert ffrs_tables.unreached(totals, DESIGN, ("site0", "site1", "site2"))[f"site{site}"] == missing
    assert np.isnan(omega(totals, DESIGN, FAKE)[0, 3])
    ranking = ffrs_tables.ranking(totals, DESIGN, CHANNELS, FAKE)
    assert ranking.channels[-1] == CHANNELS[3]
    assert ranking.omega[-1] == 0


def test_ties_go_by_site_and_then_by_channel():
    assert order(np.array([0.5, np.nan, 0.5, 0.75, 0.0, 0.5])).tolist() == [3, 0, 2, 5, 4, 1]


# Tables


def by_key(table: pa.Table, *columns: str) -> dict:
    names = ("key", *columns)
    return {row["key"]: tuple(row[name] for name in columns) for row in table.select(names).to_pylist()}


def test_statistics_say_what_the_sums_say():
    images = Images(40)
    totals = summed(images)
    table = ffrs_tables.statistics(totals, DESIGN, CHANNELS, FAKE, k=3)
    assert table["rank"].to_pylist() == list(range(1, 9))
    assert table["omega"].to_pylist() == sorted(table["omega"].to_pylist(), reverse=True)
    found = by_key(table, "omega", "standard_error", "images", "site", "channel", "label")
    values, errors = omega(totals, DESIGN, FAKE)[0], standard_error(totals, DESIGN, FAKE)
    for i, channel in enumerate(CHANNELS):
        reached = images.fake & images.kept & (images.totals[:, int(channel.site[4:])] > 0)
        expected = (values[i], errors[i], int(reached.sum()), channel.site, channel.index, "fake")
        assert found[channel.key] == expected
    replicates = omega(totals, DESIGN, FAKE, DESIGN.parts[2])
    for key, (in_top, low, high, rank_low, rank_high) in by_key(
        table, "in_top", "low", "high", "rank_low", "rank_high"
    ).items():
        column = [channel.key for channel in CHANNELS].index(key)
        places = [order(row).tolist().index(column) + 1 for row in replicates]
        assert in_top == np.mean([place <= 3 for place in places])
        assert replicates[:, column].min() <= low <= high <= replicates[:, column].max()
        assert min(places) <= rank_low <= rank_high <= max(places)


def test_without_a_bootstrap_nothing_is_said_about_certainty():
    design = Design(SITE_CHANNELS, (), 1, 0, seed=0)
    table = ffrs_tables.statistics(summed(Images(20), design=design), design, CHANNELS, FAKE, k=3)
    for name in ("low", "high", "rank_low", "rank_high", "in_top", "near_cut"):
        assert table[name].null_count == len(CHANNELS)
    assert table.schema == ffrs_tables.statistics(summed(Images(20)), DESIGN, CHANNELS, FAKE, k=3).schema


def test_the_breakdown_equals_separate_runs():
    images = Images(40)
    table = ffrs_tables.breakdown(summed(images), DESIGN, CHANNELS).to_pylist()
    assert {(row["generator"], row["category"]) for row in table} == set(DESIGN.groups[:4])  # "c" has no images
    for label, name in ((REAL, "real"), (FAKE, "fake")):
        for generator in "ab":
            own = images.select([i for i in range(40) if images.generators[i] == generator])
            expected = slow_omega(own, label)
            rows = [r for r in table if (r["label"], r["generator"], r["category"]) == (name, generator, "")]
            assert [row["key"] for row in rows] == [channel.key for channel in CHANNELS]
            assert_equal([row["omega"] for row in rows], expected)


def test_image_counts_and_stability():
    images = Images(40)
    totals = summed(images)
    rows = ffrs_tables.image_counts(totals, DESIGN).to_pylist()
    whole = [row for row in rows if row["generator"] == "all"]
    assert [(row["label"], row["kept"] + row["dropped"]) for row in whole] == [
        ("real", int((~images.fake).sum())),
        ("fake", int(images.fake.sum())),
    ]
    for row in whole:
        parts = [r for r in rows if r["label"] == row["label"] and r["generator"] in "ab" and not r["category"]]
        assert sum(part["kept"] for part in parts) == row["kept"]
    growth = ffrs_tables.stability(totals, DESIGN, FAKE, k=3).to_pylist()
    assert growth[-1]["overlap"] == 1
    assert [row["images"] for row in growth] == sorted(row["images"] for row in growth)


# The golden numbers in double precision; in single precision the whole command shows them, in test_rank.py


@pytest.mark.slow
def test_golden_ffrs_in_float64(golden, golden_model, x64):
    composite = with_float32_epsilons(composite_of("beta0", golden_model))
    model, images = released(golden_model, jnp.float64), jnp.asarray(cases.golden_images(224), jnp.float64)
    compute = jax.jit(lambda model, images, signs: relevance_shares(model, images, signs, composite))
    stored = golden.load("ffrs.npz") | golden.load("channels_224.npz")
    labels = np.array([False, True, False, True])  # the images are real, fake, real, fake
    for name, sign, label in (("fx", 1, "fake"), ("negfx", -1, "real")):
        found = compute(model, images, jnp.full(4, sign))
        shares, logits = np.asarray(found.shares), np.asarray(found.logits[:, 0])
        assert_golden(shares.mean(axis=0), stored[f"ffrs_{name}_f64"])
        np.testing.assert_array_equal(order(shares.mean(axis=0))[:1000], stored[f"order_{name}_f64"][:1000])
        mine = labels == (label == "fake")
        kept = np.flatnonzero(mine & is_confident(1 / (1 + np.exp(-logits)), labels, 0.9))
        assert kept.tolist() == stored[f"filter_{label}_used_f64"].tolist()
        assert_golden(shares[kept].mean(axis=0), stored[f"filter_{label}_ffrs_f64"])


def assert_golden(ours, stored):
    atol = tolerances.GOLDEN_F64_FLOOR * stored.max()
    np.testing.assert_allclose(ours, stored, rtol=tolerances.GOLDEN_F64_RELEVANCE, atol=atol)


@pytest.mark.parametrize("composite", ["guided-backprop", "deconvnet"])
def test_explanations_that_are_not_linear_are_refused(composite):
    """One pass gives R(-f) = -R(f) for linear ones only."""
    model = Model(SmallNet(outputs=1), cases.random_variables(SmallNet(outputs=1), seed=0))
    with pytest.raises(InputError, match="linear in the relevance"):
        relevance_shares(model, noise(16, dtype=jnp.float32), jnp.ones(2, jnp.int32), composite)

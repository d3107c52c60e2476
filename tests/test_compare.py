"""Two rankings compared: against sets, fractions by hand and loops; the command; and figures of the right things."""

import hashlib
import itertools
from fractions import Fraction
from math import comb

import click
import click.testing
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tffjax.cli.compare import compare
from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.results.figures import save_figure
from tffjax.results.tables import read_table
from tffjax.studies.compare import correlation_table, movers_table, overlap_curve, overlap_table, pair_up
from tffjax.studies.ffrs.figures import Place, comparison, omega_by_kind, omega_curve, place_of, stability, top_by_site
from tffjax.studies.rankings import Channel, Ranking, all_channels, read_ranking, write_ranking


def ranking(omega, order=None) -> Ranking:
    """Channels 0, 1, ... of one site with these omegas, listed in `order` (of the file)."""
    order = range(len(omega)) if order is None else order
    return Ranking(tuple(Channel("conv1", c, len(omega)) for c in order), np.array([float(omega[c]) for c in order]))


def top(found: Ranking, k: int) -> set[Channel]:
    """The first k, the long way."""
    order = sorted(range(len(found.omega)), key=lambda i: found.omega[i], reverse=True)
    return {found.channels[i] for i in order[:k]}


A, B = ranking([5, 4, 3, 2, 1, 0]), ranking([4, 1, 5, 0, 3, 2])

levels = st.lists(st.integers(0, 5), min_size=2, max_size=8)
ranking_pairs = levels.flatmap(
    lambda a: st.tuples(
        st.just(a), st.permutations(a), st.permutations(range(len(a))), st.permutations(range(len(a)))
    )
).map(lambda drawn: (ranking(drawn[0], drawn[2]), ranking(drawn[1], drawn[3])))  # fmt: skip


# Pairs


@settings(max_examples=40, deadline=None, derandomize=True)
@given(ranking_pairs)
def test_ranks_and_values_of_a_pair(rankings):
    a, b = rankings
    pair = pair_up(a, b)
    for found, omega, rank in zip(rankings, pair.omega, pair.rank, strict=True):
        values = dict(zip(*found, strict=True))
        assert omega.tolist() == [values[channel] for channel in pair.channels]
        for k in range(len(rank) + 1):
            assert {c for c, r in zip(pair.channels, rank, strict=True) if r <= k} == top(found, k)


def test_rankings_of_different_channels_are_refused():
    other = Ranking((*A.channels[:5], Channel("conv2", 0, 9)), A.omega)
    only = r"1 are only in the first, such as conv1\.#5\(T=6\); 1 are only in the second, such as conv2\.#0\(T=9\)"
    with pytest.raises(InputError, match=only):
        pair_up(A, other)
    short = Ranking(A.channels[:4], A.omega[:4])
    with pytest.raises(InputError, match=r"\(6 and 4\): 2 are only in the first, such as conv1\.#4\(T=6\)$"):
        pair_up(A, short)
    with pytest.raises(InputError, match=r"\(4 and 6\): 2 are only in the second"):
        pair_up(short, A)


def test_spoiled_rankings_are_refused():
    with pytest.raises(InputError, match="second ranking names a channel twice"):
        pair_up(A, Ranking((*A.channels[:5], A.channels[0]), A.omega))
    with pytest.raises(InputError, match=r"first ranking has no finite relevance for conv1\.#2\(T=6\)"):
        pair_up(ranking([1, 1, np.nan, 1, 1, 1]), B)


# Overlap


@settings(max_examples=40, deadline=None, derandomize=True)
@given(ranking_pairs)
def test_overlap_against_sets(rankings):
    pair = pair_up(*rankings)
    total = len(pair.channels)
    ks = range(1, total + 1)
    common = [len(top(rankings[0], k) & top(rankings[1], k)) for k in ks]
    assert overlap_curve(pair.rank).tolist() == common
    for row, k, count in zip(overlap_table(pair, ks).to_pylist(), ks, common, strict=True):
        union = len(top(rankings[0], k) | top(rankings[1], k))
        chance = sum(Fraction(comb(k, i) * comb(total - k, k - i), comb(total, k)) for i in range(count, k + 1))
        expected = (k, count, count / k, count / union, k * k / total)
        assert (row["k"], row["common"], row["share"], row["jaccard"], row["expected"]) == pytest.approx(expected)
        assert row["p_value"] == pytest.approx(float(chance), rel=1e-9)


def test_overlap_by_hand():
    """Top-2 of A are channels 0, 1, of B 2, 0: one in common; P(at least 1) = 1 - C(4,2)/C(6,2) = 1 - 6/15 = 3/5."""
    (row,) = overlap_table(pair_up(A, B), [2]).to_pylist()
    assert row == pytest.approx(
        {"k": 2, "common": 1, "share": 1 / 2, "jaccard": 1 / 3, "expected": 2 / 3, "p_value": 3 / 5}
    )


@pytest.mark.parametrize("k", [0, 7])
def test_k_beyond_the_channels_is_refused(k):
    with pytest.raises(InputError, match=f"k must be between 1 and the 6 channels of the rankings, got {k}"):
        overlap_table(pair_up(A, B), [1, k])


# Correlations


def kendall(x, y) -> float:
    """tau-b, by counting pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    return sum(a * b for a, b in signs) / np.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))


def spearman(x, y) -> float:
    """Pearson's correlation of (twice the) mean ranks, by counting."""
    mean_ranks = [[sum(v < u for v in z) + sum(v <= u for v in z) for u in z] for z in (x, y)]
    return np.corrcoef(*mean_ranks)[0, 1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(ranking_pairs, st.integers(1, 8))
def test_correlations_against_loops(rankings, k):
    pair = pair_up(*rankings)
    union = top(rankings[0], k) | top(rankings[1], k)
    for row, scope in zip(correlation_table(pair, [k]).to_pylist(), [set(pair.channels), union], strict=True):
        x, y = pair.omega[:, [channel in scope for channel in pair.channels]]
        assert row["channels"] == len(scope)
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert row["spearman"] is row["kendall"] is None
        else:
            assert (row["spearman"], row["kendall"]) == pytest.approx((spearman(x, y), kendall(x, y)), abs=1e-12)


def test_equal_and_reversed_rankings():
    (same,) = correlation_table(pair_up(A, A), []).to_pylist()
    assert (same["spearman"], same["kendall"]) == pytest.approx((1, 1))
    (reverse,) = correlation_table(pair_up(A, ranking([0, 1, 2, 3, 4, 5])), []).to_pylist()
    assert (reverse["spearman"], reverse["kendall"]) == pytest.approx((-1, -1))


# Movers


def test_movers_by_hand():
    """Ranks in A are 1 to 6, in B 2 5 1 6 3 4; channels 0, 1, 2 are in a top-2, and 1 moved most (2 to 5)."""
    movers = movers_table(pair_up(A, B), 2).to_pydict()
    assert movers == {
        "key": ["conv1.#1(T=6)", "conv1.#2(T=6)", "conv1.#0(T=6)"],
        "rank_a": [2, 3, 1],
        "rank_b": [5, 1, 2],
        "change": [3, -2, 1],
        "omega_a": [4, 3, 5],
        "omega_b": [1, 5, 4],
    }


# The published rankings


@pytest.fixture(scope="session")
def published(shared):
    return [shared / "published" / f"omega-resnet50-progan_val-{label}.csv" for label in ("fake", "real")]


def run(*arguments) -> click.testing.Result:
    return click.testing.CliRunner().invoke(compare, list(map(str, arguments)), catch_exceptions=False)


def test_fake_against_real(published):
    """Channels for fake and for real images are almost different ones: counted with sets of lines of the files."""
    heads = [{line.partition(",")[0] for line in path.read_text().splitlines()[1:115]} for path in published]
    pair = pair_up(*map(read_ranking, published))
    (row,) = overlap_table(pair, [114]).to_pylist()
    assert row["common"] == len(heads[0] & heads[1]) == 3
    assert row["expected"] == pytest.approx(114**2 / 26_560)
    movers = movers_table(pair, 114)
    assert set(movers["key"].to_pylist()) == heads[0] | heads[1]
    assert overlap_curve(pair.rank)[-1] == 26_560


@pytest.mark.extended
def test_the_command_prints_and_writes(published, tmp_path):
    result = run(*published, "--k", 114, "--k", 27, "--out", tmp_path / "out")
    assert result.exit_code == 0
    for words in ("26560 channels", "union of the two top-27", "of 225 channels in either top-114", "layer4.2.conv1"):
        assert words in result.output
    files = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert files == sorted(
        ["compare.pdf", "compare.png", "run.json"]
        + [f"{name}.{ending}" for name in ("correlations", "movers", "overlap") for ending in ("csv", "parquet")]
    )
    overlap = read_table(tmp_path / "out" / "overlap")
    assert overlap["k"].to_pylist() == [27, 114]
    assert overlap["common"].to_pylist() == [0, 3]
    assert len(read_table(tmp_path / "out" / "movers")) == 225
    assert read_table(tmp_path / "out" / "correlations")["k"].to_pylist() == [None, 27, 114]
    record = directory.read_record(tmp_path / "out")
    assert record["identity"]["arguments"] == {"ks": [27, 114]}
    assert record["identity"]["rankings"] == {
        name: hashlib.sha256("\n".join(channel.key for channel in read_ranking(path).channels).encode()).hexdigest()
        for name, path in zip("ab", published, strict=True)
    }
    assert record["paths"]["rankings"] == [str(path) for path in published]
    assert (record["environment"]["jax"], record["results"]["channels"]) == (jax.__version__, 26_560)


def test_the_command_without_out_writes_nothing(tmp_path, monkeypatch):
    write_ranking(tmp_path / "a.csv", A)
    write_ranking(tmp_path / "b.csv", B)
    monkeypatch.chdir(tmp_path)
    assert "union of the two top-2" in run("a.csv", "b.csv", "--k", 2).output
    assert "biased down" in run("a.csv", "b.csv", "--k", 2).output
    assert "6 channels are there, fewer than k = 9: all of them are taken" in run("a.csv", "b.csv", "--k", 9).output
    assert run("a.csv", "b.csv", "--k", 2, "--quiet").output == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]
    with pytest.raises(InputError, match="--overwrite does nothing without --out"):
        run("a.csv", "b.csv", "--k", 2, "--overwrite")


def test_rankings_of_two_networks_are_refused(published, shared, tmp_path):
    other = shared / "published" / "omega-efb0-progan_val-fake.csv"
    with pytest.raises(InputError, match=r"\(26560 and 21008\): 26560 are only in the first"):
        run(published[0], other, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rankings_of_one_value_have_no_correlation(tmp_path):
    write_ranking(tmp_path / "a.csv", ranking([1, 1, 1]))
    result = run(tmp_path / "a.csv", tmp_path / "a.csv", "--k", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0
    table = read_table(tmp_path / "out" / "correlations")
    assert table["spearman"].to_pylist() == [None, None]


# Figures


@pytest.mark.parametrize(
    ("site", "stage", "kind"),
    [
        ("conv1", "stem", "stem"),
        ("layer1.0.conv1", "layer1", "1x1 reduce"),
        ("layer3.5.conv2", "layer3", "3x3"),
        ("layer4.2.conv3", "layer4", "1x1 expand"),
        ("layer2.0.downsample.0", "layer2", "downsample"),
        ("_conv_stem", "stem", "stem"),
        ("_blocks.0._depthwise_conv", "0", "depthwise"),
        ("_blocks.15._expand_conv", "15", "expand"),
        ("_blocks.7._project_conv", "7", "project"),
        ("_conv_head", "head", "head"),
        ("features.3", "features", "features"),
        ("encoder.2.attention.0", "encoder", "attention"),
    ],
)
def test_places_of_sites(site, stage, kind):
    assert place_of(site) == Place(stage, kind)


def test_every_site_has_a_known_kind(network, model):
    channels = all_channels(model)
    kinds = {place_of(channel.site).kind for channel in channels}
    assert kinds == ({"stem", "1x1 reduce", "3x3", "1x1 expand", "downsample"} if network.architecture == "resnet50"
                     else {"stem", "expand", "depthwise", "project", "head"})  # fmt: skip


def test_bars_are_the_top_channels_of_each_site(rng):
    """Sites of 4, 8 and 2 channels; top-5 are two, three and none of them."""
    sizes = {"conv1": 4, "layer1.0.conv1": 8, "layer2.0.conv2": 2}
    channels = [Channel(site, index, size) for site, size in sizes.items() for index in range(size)]
    omega = rng.uniform(0, 0.1, len(channels))
    omega[[0, 3, 4, 5, 11]] = 0.5
    counts, shares = top_by_site(channels, omega, k=5, images=7).axes
    for axes, heights in ((counts, [2, 3, 0]), (shares, [50, 37.5, 0])):
        bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for box in axes.containers for bar in box}
        assert [bars[i] for i in range(3)] == heights
    assert [label.get_text().strip() for label in shares.get_xticklabels()] == ["stem", "layer1", "layer2"]
    assert "7 images" in counts.get_title()


def test_the_curve_falls_and_the_band_is_around_it(rng):
    omega = rng.gamma(1, size=50)
    (axes,) = omega_curve(omega, 5, 9, band=(0.5 * omega, 2 * omega)).axes
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(1, 51))
    np.testing.assert_array_equal(y, np.sort(omega)[::-1])
    corners = axes.collections[0].get_paths()[0].vertices
    assert {corners[:, 1].min(), corners[:, 1].max()} == {0.5 * omega.min(), 2 * omega.max()}
    assert axes.lines[1].get_xdata()[0] == 5.5


def test_the_overlap_curve_of_equal_rankings_is_flat():
    scatter, curve = comparison(np.stack([np.arange(1, 21)] * 2), 5, ("one", "other")).axes
    assert (curve.lines[0].get_ydata() == 100).all()
    np.testing.assert_allclose(curve.lines[1].get_ydata(), 5 * np.arange(1, 21))
    assert [len(points.get_offsets()) for points in scatter.collections] == [15, 0, 0, 5]


def test_the_scatter_tells_the_two_lists_apart():
    """Channels 1 and 2 are the top-2 of A, 2 and 4 that of B."""
    scatter, _ = comparison(np.array([[1, 2, 3, 4], [3, 1, 4, 2]]), 2, ("one", "other")).axes
    assert [points.get_offsets().tolist() for points in scatter.collections] == [[[3, 4]], [[1, 3]], [[4, 2]], [[2, 1]]]
    assert [points.get_label() for points in scatter.collections] == ["neither: 1", "only A: 1", "only B: 1", "both: 1"]


@pytest.mark.extended
@pytest.mark.parametrize("omega", [[0.0] * 6, [np.nan, 0.3, 0.2, 0.0, 0.0, 0.1], [1e-30, 1, 1, 1, 1, 1]])
def test_figures_of_odd_values_can_be_saved(omega, tmp_path):
    """No relevance at all, sites without any, and a range that no axis can show."""
    omega = np.array(omega)
    channels = [Channel(site, i, 3) for site in ("conv1", "features.1") for i in range(3)]
    figures = [
        omega_curve(omega, 2, 1),
        top_by_site(channels, omega, 2, 1),
        omega_by_kind(channels, omega, 2, 1),
        stability(np.array([4, 2, 0]), np.array([1.0, 0.5, np.nan]), 2, 6),
    ]
    for i, figure in enumerate(figures):
        save_figure(figure, tmp_path / str(i), ("png",))
        assert (tmp_path / f"{i}.png").stat().st_size > 1000

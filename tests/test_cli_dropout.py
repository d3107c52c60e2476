"""`tffjax dropout` and `tffjax find-k` end to end: every file of a run, and every way in which it ends or goes on."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import studies
import tolerances
from command import done, refused, tffjax_command
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score
from studies import assert_same_files, files_of

import tffjax.pipeline.passes
import tffjax.studies.dropout.find_k
import tffjax.studies.dropout.passes
import tffjax.studies.dropout.run
from tffjax.pipeline import parts
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.run import run_dropout
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.rankings import parse_key

OPTIONS = ("--k", "2,5", "--random", 2, "--low", "--each", 4, "--greedy", 2, "--batch-size", 4)
SETTINGS = ["top-2", "random-2", "low-2", "top-5", "random-5", "low-5"]


@pytest.fixture(scope="module", autouse=True)
def networks():
    with studies.networks_by_name():
        yield


@pytest.fixture(autouse=True)
def saves_always(monkeypatch):
    monkeypatch.setattr(tffjax.pipeline.passes, "SAVE_SECONDS", 0.0)


@pytest.fixture
def unplotted(monkeypatch):
    """Drawing takes most of the time of a small run."""
    monkeypatch.setattr(tffjax.studies.dropout.run, "effect_map", mock.MagicMock())
    for module in (tffjax.studies.dropout.run, tffjax.studies.dropout.find_k):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: None)
        monkeypatch.setattr(module, "dropout_curves", mock.MagicMock())


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return studies.make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple:
    """The options that name files."""
    return "--ranking", studies.make_ranking(tmp_path_factory.mktemp("files") / "ranking.csv")


@pytest.fixture(scope="module")
def ranking(files) -> Path:
    return files[1]


@pytest.fixture(scope="module")
def whole(images, files, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    ended = done("dropout", "detector", images, "--out", run, *files, *OPTIONS)
    assert ended.out.splitlines()[-1] == f"8 images scored under 13 settings, 0 skipped; results in {run}"
    return run


def small(images: Path, ranking: Path, *options, weights: str = "detector") -> tuple:
    """The arguments of a run with little to do."""
    return (weights, images, "--ranking", ranking, "--k", 2, "--random", 1, "--batch-size", 4, *options)


def logits_of(images: Path, *sets, pattern: str = "**/*.png") -> np.ndarray:
    """Of the images under sets of keys, from the library: (images, sets)."""
    settings = [Setting(str(i), tuple(map(parse_key, keys))) for i, keys in enumerate(sets)]
    inputs = studies.inputs(images, studies.paths_of(images, pattern))
    return masked_logits(studies.network("detector"), inputs, settings)[..., 0]


def assert_close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=tolerances.F32_PROGRAM, atol=tolerances.F32_PROGRAM)


# What a run holds


def test_a_run_holds_tables_plots_and_provenance(whole):
    pictures = {f"{name}.{ending}" for name in ("dropout", "effects") for ending in ("png", "pdf")}
    names = ("dropout", "draws", "table-e1", "scores", "effects", "greedy", "skipped")
    tables = {f"{name}.{ending}" for name in names for ending in ("csv", "parquet")}
    assert files_of(whole).keys() == pictures | tables | {
        "table-e1.tex",
        "table-e1.html",
        "run.json",
        ".tffjax",
        ".lock",
    }
    record = json.loads((whole / "run.json").read_text())
    assert record["results"] == {"images": 8, "skipped": 0}
    assert record["identity"]["arguments"]["ks"] == [2, 5]


@pytest.mark.parametrize(
    ("weights", "batch_size"),
    [("detector", 3), ("detector", 8), studies.slow("b0", 8)],  # 3: on one device; 8: on two
)
def test_the_baseline_is_predict_bit_for_bit(weights, batch_size, images, ranking, unplotted, tmp_path):
    if weights == "b0":
        ranking = studies.make_ranking(tmp_path / "b0.csv", ["_conv_head.#0(T=1280)", "_conv_head.#1(T=1280)"])
    options = ("--k", 1, "--random", 0, "--batch-size", batch_size)
    done("predict", weights, images, "--batch-size", batch_size, "--out", tmp_path / "predicted")
    done("dropout", weights, images, "--ranking", ranking, *options, "--out", tmp_path / "run")
    predicted = studies.columns(tmp_path / "predicted" / "predictions.parquet")
    ours = studies.columns(tmp_path / "run" / "scores.parquet")
    assert list(ours["path"]) == predicted["path"].tolist()
    assert len(set(predicted["probability"])) == 8
    np.testing.assert_array_equal(ours["baseline"], predicted["score"])


def test_scores_are_those_of_the_library(whole, images):
    found = studies.columns(whole / "scores.parquet")
    draws = [f"random-{k}/{draw}" for k in (2, 5) for draw in (0, 1)]
    assert set(found) == {"path", "generator", "category", "label", "baseline", *SETTINGS, *draws} - {
        "random-2",
        "random-5",
    }
    sets = {
        "baseline": (),
        "top-2": studies.SHUFFLED[:2],
        "top-5": studies.SHUFFLED[:5],
        "low-2": studies.SHUFFLED[-2:],
        "low-5": studies.SHUFFLED[-5:],
    }
    for (name, _), logits in zip(sets.items(), logits_of(images, *sets.values()).T, strict=True):
        assert_close(found[name], logits)
    assert len({tuple(found[name]) for name in sets}) == 5


def test_the_table_is_of_those_scores(whole):
    found = studies.columns(whole / "scores.parquet")
    rows = studies.read(whole / "dropout.parquet")
    assert [row["setting"] for row in rows[::3]] == ["baseline", *SETTINGS]
    assert [row["generator"] for row in rows[:3]] == ["biggan", "progan", "all"]
    fake = found["label"] == "fake"
    averaged = {f"random-{k}": (expit(found[f"random-{k}/0"]) + expit(found[f"random-{k}/1"])) / 2 for k in (2, 5)}
    for row in rows:
        members = np.isin(found["generator"], row["generator"] if row["generator"] != "all" else ("biggan", "progan"))
        p = averaged[row["setting"]] if row["setting"] in averaged else expit(found[row["setting"]])
        assert row["ap"] == pytest.approx(average_precision_score(fake[members], p[members]))
        assert row["fake"] == pytest.approx((p[members & fake] > 0.5).mean())
        assert row["fake_calibrated"] == pytest.approx((p[members & fake] >= expit(row["threshold"])).mean())
        assert row["threshold"] == rows[["biggan", "progan", "all"].index(row["generator"])]["threshold"]
        assert row["published_ap"] is None  # the card does not say that it is the paper's detector
    draws = studies.read(whole / "draws.parquet")
    assert [row["setting"] for row in draws[::3]][1:6] == ["top-2", "random-2/0", "random-2/1", "low-2", "top-5"]


def test_the_papers_numbers_stand_beside_ours_where_the_card_says_that_it_is_its_detector(
    images, ranking, unplotted, tmp_path
):
    model = studies.network("detector")
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, published="EfficientNet-B0"))
    found = run_dropout(model, images, tmp_path / "run", ranking, k=5, draws=1, batch_size=8)
    for row in found.table("dropout").to_pylist():
        known = row["generator"] != "all" and row["setting"] in ("baseline", "top-5")
        assert (row["published_ap"] is not None) == known
    wide = found.table("table-e1")
    names = ["k = 0", "k = 0, published", "top-k, k = 5", "top-k, k = 5, published", "random-k, k = 5"]
    assert wide["setting"].to_pylist() == names
    assert wide.column_names[1::3] == ["progan ap", "biggan ap"]
    assert wide["biggan real"].to_pylist()[1] == pytest.approx(79.7)


def test_effects_of_channels_alone_and_chosen_greedily(whole, images):
    alone = studies.SHUFFLED[:4]
    sets = [(), *((key,) for key in alone), *itertools.combinations(alone, 2)]
    logits = logits_of(images, *sets, pattern="*/1_fake/*.png").astype(np.float64)
    effects = dict(zip(sets, (logits[:, :1] - logits).mean(axis=0), strict=True))
    rows = studies.read(whole / "effects.parquet")
    assert sorted(row["key"] for row in rows) == sorted(alone)
    assert_close([row["effect"] for row in rows], [effects[row["key"],] for row in rows])
    assert_close([row["effect"] for row in rows], sorted((row["effect"] for row in rows), reverse=True))
    omega = np.linspace(0.5, 0.01, len(studies.SHUFFLED))
    assert [row["omega"] for row in rows] == [omega[alone.index(row["key"])] for row in rows]
    first, second = studies.read(whole / "greedy.parquet")
    assert (first["channels"], first["key"]) == (1, rows[0]["key"])
    pairs = {pair: value for pair, value in effects.items() if len(pair) == 2 and first["key"] in pair}
    best = max(pairs, key=pairs.get)
    assert {first["key"], second["key"]} == set(best)
    assert_close([first["effect"], second["effect"]], [effects[first["key"],], pairs[best]])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_second_run_gives_the_same_bytes(whole, images, files, tmp_path):
    done("dropout", "detector", images, "--out", tmp_path / "run", *files, *OPTIONS)
    assert_same_files(tmp_path / "run", whole)


def test_a_batch_is_spread_over_all_devices(images, ranking, unplotted, tmp_path, monkeypatch):
    devices, original = [], tffjax.studies.dropout.passes.put

    def put(batch):
        placed = original(batch)
        devices.append(len(placed.sharding.device_set))
        return placed

    monkeypatch.setattr(tffjax.studies.dropout.passes, "put", put)
    done("dropout", *small(images, ranking), "--out", tmp_path / "two")
    done("dropout", *small(images, ranking, "--chunk", 1)[:-4], "--batch-size", 3, "--out", tmp_path / "one")
    assert devices == [2, 2, 1, 1, 1]
    for name in ("baseline", "top-2", "random-2/0"):
        assert_close(*(studies.columns(tmp_path / run / "scores.parquet")[name] for run in ("one", "two")))


# Going on


@pytest.fixture(scope="module")
def whole_tables(whole, tmp_path_factory) -> Path:
    """The run without its figures."""
    run = tmp_path_factory.mktemp("tables") / "run"
    shutil.copytree(whole, run)
    for picture in (*run.glob("*.png"), *run.glob("*.pdf")):
        picture.unlink()
    return run


# two batches for all settings, two for each of the two greedy steps
@pytest.mark.parametrize("batches", [studies.slow(0), 1, studies.slow(2), 3, studies.slow(5)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(batches, images, files, whole_tables, unplotted, tmp_path):
    run = tmp_path / "run"
    studies.interrupt(batches, "dropout", "detector", images, "--out", run, *files, *OPTIONS)
    with studies.counted_batches() as counter:
        done("dropout", "--resume", run)
    # of a round that is over nothing is repeated; the batch in flight when ctrl-C came is
    assert 1000 - counter.left == 6 - batches
    assert_same_files(run, whole_tables)
    assert "done already" in done("dropout", "--resume", run).out


def test_a_run_is_not_gone_on_with_otherwise(images, files, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other.csv"
    studies.interrupt(1, "dropout", "detector", images, "--out", run, *files, *OPTIONS)
    assert "was made with ks = [2, 5], not [3]" in refused("dropout", "--resume", run, "--k", 3)
    assert "holds an unfinished run" in refused("dropout", "detector", images, "--out", run, *files, *OPTIONS)
    assert "was made by tffjax dropout, not by tffjax find-k" in refused("find-k", "--resume", run)
    shutil.copy(files[1], other)
    studies.make_ranking(files[1], studies.SHUFFLED[::-1])
    try:
        assert "identity.ranking is" in refused("dropout", "--resume", run)
    finally:
        shutil.copy(other, files[1])


def test_a_dry_run_leaves_nothing_and_overwrite_starts_anew(images, ranking, unplotted, tmp_path):
    run = tmp_path / "run"
    ended = done("dropout", *small(images, ranking), "--out", run, "--dry-run")
    assert ended.out == f"would score 8 images under 3 settings, into {run}\n"
    assert not run.exists()
    done("dropout", *small(images, ranking, "--seed", 1), "--out", run)
    assert "holds a finished run" in refused("dropout", *small(images, ranking), "--out", run)
    done("dropout", *small(images, ranking), "--out", run, "--overwrite", "--quiet")
    done("dropout", *small(images, ranking), "--out", tmp_path / "whole")
    assert_same_files(run, tmp_path / "whole")


# What makes trouble


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--k", "0,5"), "'0,5' is not a list of whole numbers above 0, such as 29,57,114"),
        (("--k", "five"), "'five' is not a list"),
        (("--k", "2,2"), "setting top-2 is asked for twice"),
        (("--k", "27"), "cannot draw 26 random channels outside the first 26: only 0 of 26 are left; "),
        (("--k", "14"), "cannot draw 14 random channels outside the first 14: only 12 of 26 are left"),
        (
            ("--keys", ",".join(studies.SHUFFLED[:24]), "--k", "3", "--random", 0, "--low"),
            "--low drops the last 3 channels beside the chosen ones, and the ranking has 2 other channels",
        ),
        (("--greedy", 2), "--greedy chooses among the channels of --each N; give it too"),
        (("--keys", "none.txt"), "'none.txt' is not a channel key such as"),
        (("--ranking", "none.csv"), "none.csv: cannot be read as a ranking"),
    ],
)
def test_what_cannot_be_had_is_said(options, message, images, ranking, tmp_path):
    ended = tffjax_command(
        "dropout", "detector", images, "--ranking", ranking, "--out", tmp_path / "run", "--k", 2, *options
    )
    assert ended.code == 2
    assert message in ended.last
    assert not (tmp_path / "run").exists()


def test_dropout_of_a_classifier(images, ranking, unplotted, tmp_path):
    """The own top-1 under the baseline; draws of random channels are averaged."""
    run = tmp_path / "run"
    options = ("--k", "2", "--random", 2, "--batch-size", 4)
    ended = done("dropout", "classifier", images, "--ranking", ranking, "--out", run, *options)
    assert "the network's own top-1" in ended.out
    model, names = studies.network("classifier"), studies.paths_of(images)
    settings = [Setting("baseline", ()), Setting("top-2", tuple(map(parse_key, studies.SHUFFLED[:2])))]
    logits = masked_logits(model, studies.inputs(images, names), settings).astype(np.float64)
    own, rows = logits[:, 0].argmax(axis=1), studies.read(run / "classes.parquet")
    p = softmax(logits, axis=2)[np.arange(len(names)), :, own]
    assert [row["setting"] for row in rows] == ["baseline", "top-2", "random-2"]
    assert [row["median_probability"] for row in rows[:2]] == pytest.approx(
        np.median(p, axis=0), rel=tolerances.F32_PROGRAM
    )
    assert [row["agreement"] for row in rows[:2]] == [1, (logits[:, 1].argmax(axis=1) == own).mean()]
    scores = studies.read(run / "scores.parquet")
    assert [row["top-2"] for row in scores] == pytest.approx(p[:, 1], rel=tolerances.F32_PROGRAM)
    assert {"baseline", "random-2/0", "random-2/1", "output"} <= scores[0].keys()
    assert not (run / "dropout.csv").exists()


def test_networks_that_have_no_dropout(images, ranking, tmp_path):
    out = ("--out", tmp_path / "run")
    line = refused("dropout", *small(images, ranking, weights="classifier"), "--each", 2, *out)
    assert "--each looks at the logit of fake images, and this network has 1000 outputs" in line
    line = refused("dropout", *small(images, ranking), "--classes", "label", *out)
    assert "--classes is for networks with several outputs" in line
    assert "give --ranking RANK.csv" in refused("dropout", "detector", images, *out)
    other = studies.make_ranking(tmp_path / "other.csv", ["layer1.0.conv1.#63(T=64)"])
    line = refused("dropout", *small(images, other), *out)
    assert "the network has no channel layer1.0.conv1.#63(T=64)" in line
    assert not (tmp_path / "run").exists()
    line = refused("dropout", *small(images, ranking, weights="nan"), *out)
    assert "NaN or infinity, first in the batch with biggan/0_real/0.png" in line
    for command in ("dropout", "find-k"):
        ended = done(command, "--help")
        assert "Example:" in ended.out
        assert f"tffjax {command} detector images/ --ranking run/ranking_fake.csv" in ended.out


def test_unreadable_images(images, ranking, unplotted, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    studies.damage(folder)
    studies.damage(folder, "progan/0_real/1.png", 20)
    ended = done("dropout", *small(folder, ranking), "--out", tmp_path / "run")
    assert "6 images scored under 3 settings, 2 skipped" in ended.out
    rows = studies.read(tmp_path / "run" / "skipped.parquet")
    assert [row["path"] for row in rows] == ["biggan/1_fake/0.png", "progan/0_real/1.png"]
    assert "truncated or damaged" in rows[0]["reason"]
    found = studies.columns(tmp_path / "run" / "scores.parquet")
    assert_close(found["top-2"], np.delete(logits_of(images, studies.SHUFFLED[:2])[:, 0], [2, 5]))
    assert "unreadable (--strict)" in refused("dropout", *small(folder, ranking), "--out", tmp_path / "no", "--strict")
    studies.damage(folder, "progan/0_real/1.png", 0)
    for name in studies.paths_of(folder):
        studies.damage(folder, name)
    for options in ((), ("--resize", 64, "--crop", 64)):
        line = refused("dropout", *small(folder, ranking), "--out", tmp_path / "run", "--overwrite", *options)
        assert "none of the images could be read: " in line


def test_images_without_labels(images, ranking, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, name in enumerate(studies.paths_of(images)[:3]):
        shutil.copy(images / name, flat / f"{i}.png")
    ended = done("dropout", *small(flat, ranking), "--out", tmp_path / "run")
    assert "none of the 3 images has a label" in ended.err
    assert "dropout.csv" not in files_of(tmp_path / "run")
    rows = studies.read(tmp_path / "run" / "scores.parquet")
    assert [(row["path"], row["generator"], row["label"]) for row in rows] == [(f"{i}.png", "", None) for i in range(3)]
    line = refused("dropout", *small(flat, ranking, "--each", 2), "--out", tmp_path / "no")
    assert "--each looks at fake images" in line
    line = refused("find-k", "detector", flat, "--ranking", ranking, "--out", tmp_path / "no")
    assert "find-k needs real and fake images, in folders 0_real and 1_fake" in line
    assert not (tmp_path / "no").exists()


@pytest.mark.extended
@pytest.mark.parametrize("label", ["0_real", "1_fake"])
def test_images_of_one_label(label, images, ranking, tmp_path):
    ended = done("dropout", *small(images / "progan" / label, ranking), "--out", tmp_path / "run")
    assert "AP, the calibrated threshold and the accuracy on" in ended.err
    for row in studies.read(tmp_path / "run" / "dropout.parquet"):
        assert np.isnan(row["ap"])
        assert np.isnan(row["real" if label == "1_fake" else "fake"])
        assert 0 <= row["fake" if label == "1_fake" else "real"] <= 1
    assert "dropout.png" in files_of(tmp_path / "run")


# find-k


DECISIVE = "head.#5(T=8)"
OTHERS = [key for key in studies.SHUFFLED if key.startswith("head") and key != DECISIVE]


@pytest.fixture(scope="module")
def told_apart(tmp_path_factory) -> Path:
    """Images that the decisive network tells apart."""
    folder, unsorted = tmp_path_factory.mktemp("sorted"), tmp_path_factory.mktemp("unsorted")
    return studies.sort_by_decision(folder, unsorted, ("biggan", "cyclegan"), 2)


def find_k(told_apart: Path, folder: Path, keys, *options) -> tuple:
    path = studies.make_ranking(folder / "ranking.csv", keys)
    return "find-k", "decisive", told_apart, "--ranking", path, "--out", folder / "run", "--batch-size", 4, *options


@pytest.mark.extended
def test_k_is_the_place_of_the_channel_that_decides(told_apart, tmp_path):
    """What is in front of it cannot matter: the others of the last site do not reach the output."""
    ended = done(*find_k(told_apart, tmp_path, [*OTHERS[:2], DECISIVE, *OTHERS[2:]], "--random", 2))
    run = tmp_path / "run"
    assert ended.out.splitlines()[-1].startswith("k = 3: the smallest for which on every generator, AP or the accuracy")
    assert ended.err.count("tffjax:") == 0
    results = json.loads((run / "run.json").read_text())["results"]
    assert (results["k"], results["warning"]) == (3, None)
    assert files_of(run).keys() == {
        *("find-k.csv", "find-k.parquet", "find-k.png", "find-k.pdf", "skipped.csv", "skipped.parquet"),
        *("run.json", ".tffjax", ".lock"),
    }
    rows = {(row["setting"], row["generator"]): row["ap"] for row in studies.read(run / "find-k.parquet")}
    assert {setting for setting, _ in rows} == {
        "baseline",
        *(f"{s}-{k}" for s in ("top", "random") for k in (1, 2, 3, 4)),
    }
    for generator in ("biggan", "cyclegan", "all"):
        assert [rows[name, generator] for name in ("baseline", "top-1", "top-2", "top-3", "top-4")] == [
            1,
            1,
            1,
            0.5,
            0.5,
        ]
    assert f"{run} is done already" in done("find-k", "--resume", run).out


@pytest.mark.extended
@pytest.mark.parametrize("batches", [studies.slow(1), 2, studies.slow(3)])  # two for k = 1, 2, 4, two for k = 3
def test_an_interrupted_search_goes_on_to_the_same_bytes(batches, told_apart, unplotted, tmp_path):
    keys = [*OTHERS[:2], DECISIVE, *OTHERS[2:]]
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    arguments = find_k(told_apart, whole, keys)
    done(*arguments)
    arguments = [part if argument == whole / "run" else argument for argument in arguments]
    studies.interrupt(batches, *arguments)
    done("find-k", "--resume", part)
    assert_same_files(part, whole / "run")


def test_every_pass_of_a_search_is_read_once(told_apart, unplotted, tmp_path):
    with mock.patch.object(parts, "read_parts", side_effect=parts.read_parts) as read:
        done(*find_k(told_apart, tmp_path, [*OTHERS[:2], DECISIVE, *OTHERS[2:]]))
    assert [call.args[0].name for call in read.call_args_list] == ["pass-0", "pass-1"]


def test_no_k_is_said(told_apart, unplotted, tmp_path):
    ended = done(*find_k(told_apart, tmp_path, [*OTHERS, DECISIVE], "--max-k", 2, "--random", 0))
    assert ended.out.splitlines()[-1].startswith(
        "no k up to 2 has a substantial drop: none for which on every generator, AP or"
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["results"]["k"] is None
    assert "is done already" in done("find-k", "--resume", tmp_path / "run").out


def test_a_detector_that_takes_real_for_fake_has_no_k(told_apart, tmp_path):
    swapped = tmp_path / "swapped"
    for old, new in (("0_real", "1_fake"), ("1_fake", "0_real")):
        for generator in ("biggan", "cyclegan"):
            shutil.copytree(told_apart / generator / old, swapped / generator / new)
    line = refused(*find_k(swapped, tmp_path, [*OTHERS, DECISIVE]))
    assert "the baseline is not above chance on any generator: there is nothing that could fall" in line

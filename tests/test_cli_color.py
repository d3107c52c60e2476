"""`tffjax color` end to end: every file of a run, and every way in which it ends or goes on."""

import json
import shutil
from pathlib import Path
from unittest import mock

import cases
import jax.numpy as jnp
import numpy as np
import pytest
import studies
import tolerances
from command import done, refused, tffjax_command
from PIL import Image
from scipy import stats
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score
from studies import assert_same_files, files_of

import tffjax.pipeline.passes
import tffjax.studies.color.run
from tffjax.data.ablations import parse
from tffjax.data.preprocessing import grayscale, normalize
from tffjax.studies.color.activations import max_activations
from tffjax.studies.figures import density_grid, dropped_medians
from tffjax.studies.rankings import parse_key

K = 5
KEYS = studies.SHUFFLED[:K]
NAMES = ("grayscale", "noise:30")
OPTIONS = ("--k", K, "--batch-size", 4, "--ablation", "grayscale", "--ablation", "noise:30")
KINDS = ("grayscale", "noise-30")


@pytest.fixture(scope="module", autouse=True)
def networks():
    with studies.networks_by_name():
        yield


@pytest.fixture(autouse=True)
def saves_always(monkeypatch):
    monkeypatch.setattr(tffjax.pipeline.passes, "SAVE_SECONDS", 0.0)


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """Figures by name, instead of their files."""
    figures = {}
    monkeypatch.setattr(
        tffjax.studies.color.run, "save_figure", lambda figure, path: figures.update({path.name: figure})
    )
    return figures


@pytest.fixture
def unplotted(monkeypatch, drawn):
    """No figures, which take most of the time of a small run."""
    monkeypatch.setattr(tffjax.studies.color.run, "figures", mock.MagicMock())


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return studies.make_images(tmp_path_factory.mktemp("images"), count=3)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory) -> Path:
    return studies.make_ranking(tmp_path_factory.mktemp("files") / "ranking.csv")


@pytest.fixture(scope="module")
def figures() -> dict:
    """Those of the whole run."""
    return {}


@pytest.fixture(scope="module")
def whole(images, ranking, figures, tmp_path_factory) -> Path:
    """Of two ablations, without its figures."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            tffjax.studies.color.run, "save_figure", lambda figure, path: figures.update({path.name: figure})
        )
        ended = done("color", "detector", images, "--ranking", ranking, "--out", run, *OPTIONS)
    assert ended.out.splitlines()[-1] == f"12 images tested, 0 skipped; results in {run}"
    return run


def small(images: Path, ranking: Path, *options, weights: str = "detector") -> tuple:
    """The arguments of a run with little to do."""
    return (weights, images, "--ranking", ranking, "--k", 2, "--batch-size", 4, *options)


def samples(run: Path, variants: int = 1 + len(NAMES), k: int = K) -> dict[str, np.ndarray]:
    """The columns of per_image.parquet; activations and logits as (variants, n, ...)."""
    found = studies.columns(run / "per_image.parquet")
    for name in ("activations", "logits"):
        found[name] = np.moveaxis(found[name].reshape(len(found["path"]), variants, -1), 1, 0)
    assert found["activations"].shape[2] == k
    return found


def texts(figure) -> set[str]:
    """All words of a figure."""
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def assert_close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=tolerances.F32_PROGRAM, atol=tolerances.F32_PROGRAM)


# What a run holds


def test_a_run_holds_tables_and_provenance(whole, figures):
    both = [f"densities_{kind}_{end}" for kind in KINDS for end in ("most", "least")]
    both += [f"whiskers_{kind}" for kind in KINDS]
    tables = {f"{name}.{ending}" for name in ("metrics", "grayscale", "table-i1", "tests", "shares", "skipped", *both)
              for ending in ("csv", "parquet")}  # fmt: skip
    wide = {"table-i1.tex", "table-i1.html"}
    assert files_of(whole).keys() == tables | wide | {"per_image.parquet", "run.json", ".tffjax", ".lock"}
    curves = {f"curve_{column}_noise" for column in ("ap", "fake_calibrated")}
    assert figures.keys() == {*both, *curves, *(f"shares_{kind}" for kind in KINDS)}
    record = json.loads((whole / "run.json").read_text())
    assert record["results"] == {"images": 12, "skipped": 0}
    assert record["identity"]["channels"] == list(KEYS)


def test_rows_of_images_are_those_of_the_library(whole, images):
    names, model, found = studies.paths_of(images), studies.network("detector"), samples(whole)
    assert found["path"].tolist() == names
    assert found["label"].tolist() == ["fake" if "1_fake" in name else "real" for name in names]
    pixels, normalization = studies.pixels(images, names), cases.B0_SAME.card().normalization
    for place, ablation in enumerate([None, *map(parse, NAMES)]):
        changed = [
            image if ablation is None else ablation(image, name) for image, name in zip(pixels, names, strict=True)
        ]
        if place == 1:
            np.testing.assert_array_equal(changed, [grayscale(image) for image in pixels])
        inputs = jnp.asarray(normalize(np.stack(changed), normalization))
        logits, activations = max_activations(model, inputs, tuple(map(parse_key, KEYS)))
        assert_close(found["logits"][place], logits)
        assert_close(found["activations"][place], activations)


def test_tests_are_those_of_scipy(whole):
    found, rows = samples(whole), studies.read(whole / "tests.parquet")
    assert [(row["ablation"], row["generator"], row["key"]) for row in rows] == [
        (name, generator, key) for name in NAMES for generator in ("biggan", "progan") for key in KEYS
    ]
    for row in rows:
        members = (found["generator"] == row["generator"]) & (found["label"] == "fake")
        assert row["num"] == members.sum() == 3
        pair = found["activations"][[0, 1 + NAMES.index(row["ablation"])]][:, members, KEYS.index(row["key"])]
        before, after = pair.astype(np.float64)
        expected = stats.median_test(before, after)
        assert row["p"] == pytest.approx(expected.pvalue)
        assert row["p_paired"] == pytest.approx(stats.wilcoxon(before, after).pvalue)
        assert row["color_conditional"] == (row["p"] <= 0.05)
        assert (row["median_before"], row["median_after"]) == pytest.approx((np.median(before), np.median(after)))
    shares = studies.read(whole / "shares.parquet")
    assert [(row["ablation"], row["num_channels"]) for row in shares[::2]] == [(name, K) for name in NAMES]
    for row in shares:
        own = [r["p"] for r in rows if (r["ablation"], r["generator"]) == (row["ablation"], row["generator"])]
        assert row["share"] == pytest.approx(np.mean(np.array(own) <= 0.05))


def test_metrics_and_the_papers_table(whole):
    found = samples(whole)
    p, fake = expit(found["logits"][..., 0].astype(np.float64)), found["label"] == "fake"
    rows = {(row["ablation"], row["generator"]): row for row in studies.read(whole / "metrics.parquet")}
    assert len(rows) == 3 * 3
    for place, name in enumerate(("original", *NAMES)):
        for generator in ("biggan", "progan", "all"):
            own, row = np.isin(found["generator"], [generator] if generator != "all" else ["biggan", "progan"]), None
            row = rows[name, generator]
            assert row["ap"] == pytest.approx(average_precision_score(fake[own], p[place, own]))
            assert row["fake_calibrated"] == pytest.approx((p[place, own & fake] >= expit(row["threshold"])).mean())
            assert row["threshold"] == rows["original", generator]["threshold"]
    table = studies.read(whole / "grayscale.parquet")
    assert [(row["input"], row["generator"]) for row in table] == [
        (kind, generator) for kind in ("Baseline", "Grayscale") for generator in ("biggan", "progan", "all")
    ]
    for row in table:
        ours = rows[{"Baseline": "original", "Grayscale": "grayscale"}[row["input"]], row["generator"]]
        assert row["ap"] == pytest.approx(100 * ours["ap"])
        assert row["acc_fake"] == pytest.approx(
            100 * ours["fake" if row["generator"] == "progan" else "fake_calibrated"]
        )
        assert row["published_ap"] is None  # the card does not say that it is the paper's detector


def test_whiskers_are_of_detected_fakes(whole):
    found = samples(whole)
    p = 100 * expit(found["logits"][..., 0].astype(np.float64))
    for place, kind in enumerate(KINDS, start=1):
        rows = studies.read(whole / f"whiskers_{kind}.parquet")
        assert [(row["generator"], row["num"]) for row in rows] == [("biggan", 3), ("progan", 3)]
        for row in rows:
            own = (found["generator"] == row["generator"]) & (found["label"] == "fake")
            assert row["median_before"] == pytest.approx(np.median(p[0, own]))
            assert row["drop"] == pytest.approx(np.median(p[0, own]) - np.median(p[place, own]))


def test_densities_are_titled_by_what_they_show(figures, whole):
    for kind in KINDS:
        word = "color-conditional" if kind == "grayscale" else "affected"
        for end in ("most", "least"):
            words = texts(figures[f"densities_{kind}_{end}"])
            assert {f"{end} {word}", "BigGAN\nn = 3", "ProGAN\nn = 3"} <= words
    shown = {end: studies.read(whole / f"densities_grayscale_{end}.parquet") for end in ("most", "least")}
    keys = {end: {row["key"] for row in rows} for end, rows in shown.items()}
    assert [len(some) for some in keys.values()] == [3, 2]  # none is at both ends
    assert keys["most"] | keys["least"] == set(KEYS)
    assert {row["generator"] for row in shown["most"]} == {"biggan", "progan"}


def test_figures_of_a_finished_run(whole, tmp_path):
    keys = ",".join(KEYS[1:3])
    ended = done("figure", "densities", whole, "--keys", keys, "--generators", "ProGAN", "--out", tmp_path / "d")
    assert ended.out == f"2 channels drawn, in {tmp_path / 'd'}\n"
    assert {"densities.png", "densities.pdf", "run.json"} <= files_of(tmp_path / "d").keys()
    done("figure", "medians", whole, "--out", tmp_path / "m", "--ablation", "noise:30")
    figure = density_grid(whole, KEYS[1:3], ablation="noise:30")
    rows = {(row["generator"], row["key"]): row for row in studies.read(whole / "tests.parquet")
            if row["ablation"] == "noise:30"}  # fmt: skip
    titles = [axes.get_title().split("\n") for axes in figure.axes]
    order = [("progan", KEYS[1]), ("biggan", KEYS[1]), ("progan", KEYS[2]), ("biggan", KEYS[2])]
    for title, place in zip(titles, order, strict=True):
        row = rows[place]
        assert title[0] == f"{row['median_before']:.3g} \N{RIGHTWARDS ARROW} {row['median_after']:.3g}"
        assert title[1] == f"p = {row['p']:.1g}"
    drops = {f"{row['drop'] + 0:.1f}" for row in studies.read(whole / "whiskers_noise-30.parquet")}
    assert drops <= {text.replace("-0.0", "0.0") for text in texts(dropped_medians(whole, ablation="noise:30"))}
    out = ("--out", tmp_path / "no")
    assert "has no ablation blur:1; it has grayscale, noise:30" in refused(
        "figure", "densities", whole, "--ablation", "blur:1", *out
    )
    assert "the runs have no generator x; they have progan, biggan" in refused(
        "figure", "medians", whole, "--generators", "x", *out
    )
    assert "is not a finished run of tffjax lrpmax" in refused("figure", "collage", whole, *out)
    assert not (tmp_path / "no").exists()


def test_gray_images_do_not_change(images, ranking, drawn, tmp_path):
    folder = tmp_path / "gray"
    for name in studies.paths_of(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(images / name).convert("L").save(folder / name)
    run = tmp_path / "run"
    done("color", *small(folder, ranking), "--out", run)
    found = samples(run, 2, 2)
    np.testing.assert_array_equal(*found["activations"])
    np.testing.assert_array_equal(*found["logits"])
    for row in studies.read(run / "tests.parquet"):
        assert (row["p"], row["p_paired"], row["effect"], row["color_conditional"]) == (1, 1, 0, False)
    assert [row["drop"] for row in studies.read(run / "whiskers_grayscale.parquet")] == [0, 0]
    assert "curve_ap_grayscale" not in drawn  # no strengths


@pytest.mark.parametrize(("weights", "count"), [("sure", 2), ("unsure", 0)])
def test_whiskers_need_fakes_that_are_detected(weights, count, images, ranking, drawn, tmp_path):
    ended = done("color", *small(images, ranking, weights=weights), "--out", tmp_path / "run")
    assert ("whiskers_grayscale.csv" in files_of(tmp_path / "run")) == ("whiskers_grayscale" in drawn) == bool(count)
    assert ("no fake image has p >= 0.20, so there are no whisker plots" in ended.err) == (not count)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_figures_are_written_and_the_second_run_gives_the_same_bytes(images, ranking, tmp_path):
    for name in ("one", "two"):
        done("color", *small(images, ranking, "--ablation", "jpeg:30"), "--out", tmp_path / name)
    names = {f"{kind}_jpeg-30" for kind in ("shares", "whiskers", "densities")}
    pictures = {path.stem for path in (tmp_path / "one").glob("*.png")}
    assert pictures == {path.stem for path in (tmp_path / "one").glob("*.pdf")}
    assert len(pictures) == 6  # two curves, two of densities
    assert names - {"densities_jpeg-30"} <= pictures
    assert_same_files(tmp_path / "two", tmp_path / "one")


def test_a_batch_is_spread_over_all_devices(images, ranking, unplotted, tmp_path, monkeypatch):
    devices, original = [], tffjax.studies.color.run.put

    def put(batch):
        placed = original(batch)
        devices.append(len(placed.sharding.device_set))
        return placed

    monkeypatch.setattr(tffjax.studies.color.run, "put", put)
    done("color", *small(images, ranking), "--out", tmp_path / "two")
    done("color", *small(images, ranking, "--batch-size", 3), "--out", tmp_path / "one")
    assert devices == [2] * 3 + [1] * 4
    two, one = (samples(tmp_path / run, 2, 2) for run in ("two", "one"))
    assert_close(two["activations"], one["activations"])


# Networks with several outputs


def write_classes(path: Path, images: Path) -> np.ndarray:
    """The first half of the names with their folders, the others without."""
    names = studies.paths_of(images)
    classes = np.arange(len(names)) * 7
    path.write_text("path,class\n" + "".join(f"{n},{c}\n" for n, c in zip(names, classes, strict=True)))
    return classes


def test_the_correct_class_of_a_classifier(images, ranking, drawn, tmp_path):
    flat, run = tmp_path / "flat", tmp_path / "run"
    flat.mkdir()
    for i, name in enumerate(studies.paths_of(images)[:5]):
        shutil.copy(images / name, flat / f"{i}.png")
    classes = write_classes(tmp_path / "classes.csv", flat)
    options = ("--classes", tmp_path / "classes.csv", "--ablation", "blur:1,2")
    ended = done("color", *small(flat, ranking, *options, weights="classifier"), "--out", run)
    assert "the correct class" in ended.out
    found = samples(run, 3, 2)
    assert found["logits"].shape == (3, 5, 1000)
    p = softmax(found["logits"].astype(np.float64), axis=2)[:, np.arange(5), classes]
    rows = studies.read(run / "classes.parquet")
    assert [(row["ablation"], row["num"]) for row in rows] == [("original", 5), ("blur:1", 5), ("blur:2", 5)]
    assert [row["median_probability"] for row in rows] == pytest.approx(np.median(p, axis=1))
    assert [row["drop"] for row in rows] == pytest.approx(np.median(p[0]) - np.median(p, axis=1))
    assert not {"metrics.csv", "grayscale.csv", "whiskers_blur-1.csv"} & files_of(run).keys()
    assert {row["generator"] for row in studies.read(run / "tests.parquet")} <= {"", None}
    assert {"densities_blur-1_most", "curve_median_probability_blur"} <= drawn.keys()


def test_the_class_that_the_data_say(images, ranking, unplotted, tmp_path):
    """As the same classes in a table."""
    names = studies.paths_of(images)
    classes = dict(zip(names, np.arange(len(names)) * 7, strict=True))
    (tmp_path / "list.csv").write_text(
        "path,category\n" + "".join(f"{images / name},{output}\n" for name, output in classes.items())
    )
    (tmp_path / "classes.csv").write_text("path,class\n" + "".join(f"{n},{c}\n" for n, c in classes.items()))
    tables = []
    for i, given in enumerate(("label", tmp_path / "classes.csv")):
        options = ("--classes", given, "--out", tmp_path / f"{i}")
        done("color", *small(tmp_path / "list.csv", ranking, *options, weights="classifier"))
        tables.append(studies.read(tmp_path / f"{i}" / "classes.parquet"))
    assert tables[0] == tables[1]
    assert "is not one class" in refused(
        "color", *small(images, ranking, weights="classifier"), "--classes", "label", "--out", tmp_path / "run"
    )


def test_without_classes_the_own_top_1_is_kept_or_not(images, ranking, drawn, tmp_path):
    run = tmp_path / "run"
    ended = done("color", *small(images, ranking, "--ablation", "noise:80", weights="classifier"), "--out", run)
    assert "the network's own top-1 on the original images, without --classes" in ended.out
    logits = samples(run, 2, 2)["logits"].astype(np.float64)
    own = logits[0].argmax(axis=1)
    p = softmax(logits, axis=2)[:, np.arange(12), own]
    before, after = studies.read(run / "classes.parquet")
    assert list(before) == ["ablation", "num", "median_probability", "drop", "agreement", "network"]
    assert f"{before['network']})" in " ".join(ended.out.split())
    assert [row["median_probability"] for row in (before, after)] == pytest.approx(np.median(p, axis=1))
    assert (before["agreement"], after["agreement"]) == (1, (logits[1].argmax(axis=1) == own).mean())


def test_classes_that_do_not_fit(images, ranking, tmp_path):
    out, path = ("--out", tmp_path / "run"), tmp_path / "classes.csv"
    arguments = small(images, ranking, weights="classifier")
    line = refused("color", *small(images, ranking, "--classes", path), *out)
    assert "--classes is for networks with several outputs" in line
    assert "classes.csv: No such file" in refused("color", *arguments, *out, "--classes", path)
    for text in ("name,class\na,1\n", "path,class\na,cat\n", "path,class\na\n"):
        path.write_text(text)
        line = refused("color", *arguments, *out, "--classes", path)
        assert "not a CSV with the columns path and class (a whole number)" in line
    for last in ("", "progan/1_fake/2.png,1000\n", "progan/1_fake/2.png,-1\n"):
        names = [name for name in studies.paths_of(images) if name != "progan/1_fake/2.png"]
        path.write_text("path,class\n" + "".join(f"{name},3\n" for name in names) + last)
        line = refused("color", *arguments, *out, "--classes", path)
        assert "no class from 0 to 999 for progan/1_fake/2.png" in line
    assert not (tmp_path / "run").exists()


# Going on


@pytest.mark.parametrize("batches", [studies.slow(0), 1, studies.slow(2)])  # of three
def test_an_interrupted_run_goes_on_to_the_same_bytes(batches, images, ranking, whole, unplotted, tmp_path):
    run = tmp_path / "run"
    studies.interrupt(batches, "color", "detector", images, "--ranking", ranking, "--out", run, *OPTIONS)
    with studies.counted_batches() as counter:
        done("color", "--resume", run)
    assert 1000 - counter.left == 3 - batches
    assert_same_files(run, whole)
    assert "done already" in done("color", "--resume", run).out
    assert_same_files(run, whole)


def test_a_run_is_not_gone_on_with_otherwise(images, ranking, tmp_path):
    run = tmp_path / "run"
    studies.interrupt(1, "color", *small(images, ranking), "--out", run)
    line = refused("color", "--resume", run, "--ablation", "blur:1")
    assert "was made with ablations = ['grayscale'], not ['blur:1']" in line
    assert "was made with k = 2, not 3" in refused("color", "--resume", run, "--k", 3)
    assert "identity.images.count is 6 here and was 12 there" in refused(
        "color", "--resume", run, "detector", images / "progan"
    )


def test_a_dry_run_leaves_nothing_and_overwrite_starts_anew(images, ranking, unplotted, tmp_path):
    run = tmp_path / "run"
    ended = done("color", *small(images, ranking), "--out", run, "--dry-run")
    assert ended.out == f"would test 2 channels under grayscale on 12 images, into {run}\n"
    assert not run.exists()
    done("color", *small(images, ranking, "--ablation", "blur:1"), "--out", run)
    assert "holds a finished run" in refused("color", *small(images, ranking), "--out", run)
    ended = done("color", *small(images, ranking), "--out", run, "--overwrite", "--quiet")
    assert ended.out + ended.err == ""
    done("color", *small(images, ranking), "--out", tmp_path / "whole")
    assert_same_files(run, tmp_path / "whole")


# What makes trouble


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keys", "conv9.#0(T=4)"), "--keys names conv9.#0(T=4), which is none of the channels of the ranking"),
        (
            ("--where", "color-conditional"),
            "--where color-conditional and --color RUN, of tffjax color, need each other",
        ),
        (("--ranking", "none.csv"), "none.csv: cannot be read as a ranking"),
        (("--ablation", "jpeg:30,30"), "an ablation is given twice"),
        (("--ablation", "sepia"), "sepia"),
        (("--ablation", "jpeg:0"), "jpeg"),
        (("--ablation", "jpeg"), "jpeg"),
        (("--k", 0), "0 is not in the range"),
    ],
)
def test_what_cannot_be_had_is_said(options, message, images, ranking, tmp_path):
    ended = tffjax_command("color", *small(images, ranking, *options), "--out", tmp_path / "run")
    assert ended.code == 2
    assert message in ended.last
    assert not (tmp_path / "run").exists()


def test_networks_that_do_not_fit(images, ranking, tmp_path):
    out = ("--out", tmp_path / "run")
    assert "give --ranking RANK.csv" in refused("color", "detector", images, *out)
    other = studies.make_ranking(tmp_path / "other.csv", ["layer1.0.conv1.#63(T=64)", "conv1.#0(T=64)"])
    assert "the network has no channel layer1.0.conv1.#63" in refused("color", *small(images, other), *out)
    assert not (tmp_path / "run").exists()
    line = refused("color", *small(images, ranking, weights="nan"), *out)
    assert "the network gives NaN or infinity (logits), first batch with biggan/0_real/0.png" in line
    ended = done("color", "--help")
    assert "Example:" in ended.out
    assert "tffjax color detector images/ --ranking run/ranking_fake.csv" in ended.out


def test_unreadable_images(images, ranking, unplotted, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    studies.damage(folder)
    studies.damage(folder, "progan/0_real/1.png", 20)
    ended = done("color", *small(folder, ranking), "--out", tmp_path / "run")
    assert "10 images tested, 2 skipped" in ended.out
    skipped = [row["path"] for row in studies.read(tmp_path / "run" / "skipped.parquet")]
    assert skipped == ["biggan/1_fake/0.png", "progan/0_real/1.png"]
    found = samples(tmp_path / "run", 2, 2)
    assert found["path"].tolist() == [name for name in studies.paths_of(folder) if name not in skipped]
    channels = tuple(map(parse_key, KEYS[:2]))
    inputs = studies.inputs(folder, found["path"])
    assert_close(found["activations"][0], max_activations(studies.network("detector"), inputs, channels)[1])
    assert "unreadable (--strict)" in refused("color", *small(folder, ranking), "--out", tmp_path / "no", "--strict")
    for name in studies.paths_of(folder):
        studies.damage(folder, name)
    for options in ((), ("--crop", 64)):
        line = refused("color", *small(folder, ranking, *options), "--out", tmp_path / "run", "--overwrite")
        assert "none of the images could be read: " in line


def test_images_without_labels(images, ranking, drawn, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(images / "progan/1_fake/0.png", flat / "a.png")
    ended = done("color", *small(flat, ranking), "--out", tmp_path / "run")
    assert "none of the 1 images has a label" in ended.err
    names = files_of(tmp_path / "run").keys()
    assert names == {
        "per_image.parquet",
        *(
            f"{name}.{ending}"
            for name in ("tests", "shares", "skipped", "densities_grayscale_most", "densities_grayscale_least")
            for ending in ("csv", "parquet")
        ),
        *("run.json", ".tffjax", ".lock"),
    }
    for row in studies.read(tmp_path / "run" / "tests.parquet"):
        assert row["num"] == 1
        assert row["p"] == 1


@pytest.mark.parametrize("label", ["0_real", "1_fake"])
def test_images_of_one_label(label, images, ranking, drawn, tmp_path):
    ended = done("color", *small(images / "progan" / label, ranking, "--ablation", "blur:1"), "--out", tmp_path / "run")
    assert "AP, the calibrated threshold and the accuracy on" in ended.err
    for row in studies.read(tmp_path / "run" / "metrics.parquet"):
        assert np.isnan(row["ap"])
        assert 0 <= row["fake" if label == "1_fake" else "real"] <= 1
    assert ("whiskers_blur-1" in drawn) == (label == "1_fake")
    for figure in drawn.values():
        assert texts(figure)

"""`tffjax lrpmax` end to end: every file of a run, and every way in which it ends or goes on."""

import json
import shutil
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pyarrow.parquet
import pytest
import studies
import tolerances
from command import done, refused
from PIL import Image
from studies import assert_same_files, files_of
from test_rank import share_of

import tffjax.data.reading
import tffjax.pipeline.passes
import tffjax.studies.lrpmax.batch
import tffjax.studies.lrpmax.figures
import tffjax.studies.lrpmax.neurons
import tffjax.studies.lrpmax.run
from tffjax.results.figures import blend
from tffjax.studies.figures import collage
from tffjax.studies.lrpmax.figures import lightened, patch_cell
from tffjax.studies.lrpmax.neurons import lrp_max
from tffjax.studies.lrpmax.patches import read_patches, window
from tffjax.studies.lrpmax.plan import plan
from tffjax.studies.lrpmax.tables import decode_map, encode_map

KEYS = ("head.#2(T=8)", "stem.#4(T=6)", "project.#1(T=6)", "depthwise.#3(T=6)", "stem.#0(T=6)")
OPTIONS = ("--k", 5, "--top", 2, "--batch-size", 4)
MAP = ("map_top", "map_left", "map_height", "map_width")


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
    monkeypatch.setattr(tffjax.studies.lrpmax.figures, "save_figure", lambda *arguments: None)
    monkeypatch.setattr(tffjax.studies.lrpmax.figures, "draw_collage", mock.MagicMock())


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return studies.make_images(tmp_path_factory.mktemp("images"), count=3)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory) -> Path:
    return studies.make_ranking(tmp_path_factory.mktemp("files") / "ranking.csv", KEYS)


@pytest.fixture(scope="module")
def whole(images, ranking, tmp_path_factory) -> Path:
    """Fakes only: six images, two batches in each pass."""
    run = tmp_path_factory.mktemp("whole") / "run"
    ended = done("lrpmax", "asleep", images, "--ranking", ranking, "--out", run, *OPTIONS)
    assert ended.out.splitlines()[-1] == f"20 neurons explained, 0 images skipped; results in {run}"
    return run


def small(images: Path, ranking: Path, *options, weights: str = "detector") -> tuple:
    """The arguments of a run with little to do."""
    return (weights, images, "--ranking", ranking, "--k", 2, "--top", 1, "--batch-size", 4, *options)


def whole_map(row: dict) -> np.ndarray:
    """A map of maps.parquet as one of the whole image."""
    top, left, height, width = (row[name] for name in MAP)
    found = np.zeros((64, 64), np.float32)
    codes = np.array(row["map"], np.int8).reshape(height, width)
    found[top : top + height, left : left + width] = decode_map(codes, row["map_scale"])
    return found


def code_error(relevance: np.ndarray) -> np.ndarray:
    """By how much a stored map may be off, as `encode_map` says."""
    largest = np.abs(relevance).max(initial=0)
    return np.sqrt(np.abs(relevance) * largest) / 127 + largest / 64516


def check_run(run: Path, images: Path, pattern: str, weights: str, keys=KEYS, top: int = 2) -> None:
    """The index and the maps of a run by activation are those of the library for the same images."""
    names = studies.paths_of(images, pattern)
    expected = lrp_max(studies.network(weights), studies.inputs(images, names), keys)
    index, maps = (studies.read(run / f"{name}.parquet") for name in ("index", "maps"))
    generators = sorted({name.split("/")[0] for name in names})
    order = [(key, generator, rank + 1) for key in keys for generator in generators for rank in range(top)]
    assert [(row["key"], row["generator"], row["rank"]) for row in index] == order
    assert [(row["key"], row["generator"], row["rank"]) for row in maps] == order
    for row, drawn in zip(index, maps, strict=True):
        own = [i for i, name in enumerate(names) if name.startswith(row["generator"] + "/")]
        values = expected.values[own, keys.index(row["key"])]
        image = own[np.argsort(-values, kind="stable")[row["rank"] - 1]]
        here = image, keys.index(row["key"])
        assert row["path"] == drawn["path"] == names[image]
        assert row["score"] == row["value"]
        np.testing.assert_allclose(row["value"], expected.values[here], rtol=tolerances.F32_PROGRAM)
        assert [row["row"], row["column"]] == expected.positions[here].tolist()
        box = [row[name] for name in ("top", "bottom", "left", "right")]
        assert box == expected.boxes[here].tolist()
        largest = np.abs(expected.maps[here]).max()
        off = np.abs(whole_map(drawn) - expected.maps[here])
        assert (off <= code_error(expected.maps[here]) + tolerances.F32_PROGRAM * largest).all()
        assert drawn["map_height"] * drawn["map_width"] == len(drawn["map"])


# What a run holds


def test_a_run_holds_tables_patches_collages_and_provenance(whole):
    collages = {"patches_1.png", "patches_1.pdf", "places_1.png"}
    tables = {"index.parquet", "index.csv", "maps.parquet", "skipped.csv", "skipped.parquet"}
    folders = ("001_head._2_T_8", "002_stem._4_T_6", "003_project._1_T_6", "004_depthwise._3_T_6", "005_stem._0_T_6")
    # the first channel is asleep, and has no patches
    patches = {f"patches/{f}/{g}_0{rank}.png" for f in folders[1:] for g in ("biggan", "progan") for rank in (1, 2)}
    assert files_of(whole).keys() == collages | tables | patches | {"run.json", ".tffjax", ".lock"}
    record = json.loads((whole / "run.json").read_text())
    assert record["results"] == {"explained": 20, "skipped": 0}
    assert record["identity"]["channels"] == list(KEYS)
    assert studies.read(whole / "index.parquet") == [
        {name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for name, value in row.items()}
        for row in studies.read(whole / "index.parquet")
    ]


@pytest.mark.extended
def test_index_and_maps_are_those_of_the_library(whole, images):
    check_run(whole, images, "*/1_fake/*.png", "asleep")


def test_maps_are_stored_as_the_smallest_crop(whole):
    rows = studies.read(whole / "maps.parquet")
    for row in rows:
        crop = np.reshape(row["map"], (row["map_height"], row["map_width"]))
        assert not row["map"] or (crop[[0, -1]].any(axis=1).all() and crop[:, [0, -1]].any(axis=0).all())
    stem = [row["map_height"] for row in rows if row["key"].startswith("stem")]
    assert max(stem) <= 3  # a 3x3 convolution on the image


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e9])
def test_codes_of_maps_read_back(scale, rng):
    relevance = (scale * rng.standard_normal((40, 30)) ** 5).astype(np.float32)
    codes, unit = encode_map(relevance)
    assert np.abs(codes).max() == 127
    assert (np.abs(decode_map(codes, unit) - relevance) <= 1.001 * code_error(relevance)).all()
    np.testing.assert_array_equal(decode_map(*encode_map(0 * relevance)), 0)
    assert encode_map(relevance[:0])[0].shape == (0, 30)


def test_patches_are_what_is_in_the_boxes(whole, images):
    for row in studies.read(whole / "index.parquet"):
        folder = f"00{KEYS.index(row['key']) + 1}_*"
        found = list(whole.glob(f"patches/{folder}/{row['generator']}_0{row['rank']}.png"))
        assert len(found) == (row["value"] > 0)
        if not found:
            continue
        (pixels,) = studies.pixels(images, [row["path"]])
        expected = pixels[row["top"] : row["bottom"], row["left"] : row["right"]]
        np.testing.assert_array_equal(np.asarray(Image.open(found[0])), expected)


def test_collages_of_a_finished_run(whole, images, tmp_path):
    arguments = ("--keys", ",".join(KEYS[:3]), "--generators", "ProGAN,biggan", "--each", 2)
    done("figure", "collage", whole, *arguments, "--context", 2, "--heat", "--out", tmp_path / "c")
    assert {"collage.png", "collage.pdf", "run.json"} <= files_of(tmp_path / "c").keys()
    plain = read_patches(whole, KEYS[:3], ("biggan",), 2)
    assert plain.keys() == {(key, "biggan") for key in KEYS[1:3]}  # the first channel is asleep
    rows = {(row["key"], row["generator"], row["rank"]): row for row in studies.read(whole / "index.parquet")}
    maps = {(row["key"], row["generator"], row["rank"]): row for row in studies.read(whole / "maps.parquet")}
    around = read_patches(whole, KEYS[:3], ("biggan",), 2, context=2.0)
    for (key, generator), some in around.items():
        for rank, (patch, alone) in enumerate(zip(some, plain[key, generator], strict=True), start=1):
            row = rows[key, generator, rank]
            top, bottom, left, right = patch.frame
            np.testing.assert_array_equal(patch.pixels[top:bottom, left:right], alone.pixels)
            (image,) = studies.pixels(images, [row["path"]])
            relevance = whole_map(maps[key, generator, rank])[row["top"] : row["bottom"], row["left"] : row["right"]]
            hot = read_patches(whole, (key,), (generator,), 2, heat=True)[key, generator][rank - 1].pixels
            np.testing.assert_array_equal(hot, blend(alone.pixels, relevance))
            assert len(image) == 64
    figure = collage(whole, KEYS[1:3], each=2)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["ProGAN", "BigGAN"]
    assert figure.get_suptitle().startswith("LRP-max: patches, the 2 images of each generator")
    assert "so there are no patches" in refused("figure", "collage", whole, "--keys", KEYS[0], "--out", tmp_path / "no")


@pytest.mark.parametrize(
    ("box", "expected"),
    [((4, 8, 4, 6), (2, 10, 1, 9)), ((0, 4, 12, 16), (0, 8, 8, 16)), ((0, 12, 2, 9), (0, 16, 0, 16))],
)
def test_what_is_around_a_patch_stays_in_the_image(box, expected):
    assert window(np.array(box), (16, 16), 2.0).tolist() == list(expected)


def test_dark_patches_are_lightened_with_their_factor():
    dark = np.array([[[51, 10, 0], [0, 0, 0]]], np.uint8)
    pixels, factor = lightened(dark)
    assert (factor, pixels.tolist()) == (5, [[[255, 50, 0], [0, 0, 0]]])
    assert lightened(dark // 51)[1] == 16  # a factor of 255 would show rounding
    assert lightened(dark * 3)[1] == 1
    for shape in ((1, 2, 3), (7, 3, 3), (200, 100, 3)):
        cell = patch_cell(np.zeros(shape, np.uint8))
        filled = (cell < 250).any(axis=2)
        assert max(np.ptp(np.nonzero(filled)[axis]) for axis in (0, 1)) == 95  # the longer side fills the cell


def test_a_channel_that_is_never_active_has_empty_maps(whole):
    rows = [row for row in studies.read(whole / "index.parquet") if row["key"] == KEYS[0]]
    assert [row["value"] for row in rows] == [-1] * 4
    assert [[row[name] for name in ("top", "bottom", "left", "right")] for row in rows] == [[0, 64, 0, 64]] * 4
    maps = [row for row in studies.read(whole / "maps.parquet") if row["key"] == KEYS[0]]
    assert [(row["map_height"], row["map_width"], row["map"]) for row in maps] == [(0, 0, [])] * 4


@pytest.mark.extended
def test_by_relevance(images, ranking, unplotted, tmp_path):
    run = tmp_path / "run"
    done("lrpmax", "detector", images, "--ranking", ranking, "--out", run, *OPTIONS, "--by", "relevance")
    model, names = studies.network("detector"), studies.paths_of(images, "*/1_fake/*.png")
    shares = {name: dict(zip(studies.KEYS, share_of(images / name, model, 1), strict=True)) for name in names}
    expected = lrp_max(model, studies.inputs(images, names), KEYS)
    for row in studies.read(run / "index.parquet"):
        own = {name: found[row["key"]] for name, found in shares.items() if name.startswith(row["generator"])}
        assert row["path"] == sorted(own, key=own.get, reverse=True)[row["rank"] - 1]
        np.testing.assert_allclose(row["score"], own[row["path"]], rtol=tolerances.F32_PROGRAM)
        here = names.index(row["path"]), KEYS.index(row["key"])
        assert [row["row"], row["column"]] == expected.positions[here].tolist()
        np.testing.assert_allclose(row["value"], expected.values[here], rtol=tolerances.F32_PROGRAM)


@pytest.mark.extended
def test_neurons_behind_gates_are_explained_on_crops_with_the_gates_of_the_search(
    images, ranking, unplotted, tmp_path, monkeypatch
):
    """As if there were many images: the search is not repeated, and each pass decodes an image once."""
    plans, searched, decoded = [], [], []

    def for_many(model, size, neurons, images):
        plans.append(plan(model, size, neurons, 10**9))
        return plans[-1]

    def counted(calls, function):
        return lambda *arguments: calls.append(arguments) or function(*arguments)

    monkeypatch.setattr(tffjax.studies.lrpmax.batch, "plan", for_many)
    monkeypatch.setattr(tffjax.studies.lrpmax.batch, "maxima", counted(searched, tffjax.studies.lrpmax.batch.maxima))
    monkeypatch.setattr(tffjax.data.reading, "decode_known", counted(decoded, tffjax.data.reading.decode_known))
    run = tmp_path / "run"
    done("lrpmax", "asleep", images, "--ranking", ranking, "--out", run, *OPTIONS)
    assert plans[0].crops["project"].gates == ("se.gate",)
    assert len(searched) == 2  # batches of the first pass
    assert len(decoded) == 6 + len({row["path"] for row in studies.read(run / "index.parquet")})
    check_run(run, images, "*/1_fake/*.png", "asleep")


@pytest.mark.extended
@pytest.mark.parametrize(("label", "pattern"), [("real", "*/0_real/*.png"), ("any", "**/*.png")])
def test_other_labels(label, pattern, images, ranking, unplotted, tmp_path):
    run = tmp_path / "run"
    done("lrpmax", *small(images, ranking), "--out", run, "--label", label)
    check_run(run, images, pattern, "detector", KEYS[:2], top=1)


def test_only_images_that_can_be_top_ones_are_looked_at(images, ranking, unplotted, tmp_path):
    with studies.counted_batches() as counter:
        done("lrpmax", *small(images, ranking), "--out", tmp_path / "run")
    assert 1000 - counter.left == 2 + 1  # six fakes of twelve images, then two to four of them


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_real_network(images, unplotted, tmp_path):
    keys = ("_blocks.1._depthwise_conv.#7(T=96)", "_blocks.9._expand_conv.#0(T=672)")  # on crops, in full
    ranking = studies.make_ranking(tmp_path / "ranking.csv", keys)
    options = ("--ranking", ranking, "--k", 2, "--top", 1, "--batch-size", 4)
    done("lrpmax", "b0", images, *options, "--out", tmp_path / "run")
    check_run(tmp_path / "run", images, "*/1_fake/*.png", "b0", keys, top=1)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_second_run_gives_the_same_bytes(whole, images, ranking, tmp_path):
    done("lrpmax", "asleep", images, "--ranking", ranking, "--out", tmp_path / "run", *OPTIONS)
    assert_same_files(tmp_path / "run", whole)


def test_a_batch_is_spread_over_all_devices(images, ranking, unplotted, tmp_path, monkeypatch):
    devices, original = {"images": set(), "crops": set()}, tffjax.studies.lrpmax.batch.put

    def recorded(what):
        def put(batch):
            placed = original(batch)
            devices[what] |= {len(array.sharding.device_set) for array in jax.tree.leaves(placed)}
            return placed

        return put

    monkeypatch.setattr(tffjax.studies.lrpmax.batch, "put", recorded("images"))
    monkeypatch.setattr(tffjax.studies.lrpmax.neurons, "put", recorded("crops"))
    done("lrpmax", *small(images, ranking), "--out", tmp_path / "run")
    assert devices == {"images": {2}, "crops": {2}}


# Going on


@pytest.fixture(scope="module")
def whole_tables(whole, tmp_path_factory) -> Path:
    """The run without its collages."""
    run = tmp_path_factory.mktemp("tables") / "run"
    shutil.copytree(whole, run)
    for picture in (*run.glob("*.png"), *run.glob("*.pdf")):
        picture.unlink()
    return run


@pytest.mark.parametrize("batches", [studies.slow(0), 1, studies.slow(2), 3])  # two in each pass
def test_an_interrupted_run_goes_on_to_the_same_bytes(batches, images, ranking, whole_tables, unplotted, tmp_path):
    run = tmp_path / "run"
    studies.interrupt(batches, "lrpmax", "asleep", images, "--ranking", ranking, "--out", run, *OPTIONS)
    with studies.counted_batches() as counter:
        done("lrpmax", "--resume", run)
    assert 1000 - counter.left == 4 - batches
    assert_same_files(run, whole_tables)
    assert "done already" in done("lrpmax", "--resume", run).out
    assert_same_files(run, whole_tables)


def test_a_dry_run_leaves_nothing_and_overwrite_starts_anew(images, ranking, unplotted, tmp_path):
    run = tmp_path / "run"
    ended = done("lrpmax", *small(images, ranking), "--out", run, "--dry-run")
    assert ended.out == f"would explain 2 channels on their top 1 of 6 images for 2 generators, into {run}\n"
    assert not run.exists()
    done("lrpmax", *small(images, ranking, "--label", "any"), "--out", run)
    assert "holds a finished run" in refused("lrpmax", *small(images, ranking), "--out", run)
    ended = done("lrpmax", *small(images, ranking), "--out", run, "--overwrite", "--quiet")
    assert ended.out + ended.err == ""
    done("lrpmax", *small(images, ranking), "--out", tmp_path / "whole")
    assert_same_files(run, tmp_path / "whole")


# What makes trouble


def test_what_cannot_be_had_is_said(images, ranking, tmp_path):
    out = ("--out", tmp_path / "run")
    ended = done("lrpmax", *small(images, ranking, "--k", 6), *out, "--dry-run")
    assert "5 channels are there, fewer than k = 6: all of them are taken" in ended.out
    ended = done("lrpmax", "detector", images, "--ranking", ranking, *out, "--dry-run")
    assert "would explain 5 channels" in ended.out  # the default, 27, is not asked for
    assert "give --ranking RANK.csv" in refused("lrpmax", "detector", images, *out)
    other = studies.make_ranking(tmp_path / "other.csv", ["layer1.0.conv1.#63(T=64)"])
    assert "the network has no channel layer1.0.conv1.#63" in refused("lrpmax", *small(images, other), *out)
    line = refused("lrpmax", *small(images, ranking, "--by", "relevance", weights="classifier"), *out)
    assert "--by relevance explains a detector's decision; this network has several outputs" in line
    line = refused("lrpmax", *small(images / "progan" / "0_real", ranking), *out)
    assert "none of the 3 images is fake; choose others with --label" in line
    assert not (tmp_path / "run").exists()
    ended = done("lrpmax", "--help")
    assert "Example:" in ended.out
    assert "tffjax lrpmax detector images/ --ranking run/ranking_fake.csv" in ended.out


@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_nan_is_named(by, images, ranking, tmp_path):
    line = refused("lrpmax", *small(images, ranking, "--by", by, weights="nan"), "--out", tmp_path / "run")
    assert "the network gives NaN or infinity; see where it comes from: tffjax check" in line


def test_unreadable_images(images, ranking, unplotted, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "progan" / "0_real" / "2.png").unlink()
    studies.damage(folder)
    studies.damage(folder, "progan/1_fake/1.png", 20)
    ended = done("lrpmax", *small(folder, ranking, "--label", "any", "--top", 3), "--out", tmp_path / "run")
    assert "2 images skipped" in ended.out
    rows = studies.read(tmp_path / "run" / "skipped.parquet")
    assert [row["path"] for row in rows] == ["biggan/1_fake/0.png", "progan/1_fake/1.png"]
    left = tmp_path / "left"
    shutil.copytree(folder, left)
    for row in rows:
        (left / row["path"]).unlink()
    check_run(tmp_path / "run", left, "**/*.png", "detector", KEYS[:2], top=3)
    line = refused("lrpmax", *small(folder, ranking), "--out", tmp_path / "no", "--strict")
    assert "unreadable (--strict)" in line
    for name in studies.paths_of(folder, "*/1_fake/*.png"):
        studies.damage(folder, name)
    for options in ((), ("--crop", 64)):
        line = refused("lrpmax", *small(folder, ranking, *options), "--out", tmp_path / "run", "--overwrite")
        assert "none of the fake images could be read: " in line
    for name in studies.paths_of(folder):
        studies.damage(folder, name)
    line = refused("lrpmax", *small(folder, ranking, "--label", "any"), "--out", tmp_path / "run", "--overwrite")
    assert "none of the images could be read: " in line


def test_images_without_labels_and_a_network_of_many_outputs(images, ranking, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, name in enumerate(studies.paths_of(images)[:3]):
        shutil.copy(images / name, flat / f"{i}.png")
    run = tmp_path / "run"
    ended = done("lrpmax", *small(flat, ranking, weights="classifier"), "--out", run)
    assert "none of the 3 images has a label" in ended.err
    rows = studies.read(run / "index.parquet")
    assert [(row["key"], row["generator"], row["rank"]) for row in rows] == [(key, "", 1) for key in KEYS[:2]]
    assert len(list(run.glob("patches/*/all_01.png"))) == 2
    assert (run / "patches_1.png").exists()


def test_every_part_has_a_fixed_length(images, ranking, whole_tables, unplotted, tmp_path, monkeypatch):
    """However many parts there are, the results are the same."""
    monkeypatch.setattr(tffjax.studies.lrpmax.run, "ROWS_PER_PART", 3)
    run = tmp_path / "run"
    arguments = ("lrpmax", "asleep", images, "--ranking", ranking, "--out", run, *OPTIONS)
    studies.interrupt(3, *arguments)
    parts = [pyarrow.parquet.read_table(path) for path in sorted(run.glob("work/pass-1/*.parquet"))]
    assert {len(part) for part in parts[:-1]} == {3}
    done("lrpmax", "--resume", run)
    assert_same_files(run, whole_tables)

"""The command line end to end: convert, verify, predict, and every way in which they end."""

import ast
import contextlib
import dataclasses
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cases
import click
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import studies
import tffjax.conversion.cli.verify
import tffjax.conversion.twin
import tolerances
import torch
from command import Ended, done, refused, save_image, tffjax_command
from PIL import Image
from tffjax.conversion import checkpoint as torch_checkpoint

import tffjax.studies.heatmaps.run
import tffjax.studies.predict
from tffjax.cli.console import Talk
from tffjax.cli.main import cli, main
from tffjax.data.preprocessing import decode, normalize
from tffjax.nn import checkpoint
from tffjax.nn.card import Card, Normalization
from tffjax.results.tables import read_table
from tffjax.studies.heatmaps.maps import Heatmap

ROOT = Path(__file__).resolve().parents[1]
SIDE = 64  # of the images: small, because every size is compiled
IMPORT_SECONDS = 2.5  # what `import tffjax` may take


@pytest.fixture(scope="session")
def torch_file(tmp_path_factory) -> Path:
    """A detector as released: EfficientNet-B0 with one logit, random weights."""
    variables = cases.B0_SAME.random_model().variables
    path = tmp_path_factory.mktemp("torch") / "detector.pth"
    state_dict = torch_checkpoint.to_torch(variables, "efficientnet_b0", "efficientnet_pytorch")
    torch.save({"model": state_dict, "optimizer": {}, "total_steps": 3}, path)
    return path


@pytest.fixture(scope="session")
def detector(torch_file, tmp_path_factory) -> Path:
    """The same, converted."""
    path = tmp_path_factory.mktemp("converted") / "detector"
    assert tffjax_command("convert", torch_file, path).code == 0
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Two generators with three real and two fake images each."""
    folder = tmp_path_factory.mktemp("images")
    names = [f"{g}/{label}" for g in ("biggan", "progan/cat") for label in ("0_real/a", "0_real/b", "0_real/c")]
    names += [f"{g}/{label}" for g in ("biggan", "progan/cat") for label in ("1_fake/a", "1_fake/b")]
    for seed, name in enumerate(names):
        save_image(folder / f"{name}.png", seed)
    return folder


def predict(detector: Path, *arguments) -> Ended:
    return tffjax_command("predict", detector, *arguments, "--batch-size", 4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Conversion


def test_convert_says_what_it_found_and_records_the_source(torch_file, tmp_path):
    ended = tffjax_command("convert", torch_file, tmp_path / "out", "--normalization", "caffe", "--high-means", "real")
    assert ended.code == 0
    (line,) = ended.out.splitlines()
    for word in ("efficientnet_b0", "padding same", "epsilon 0.001", "one output", "caffe", "a high logit means real"):
        assert word in line
    card = checkpoint.read_card(tmp_path / "out")
    assert (card.source, card.high_means, card.normalization.order) == ("detector.pth", "real", "bgr")
    assert len(card.source_sha256) == len(card.weights_sha256) == 64  # hexadecimal digits of SHA-256


@pytest.mark.extended
def test_a_card_says_that_it_is_a_detector_of_the_paper_if_the_user_does(torch_file, tmp_path):
    for name, options in (("ours", ()), ("theirs", ("--published", "CR-EfficientNet-B0"))):
        assert tffjax_command("convert", torch_file, tmp_path / name, *options).code == 0
        assert checkpoint.read_card(tmp_path / name).published == (options[1] if options else None)
    message = refused("convert", torch_file, tmp_path / "other", "--published", "ResNet-50")
    assert "--published ResNet-50: this is efficientnet_b0 with 1 outputs, so another" in message
    assert not (tmp_path / "other").exists()


def test_converting_there_and_back_is_bit_exact(torch_file, detector, tmp_path):
    assert tffjax_command("convert", "--to", "torch", detector, tmp_path / "again.pth").code == 0
    before, after = (torch_checkpoint.read_state_dict(path) for path in (torch_file, tmp_path / "again.pth"))
    assert list(before) == list(after)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array, strict=True)


@pytest.mark.parametrize("back", [[], ["--to", "torch"]])
def test_convert_keeps_what_exists(torch_file, detector, tmp_path, back):
    (tmp_path / "out").write_text("precious")
    assert "exists already" in refused("convert", *back, detector if back else torch_file, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_convert_refuses_nan_weights(torch_file, tmp_path):
    state_dict = torch.load(torch_file, weights_only=True)["model"]
    state_dict["_bn0.bias"][3] = torch.nan
    torch.save(state_dict, tmp_path / "nan.pth")
    ended = tffjax_command("convert", tmp_path / "nan.pth", tmp_path / "out")
    assert ended.code == 2
    assert "non-finite values (1): _bn0.bias (1 of 32)" in ended.err
    assert not (tmp_path / "out").exists()


def test_convert_of_nothing(tmp_path):
    assert "none.pth" in refused("convert", tmp_path / "none.pth", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_convert_of_a_checkpoint_that_is_converted_already(detector, tmp_path):
    refused("convert", detector, tmp_path / "out")


def test_convert_on_a_full_disk_leaves_nothing(torch_file, tmp_path, monkeypatch):
    monkeypatch.setattr(Card, "to_json", full_disk)
    assert "No space left on device" in refused("convert", torch_file, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def interrupt(*_, **__):
    raise KeyboardInterrupt


# Verification


@pytest.mark.parity
def test_verify_proves_a_checkpoint_and_writes_json(detector, images, tmp_path):
    ended = tffjax_command("verify", detector, "--images", images, "--limit", 2, "--json", tmp_path / "figures.json")
    assert ended.code == 0, ended.err
    assert "equal:" in ended.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["equal"] is True
    places = [d["place"] for d in figures["differences"] if d["dtype"] == "float64"]
    assert len(places) == cases.B0_SAME.num_sites + 1  # and the logits
    assert places[0] == "_conv_stem"
    assert places[-1] == "logits"
    assert all(place in ended.out for place in places)
    assert len(figures["images"]) == len(figures["logits"]["jax"]["float32"]) == 2


@pytest.mark.parity
def test_verify_finds_an_altered_weight_and_names_the_first_site(detector, images, monkeypatch):
    build = tffjax.conversion.twin.twin_from_variables

    def altered(*arguments):
        net = build(*arguments)
        with torch.no_grad():
            net.get_submodule("_blocks.5._project_conv").weight[0, 0] += 0.1
        return net

    monkeypatch.setattr(tffjax.conversion.twin, "twin_from_variables", altered)
    ended = tffjax_command("verify", detector, "--images", images, "--limit", 2)
    assert ended.code == 1
    assert ended.last.startswith("tffjax: failed: _blocks.5._project_conv differs by")
    assert "DIFFERS" in ended.out
    assert "equal:" not in ended.out


@pytest.mark.parity
def test_verify_takes_a_pytorch_file(torch_file, images):
    ended = tffjax_command("verify", torch_file, "--images", images, "--limit", 2, "--quiet")
    assert (ended.code, ended.out) == (0, "")


@pytest.mark.parity
def test_verify_without_images_uses_synthetic_ones(detector, monkeypatch):
    small = functools.partial(tffjax.conversion.cli.verify.synthetic_images, size=SIDE)
    monkeypatch.setattr(tffjax.conversion.cli.verify, "synthetic_images", small)
    ended = tffjax_command("verify", detector)
    assert ended.code == 0
    assert "synthetic 1" in ended.out


def test_verify_leaves_a_file_of_others_alone(detector, tmp_path):
    """And says so before any work."""
    (tmp_path / "thesis").write_text("mine")
    assert "exists already; choose another name or pass --overwrite" in refused(
        "verify", detector, "--json", tmp_path / "thesis"
    )
    assert "is a file, so there can be no folder in it" in refused(
        "verify", detector, "--json", tmp_path / "thesis/figures.json"
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


# Prediction


def test_predict_twice_gives_the_same_bytes_and_the_right_numbers(torch_file, detector, images, tmp_path):
    first, second = (predict(detector, images, "--out", tmp_path / number) for number in "12")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    files, again = ({k: v for k, v in contents(tmp_path / n).items() if k != "log.jsonl"} for n in "12")
    results = {
        f"{name}.{ending}"
        for name in ("predictions", "metrics", "intervals", "skipped")
        for ending in ("csv", "parquet")
    }
    assert set(files) == {".tffjax", ".lock", "run.json"} | results
    assert again == files
    assert "10 images scored, 0 skipped" in first.out

    predictions = pyarrow.parquet.read_table(tmp_path / "1" / "predictions.parquet").to_pylist()
    assert len(predictions) == 10
    assert [row["label"] for row in predictions].count("real") == 6
    assert {(row["generator"], row["category"]) for row in predictions} == {("biggan", ""), ("progan", "cat")}
    net = tffjax.conversion.twin.load_twin(torch_file)
    pixels = normalize(np.stack([decode(images / row["path"]) for row in predictions]), Normalization())
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels).permute(0, 3, 1, 2))[:, 0].sigmoid()
    ours = [row["probability"] for row in predictions]
    np.testing.assert_allclose(ours, expected, rtol=tolerances.F32_PROGRAM)
    assert np.ptp(ours) > 100 * tolerances.F32_PROGRAM  # rows that are mixed up would show
    csv = pyarrow.csv.read_csv(tmp_path / "1" / "predictions.csv")
    assert csv["path"].to_pylist() == [row["path"] for row in predictions]
    np.testing.assert_allclose(csv["probability"], [row["probability"] for row in predictions], atol=5e-5)
    metrics = read_table(tmp_path / "1" / "metrics").to_pylist()
    assert [(row["generator"], row["num_real"], row["num_fake"]) for row in metrics] == [
        ("biggan", 3, 2),
        ("progan", 3, 2),
        ("all", 6, 4),
    ]


@pytest.mark.extended
def test_predict_takes_the_threshold_of_other_predictions(detector, images, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert predict(detector, images, "--out", first).code == 0
    assert (
        predict(detector, images / "biggan", "--out", second, "--threshold-from", first / "predictions.csv").code == 0
    )
    everything = read_table(first / "metrics").to_pylist()[-1]
    (row,) = read_table(second / "metrics").to_pylist()
    assert (row["generator"], row["threshold"]) == ("biggan", everything["threshold"])
    record = json.loads((second / "run.json").read_text())
    assert record["identity"]["threshold"] == everything["threshold"]
    rows = read_table(second / "intervals").to_pylist()
    assert {(r["generator"], r["metric"], r["estimate"]) for r in rows} >= {("biggan", "ap", row["ap"])}
    gone = refused("predict", detector, images, "--out", tmp_path / "x", "--threshold-from", tmp_path / "no.csv")
    assert "no.csv: cannot be read as predictions (no such file)" in gone


def test_a_generator_called_all_is_refused(detector, images, tmp_path):
    shutil.copytree(images / "biggan", tmp_path / "data" / "all")
    message = refused("predict", detector, tmp_path / "data", "--out", tmp_path / "out")
    assert "a generator is called all" in message


@pytest.mark.extended
def test_predict_without_labels_writes_no_metrics(detector, images, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(images.rglob("*.png"))[:3]):
        shutil.copy(path, flat / f"{number}.png")
    ended = predict(detector, flat, "--out", tmp_path / "out")
    assert ended.code == 0
    assert "none of the 3 images has a label" in ended.err
    assert not (tmp_path / "out" / "metrics.csv").exists()
    rows = read_table(tmp_path / "out" / "predictions").to_pylist()
    assert len(rows) == 3
    assert not any(row["label"] for row in rows)


def test_predict_with_one_label_gives_its_accuracy_and_says_what_is_missing(detector, images, tmp_path):
    shutil.copytree(images / "biggan" / "1_fake", tmp_path / "data" / "biggan" / "1_fake")
    ended = predict(detector, tmp_path / "data", "--out", tmp_path / "out")
    assert ended.code == 0
    assert "all 2 labeled images are fake" in ended.err
    (row,) = read_table(tmp_path / "out" / "metrics").to_pylist()
    assert (row["num_real"], row["num_fake"]) == (0, 2)
    assert row["fake"] in (0, 1 / 2, 1)


@pytest.fixture
def spoiled(images, tmp_path) -> Path:
    """Labeled images, the second of which is cut off."""
    folder = shutil.copytree(images / "biggan", tmp_path / "data" / "biggan")
    path = folder / "0_real" / "b.png"
    path.write_bytes(path.read_bytes()[:2000])  # the header stays whole, so it is found out while decoding
    return folder.parent


@pytest.mark.extended
def test_a_truncated_image_is_skipped_named_and_counted(detector, images, spoiled, tmp_path):
    ended = predict(detector, spoiled, "--out", tmp_path / "out")
    assert ended.code == 0
    assert "4 images scored, 1 skipped" in ended.out
    assert "b.png" in ended.err
    (row,) = read_table(tmp_path / "out" / "skipped").to_pylist()
    assert row["path"].endswith("0_real/b.png")
    assert "truncated" in row["reason"]
    kept = read_table(tmp_path / "out" / "predictions")
    assert [Path(path).name for path in kept["path"].to_pylist()] == ["a.png", "c.png", "a.png", "b.png"]
    # the rows after it have not moved
    assert predict(detector, images / "biggan", "--out", tmp_path / "whole").code == 0
    whole = read_table(tmp_path / "whole" / "predictions")["logit"].to_numpy()
    np.testing.assert_array_equal(kept["logit"].to_numpy(), np.delete(whole, 1))


def test_strict_fails_on_a_truncated_image(detector, spoiled, tmp_path):
    assert "an image is unreadable (--strict)" in refused(
        "predict", detector, spoiled, "--out", tmp_path / "out", "--strict", "--batch-size", 4
    )
    assert not (tmp_path / "out").exists()


def test_strict_fails_on_an_unreadable_header_before_the_work(detector, images, tmp_path, monkeypatch):
    folder = shutil.copytree(images / "biggan", tmp_path / "data" / "biggan")
    (folder / "0_real" / "b.png").write_text("no image")
    monkeypatch.setattr(tffjax.studies.predict, "prepared", lambda *_: pytest.fail("it started to work"))
    arguments = ("predict", detector, folder.parent, "--out", tmp_path / "out", "--strict")
    for dry in ([], ["--dry-run"]):
        assert "1 images are unreadable" in refused(*arguments, *dry)
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_predict_on_one_device_and_on_two_is_the_same(detector, images, tmp_path, monkeypatch):
    used = []
    put = tffjax.studies.predict.put
    monkeypatch.setattr(tffjax.studies.predict, "put", lambda batch: used.append(put(batch)) or used[-1])
    assert predict(detector, images, "--out", tmp_path / "two").code == 0
    assert [len(batch.devices()) for batch in used] == [2, 2, 2]  # ten images by four
    for module in (tffjax.compile.placement, tffjax.pipeline.programs):
        monkeypatch.setattr(module, "batch_sharding", lambda _: None)
    assert predict(detector, images, "--out", tmp_path / "one").code == 0
    assert [len(batch.devices()) for batch in used[3:]] == [1, 1, 1]
    one, two = (read_table(tmp_path / name / "predictions") for name in ("one", "two"))
    assert one["path"] == two["path"]
    np.testing.assert_allclose(one["probability"], two["probability"], rtol=tolerances.F32_PROGRAM)


def test_only_unreadable_images(detector, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    assert "none of the images could be read" in refused("predict", detector, tmp_path, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_quiet_prints_nothing(detector, images, tmp_path):
    ended = predict(detector, images / "biggan", "--out", tmp_path / "out", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.extended
def test_predict_keeps_its_results_when_nobody_reads_its_words(detector, images, tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ("predict", detector, images, "--batch-size", 4, "--out", tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["tffjax", *map(str, arguments)])
    with os.fdopen(writer, "w") as left, contextlib.redirect_stdout(left), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert len(read_table(tmp_path / "out/predictions")) == 10


def test_dry_run_writes_nothing(detector, images, tmp_path):
    ended = predict(detector, images, "--out", tmp_path / "out", "--dry-run")
    assert ended.code == 0
    assert "would score 10 images (64x64) in 3 batches of 4" in ended.out
    assert not any(tmp_path.iterdir())


# Refusals of predict


def test_predict_without_checkpoint(images, tmp_path):
    assert "no such checkpoint" in refused("predict", tmp_path / "none", images, "--out", tmp_path / "out")


def test_predict_with_a_pytorch_file(torch_file, images, tmp_path):
    assert "convert it first" in refused("predict", torch_file, images, "--out", tmp_path / "out")


@pytest.mark.extended
def test_predict_with_nothing_to_score(detector, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no images in it" in refused("predict", detector, tmp_path / "empty", "--out", tmp_path / "out")
    assert "no such file" in refused("predict", detector, tmp_path / "none", "--out", tmp_path / "out")


def test_predict_with_too_many_sizes(detector, tmp_path):
    for side in (40, 41, 42):
        save_image(tmp_path / "data" / f"{side}.png", side, side)
    message = refused("predict", detector, tmp_path / "data", "--out", tmp_path / "out", "--max-shapes", 2)
    assert "3 different sizes" in message
    assert "--crop" in message


@pytest.mark.extended
def test_predict_keeps_what_exists(detector, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert "is not empty" in refused("predict", detector, images, "--out", tmp_path / "out")
    assert "was not written by tffjax" in refused("predict", detector, images, "--out", tmp_path / "out", "--overwrite")
    assert "is a file" in refused("predict", detector, images, "--out", tmp_path / "out" / "thesis.tex")
    assert "is a file" in refused("predict", detector, images, "--out", tmp_path / "out" / "thesis.tex" / "below")
    assert (tmp_path / "out" / "thesis.tex").exists()


@pytest.mark.extended
def test_a_dry_run_refuses_what_the_run_would_refuse(detector, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    arguments = ("predict", detector, images, "--dry-run", "--out")
    assert "is not empty" in refused(*arguments, tmp_path / "out")
    assert "was not written by tffjax" in refused(*arguments, tmp_path / "out", "--overwrite")
    assert "is a file" in refused(*arguments, tmp_path / "out" / "thesis.tex")
    assert tffjax_command(*arguments, tmp_path / "new" / "out").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_is_refused_before_the_work(detector, images, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()
    monkeypatch.setattr(tffjax.studies.predict, "prepared", lambda *_: pytest.fail("it started to work"))
    refused("predict", detector, images, "--out", tmp_path / "out")


@pytest.mark.extended
def test_overwrite_replaces_results(detector, images, tmp_path):
    assert predict(detector, images, "--out", tmp_path / "out").code == 0
    (tmp_path / "out" / "stale.csv").touch()
    assert predict(detector, images / "biggan", "--out", tmp_path / "out", "--overwrite").code == 0
    assert "stale.csv" not in contents(tmp_path / "out")
    assert read_table(tmp_path / "out" / "predictions").num_rows == 5


@pytest.mark.extended
def test_a_network_that_gives_nan_is_an_error(images, tmp_path):
    model = cases.B0_SAME.random_model()
    params = model.variables["params"]
    broken = {**params, "_fc": {**params["_fc"], "bias": params["_fc"]["bias"] * np.float32(np.nan)}}
    checkpoint.save(dataclasses.replace(model, variables={**model.variables, "params": broken}), tmp_path / "nan")
    arguments = ("predict", tmp_path / "nan", images, "--out", tmp_path / "out", "--batch-size", 4)
    assert "the network gives NaN or infinity, first in the batch with biggan/0_real/a.png" in refused(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_ctrl_c_leaves_a_run_that_goes_on(detector, images, tmp_path, monkeypatch):
    assert predict(detector, images, "--out", tmp_path / "whole").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(tffjax.studies.predict, "metrics_table", interrupt)
        ended = predict(detector, images, "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.last == f"tffjax: error: interrupted; go on with: tffjax predict --resume {tmp_path / 'out'}"
    assert not list((tmp_path / "out").glob("*.csv"))
    assert tffjax_command("predict", "--resume", tmp_path / "out").code == 0
    written = [{k: v for k, v in contents(tmp_path / name).items() if k != "log.jsonl"} for name in ("out", "whole")]
    assert written[0] == written[1]


def test_a_full_disk_is_said(detector, images, tmp_path, monkeypatch):
    monkeypatch.setattr(tffjax.studies.predict, "write_table", full_disk)
    message = refused("predict", detector, images, "--out", tmp_path / "out", "--batch-size", 4)
    assert message.startswith("tffjax: error: somewhere: No space left on device; when that is mended, go on with: ")
    assert not list((tmp_path / "out").glob("*.csv"))


# The interface


def commands() -> list[str]:
    """Their names, those of a group behind its own."""
    names = cli.list_commands(click.Context(cli))
    figures = [f"figure {kind}" for kind in ("collage", "densities", "medians")]
    return [name for name in names if name != "figure"] + figures


def test_there_are_the_commands_of_the_readme():
    assert {"convert", "predict", "verify"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_help_has_an_example(command):
    ended = tffjax_command(*command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Example:" in ended.out
    assert f"tffjax {command} " in ended.out.partition("Example:")[2]
    assert "--quiet" in ended.out


def test_help_and_version():
    assert "Example:" in tffjax_command("--help").out
    assert tffjax.__version__ in tffjax_command("--version").out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--nonsense"], "No such option"),
        (["explain"], "No such command"),
        (["predict", "a", "b", "--out", "c", "--nonsense"], "No such option"),
        (["predict", "a", "b"], "give WEIGHTS, DATA and --out RUN, or --resume RUN"),
        (["predict", "a"], "give WEIGHTS, DATA and --out RUN, or --resume RUN"),
        (["predict", "a", "b", "--out", "c", "--crop", "0"], "1<=x<=10000"),
        (["predict", "a", "b", "--out", "c", "--batch-size", "four"], "not a valid integer"),
        *[
            ([command, "a", "b", "--out", "c", option, value], why)
            for command, option, value, why in (
                ("predict", "--batch-size", "1000000", "1<=x<=65536"),
                ("predict", "--crop", "1000000", "1<=x<=10000"),
                ("predict", "--resize", "10001", "more than 10000 pixels"),
                ("predict", "--workers", "1000000", "1<=x<=256"),
                ("lrpmax", "--top", "1000000000", "1<=x<=1000"),
                ("rank", "--bootstrap", "1000000000", "0<=x<=10000"),
                ("rank", "--confidence", "nan", "not a finite number"),
                ("rank", "--seed", "-1", "0<=x<=4294967295"),
                ("rank", "--random-crop", "-1", "0<=x<=4294967295"),
                ("dropout", "--seed", "-1", "0<=x<=4294967295"),
                ("dropout", "--random", "1000000000", "0<=x<=10000"),
                ("find-k", "--share", "nan", "not a finite number"),
                ("train", "--rate", "inf", "not a finite number"),
                ("train", "--dropout", "nan", "not a finite number"),
            )
        ],
        (["convert", "a", "b", "--normalization", "imagnet"], "is not one of"),
        (["convert", "a", "b", "--quiet", "False"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_ends_with_2(arguments, why):
    ended = tffjax_command(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.last


def test_quiet_false_is_not_taken_for_quiet(detector, images, tmp_path):
    assert "False" in refused("predict", detector, images, "--out", tmp_path / "out", "--quiet", "False")


def test_no_arguments_show_the_help():
    ended = tffjax_command()
    assert "tffjax predict detector images/ --out results" in ended.out + ended.err
    assert ended.code == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["check", "a", "--resize", "64"], "--resize does nothing without PATH"),
        (["check", "a", "--crop", "64"], "--crop does nothing without PATH"),
        (["check", "a", "--limit", "4"], "--limit does nothing without PATH"),
        (["verify", "a", "--resize", "64"], "--resize does nothing without --images"),
        (["verify", "a", "--crop", "64"], "--crop does nothing without --images"),
        (["verify", "a", "--limit", "4"], "--limit does nothing without --images"),
        (["verify", "a", "--composite", "beta0"], "--composite does nothing without --lrp or --studies"),
        (
            ["convert", "a", "b", "--to", "torch", "--normalization", "imagenet"],
            "--normalization does nothing with --to",
        ),
        (["convert", "a", "b", "--to", "torch", "--high-means", "fake"], "--high-means does nothing with --to torch"),
        (
            ["heatmap", "a", "b", "--out", "c", "--method", "guided-grad-cam", "--composite", "beta1"],
            "--composite does",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_would_do_nothing_is_refused(arguments, why):
    assert why in refused(*arguments)


def test_busy_takes_the_place_of_the_words_of_the_progress_bar():
    talk = Talk(quiet=False)
    with talk.progress("scoring", 2, "images"):
        bar, _ = talk._bar
        with talk.busy("compiling [for] 64x64"):
            assert bar.tasks[0].description == r"compiling \[for] 64x64"
        assert bar.tasks[0].description == "scoring"


# As a process of its own


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.extended
def test_the_console_command_ends_with_its_code_and_one_line(tmp_path):
    script = "import sys; sys.argv[0] = 'tffjax'; from tffjax.cli.main import main; main()"
    ended = python("-c", script, "predict", str(tmp_path / "none"), ".", "--out", str(tmp_path / "out"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"tffjax: error: {tmp_path / 'none'}: no such checkpoint\n"


TERMINATED = """
import gc, os, signal, sys, time
import tffjax.studies.predict
from tffjax.cli.main import main

def terminate(*_):
    gc.callbacks.clear()
    assert os.path.exists({folder!r} + "/out/run.json")
    os.kill(os.getpid(), signal.SIGTERM)

def work(*_):
    {when}
    time.sleep(60)

tffjax.studies.predict.prepared = work
sys.argv[0] = "tffjax"
main()
"""


@pytest.mark.extended
@pytest.mark.parametrize(
    "when", ["terminate()", "gc.callbacks[:] = [terminate]; gc.collect()"], ids=["work", "garbage"]
)
def test_sigterm_ends_a_run_like_ctrl_c(detector, images, tmp_path, when):
    """While garbage is collected too, where Python drops the exception."""
    arguments = map(str, ("predict", detector, images, "--out", tmp_path / "out"))
    ended = python("-c", TERMINATED.format(when=when, folder=str(tmp_path)), *arguments)
    assert ended.returncode == 2, ended.stderr
    line = f"tffjax: error: interrupted; go on with: tffjax predict --resume {tmp_path / 'out'}"
    assert ended.stderr.splitlines()[-1] == line


def test_importing_tffjax_is_quick_and_loads_no_framework_but_jax():
    start = time.perf_counter()
    ended = python("-c", "import sys, tffjax; print(*sys.modules)")
    seconds = time.perf_counter() - start
    assert ended.returncode == 0, ended.stderr
    assert not {"torch", "tensorflow", "torchvision"} & set(ended.stdout.split())
    assert seconds < IMPORT_SECONDS


@pytest.mark.extended
def test_the_core_loads_no_torch_even_when_it_is_used():
    names = "tffjax.__all__ and [getattr(tffjax, name) for name in tffjax.__all__]"
    ended = python("-c", f"import sys, tffjax, tffjax.studies.predict; {names}; print(*sys.modules)")
    assert ended.returncode == 0, ended.stderr
    loaded = set(ended.stdout.split())
    assert not {"torch", "tensorflow", "torchvision", "tffjax.conversion"} & loaded


@pytest.mark.parametrize("path", sorted((ROOT / "tffjax").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_tffjax_imports_neither_torch_nor_conversion(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert not [name for name in imported if name.startswith("tffjax.conversion")]
    assert not {name.partition(".")[0] for name in imported} & {"torch", "tensorflow", "torchvision", "tests"}


# The real checkpoints


WEIGHTS = cases.SHARED / "weights"
IMAGENET = {"chelsea": (285, 0.61), "coffee": (967, 0.98)}  # Egyptian cat, espresso
PHOTO_OR_DRAWING = {"chelsea": 0.999, "clock_motion": 0.999, "astronaut": 0.89, "page": 0.00}


def converted(file: str, folder: Path, *options: str) -> Path:
    if not (WEIGHTS / file).is_file():
        pytest.skip(f"{WEIGHTS / file} is not here")
    assert tffjax_command("convert", WEIGHTS / file, folder / "converted", *options).code == 0
    return folder / "converted"


def skimage_images(folder: Path, names, square: int | None = None) -> Path:
    """Images that scikit-image brings along, by name; squeezed to a square if asked."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    folder.mkdir()
    for name in names:
        image = Image.fromarray(decode(data / f"{name}.png"))
        image = image.resize((square, square), Image.Resampling.BILINEAR) if square else image
        image.save(folder / f"{name}.png")
    return folder


def probabilities(folder: Path) -> dict[str, dict]:
    rows = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pylist()
    return {Path(row["path"]).stem: row for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "normalization"),
    [
        ("resnet50-imagenet-half.pth", "caffe"),
        ("efficientnet_b0-whenet.pth", "imagenet"),
        ("efficientnet_b0-photo_vs_drawing-torchvision.pth", "imagenet"),
    ],
)
def test_real_checkpoints_verify(file, normalization, tmp_path):
    detector = converted(file, tmp_path, "--normalization", normalization)
    ended = tffjax_command("verify", detector)
    assert ended.code == 0, ended.err
    assert "equal:" in ended.out


@pytest.mark.slow
def test_the_imagenet_network_knows_a_cat_and_an_espresso(tmp_path):
    detector = converted("resnet50-imagenet-half.pth", tmp_path, "--normalization", "caffe")
    images = skimage_images(tmp_path / "images", IMAGENET)
    assert predict(detector, images, "--resize", 256, "--crop", 224, "--out", tmp_path / "out").code == 0
    rows = probabilities(tmp_path / "out")
    for name, (output, probability) in IMAGENET.items():
        assert rows[name]["output"] == output
        assert rows[name]["probability"] == pytest.approx(probability, abs=tolerances.STATED_UNKNOWN_CROP)


@pytest.mark.slow
def test_the_one_logit_network_gives_the_stated_probabilities(tmp_path):
    detector = converted("efficientnet_b0-photo_vs_drawing-torchvision.pth", tmp_path)
    images = skimage_images(tmp_path / "images", PHOTO_OR_DRAWING, square=224)
    assert predict(detector, images, "--out", tmp_path / "out").code == 0
    rows = probabilities(tmp_path / "out")
    for name, probability in PHOTO_OR_DRAWING.items():
        digits = tolerances.STATED_3_DIGITS if probability > 0.99 else tolerances.STATED_2_DIGITS
        assert rows[name]["probability"] == pytest.approx(probability, abs=digits)


# heatmap, check, verify --lrp


@pytest.mark.extended
@pytest.mark.parametrize(("network", "methods"), [("small", ["LRP"]), studies.slow("b0", ["LRP", "Guided Grad-CAM"])])
def test_heatmap_writes_pictures_sheets_and_arrays(network, methods, images, tmp_path):
    options = [word for method in methods for word in ("--method", method.lower().replace(" ", "-"))]
    with studies.networks_by_name():
        done("heatmap", network, images, "--limit", 2, "--out", tmp_path / "maps", *options)
        done("predict", network, images, "--batch-size", 4, "--out", tmp_path / "scores")
    files = [path.suffix for path in (tmp_path / "maps").iterdir()]
    assert files.count(".png") == files.count(".pdf") == 2 * len(methods) + 1
    assert sum(path.name.startswith("contact_sheet") for path in (tmp_path / "maps").iterdir()) == 2
    arrays = np.load(tmp_path / "maps" / "heatmaps.npz")
    maps = [name for name in arrays.files if name.endswith(tuple(f"/{method}" for method in methods))]
    assert len(maps) == 2 * len(methods)
    assert all(arrays[name].shape == (SIDE, SIDE) and np.isfinite(arrays[name]).all() for name in maps)
    predictions = read_table(tmp_path / "scores" / "predictions")
    scored = dict(zip(predictions["path"].to_pylist(), predictions["logit"].to_pylist(), strict=True))
    named = [Path(path).relative_to(images).as_posix() for path in arrays["paths"].tolist()]
    logits = [arrays[name].item() for name in arrays.files if name.endswith("/logits")]
    np.testing.assert_allclose(logits, [scored[name] for name in named], rtol=tolerances.F32_PROGRAM)
    record = json.loads((tmp_path / "maps" / "run.json").read_text())
    assert record["identity"]["weights"] == json.loads(studies.network(network).card.to_json())
    assert (record["identity"]["images"]["count"], record["results"]) == (2, {"images": 2, "skipped": 0})
    assert record["paths"] == {"weights": str(Path(network).absolute()), "data": [str(images)]}


@pytest.mark.extended
def test_heatmap_says_that_it_compiles_once_a_size(detector, tmp_path, monkeypatch):
    for number, side in enumerate((SIDE, SIDE, 72)):
        save_image(tmp_path / "data" / f"{number}.png", number, side)
    said = []

    def explain(model, images, **_) -> Heatmap:
        return Heatmap(np.zeros((1, 1)), images.sum(axis=3))

    monkeypatch.setattr(tffjax.studies.heatmaps.run, "lrp_map", explain)
    monkeypatch.setattr(Talk, "busy", lambda _, what: said.append(what) or contextlib.nullcontext())
    ended = tffjax_command("heatmap", detector, tmp_path / "data", "--method", "lrp", "--out", tmp_path / "maps")
    assert ended.code == 0, ended.err
    assert said == ["compiling for 64x64", "compiling for 72x72"]


def test_heatmap_of_an_output_that_is_not_there(detector, images, tmp_path):
    assert "no output 7" in refused("heatmap", detector, images, "--class", 7, "--out", tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(("network", "last"), [("small", "out"), studies.slow("b0", "_fc")])
def test_check_accounts_for_relevance(network, last, images):
    with studies.networks_by_name():
        ended = done("check", network, images, "--limit", 1)
    assert "conserved:" in ended.out
    assert f" {last} " in ended.out


@pytest.mark.parity
def test_verify_compares_relevances(detector, images):
    ended = tffjax_command("verify", detector, "--images", images, "--limit", 1, "--lrp")
    assert ended.code == 0, ended.err
    assert "the relevances of beta0 are the same" in ended.out

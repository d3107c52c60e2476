"""`tffjax demo`: the findings follow from the numbers, and the command end to end, interrupted anywhere."""

import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path
from unittest import mock

import cases
import numpy as np
import pyarrow as pa
import pytest
import studies
from command import done, refused, tffjax_command
from PIL import Image
from studies import files_of
from test_progan import random_generator

import tffjax.cli.demo
import tffjax.pipeline.passes
import tffjax.pipeline.streaming
import tffjax.studies.color.run
import tffjax.studies.dropout.find_k
import tffjax.studies.dropout.run
import tffjax.studies.ffrs.run
import tffjax.studies.lrpmax.figures
import tffjax.studies.predict
from tffjax import embedded
from tffjax.embedded import EMBEDDED, Embedded
from tffjax.embedded.demonstration import demonstration
from tffjax.errors import InputError
from tffjax.nn.generator import GeneratorCard, save_generator
from tffjax.pipeline import directory as runs
from tffjax.pipeline.reporter import Silent
from tffjax.results.tables import read_table
from tffjax.whole import run as whole_run
from tffjax.whole import steps as whole_steps
from tffjax.whole.findings import (
    UNSAID,
    Effect,
    Figures,
    color_finding,
    damage,
    dropout_finding,
    effects,
    findings,
    markdown,
    transfer_finding,
    verdict,
)
from tffjax.whole.forecast import forecasts, total
from tffjax.whole.steps import QUESTIONS, Whole, found_k, steps

# What the findings say, on tables made by hand

ALL_FOUND = Figures(fake=1.0, ap=1.0)


def effect(top, *random, baseline=ALL_FOUND, generator: str = "g", chance_ap: float = 0.5) -> Effect:
    return Effect(generator, chance_ap, Figures(*baseline), Figures(*top), tuple(Figures(*draw) for draw in random))


YES = effect((0.1, 0.6), (0.95, 1.0))
NO = effect((0.95, 1.0), (0.95, 1.0))
PARTLY = effect((0.1, 0.6), (0.7, 1.0))
CANNOT = effect((0.1, 0.5), (0.6, 0.6), baseline=(0.65, 0.69))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (YES, "yes"),
        (effect((0.75, 1.0), (0.875, 1.0)), "yes"),  # exactly 1/2 and 1/4 of the way, by accuracy
        (effect((1.0, 0.75), (1.0, 0.875)), "yes"),  # the same by AP: all are called fake
        (effect((1.0, 0.625), (1.0, 1.0), chance_ap=0.25), "yes"),  # chance is the share of fakes
        (effect((0.751, 1.0), (0.875, 1.0)), "no"),  # almost broken, and random almost hurts
        (effect((0.751, 1.0), (1.0, 1.0)), "partly"),
        (PARTLY, "partly"),  # random ones are not spared
        (effect((0.1, 0.6), (0.1, 0.6)), "no"),  # random ones break it as well
        (effect((0.1, 0.6), (1.0, 0.6), (0.6, 1.0)), "partly"),  # draws are averaged: 0.4 of the way
        (NO, "no"),
        (effect((1.0, 1.0), (0.1, 0.6)), "no"),  # only random ones break it
        (CANNOT, UNSAID),
        (effect((0.1, 0.69), (0.7, 0.6), baseline=(0.71, 0.69)), "yes"),  # AP does not count
    ],
)
def test_a_verdict_follows_from_its_thresholds(found, expected):
    assert verdict(found) == expected
    assert dropout_finding(found, 3).verdict == expected


def test_damage_is_the_larger_share_of_the_way_to_chance():
    found = effect((0.8, 0.9), baseline=(0.9, 1.0))
    np.testing.assert_allclose(damage(found, found.top), 0.1 / 0.4)  # accuracy: 1/4; AP: 1/5
    np.testing.assert_allclose(damage(found, Figures(1.0, 1.0)), 0)  # AP stays, accuracy gains
    assert np.isnan(damage(CANNOT, CANNOT.top))


@pytest.mark.parametrize(
    ("unseen", "expected"),
    [
        ([YES, YES], "yes"),
        ([NO, NO, CANNOT], "no"),
        ([YES, NO], "partly"),
        ([PARTLY, YES], "partly"),
        ([YES, CANNOT], "yes"),
        ([CANNOT], UNSAID),
        ([], UNSAID),
    ],
)
def test_transfer_is_what_the_unseen_generators_agree_on(unseen, expected):
    assert transfer_finding(unseen, 3).verdict == expected


def test_the_words_carry_the_numbers():
    found = effect((0.25, 0.75), (0.9, 1.0), (1.0, 0.98), generator="nearest")
    said = dropout_finding(found, 27)
    assert said.question == "Does switching off the top 27 channels break detection, while 27 random ones do not?"
    assert said.text == (
        "On nearest, seen in training: 100.0% of the fakes found (AP 100.0%), 25.0% (75.0%) without the top 27 "
        "channels, 95.0% (99.0%) without 27 random ones; in 2 draws 90.0% to 100.0% (98.0% to 100.0%). "
        "Of the way to chance 150% (accuracy on fakes) against 10% (accuracy on fakes)."
    )
    other = effect((0.75, 0.95), (0.5, 0.9), generator="shuffle")
    *_, means = transfer_finding([found, other], 27).text.splitlines()
    assert means == (
        "Their mean: 100.0% of the fakes found (AP 100.0%), 50.0% (85.0%) without the top 27 channels, "
        "72.5% (94.5%) without 27 random ones."
    )
    assert "while a random one does not?" in dropout_finding(found, 1).question
    assert "Of the way" not in dropout_finding(CANNOT, 3).text


def draws_table(k: int = 2) -> pa.Table:
    """As draws.csv: two generators and all, other settings too."""
    fakes = {"baseline": 1.0, f"top-{k}": 0.25, f"random-{k}/0": 0.75, f"random-{k}/1": 1.0, f"low-{k}": 0.5}
    return pa.Table.from_pylist(
        [
            {"setting": setting, "generator": generator, "fake_calibrated": fake, "ap": fake - shift}
            | {"num_fake": 1, "num_real": 3}
            for setting, fake in fakes.items()
            for generator, shift in (("a", 0.0), ("b", 0.125), ("all", 0.5))
        ]
    )


def test_effects_are_read_from_the_draws():
    found = effects(draws_table(), 2)
    assert list(found) == ["a", "b"]
    expected = effect((0.25, 0.125), (0.75, 0.625), (1.0, 0.875), baseline=(1.0, 0.875), generator="b", chance_ap=0.25)
    assert found["b"] == expected
    assert found["b"].random_mean == Figures(0.875, 0.75)
    with pytest.raises(InputError, match="lacks the baseline, top-3 or random-3"):
        effects(draws_table(), 3)


def color_table(**adjusted: list[float]) -> pa.Table:
    """As tests.csv, by generator; the raw p is half the adjusted one."""
    return pa.Table.from_pylist(
        [
            {"generator": name, "key": str(i), "num": 24, "p": p / 2, "p_adjusted": p}
            for name, values in adjusted.items()
            for i, p in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("adjusted", "expected"),
    [
        ([0.06, 0.2, 1.0], "none, 0 of 3"),  # although one is by the raw p
        ([0.05, 0.2, 1.0], "some, 1 of 3"),
        ([0.05, 0.01, 1.0, 0.5], "most, 2 of 4"),
        ([0.0, 0.01], "most, 2 of 2"),
    ],
)
def test_color_conditional_channels_are_counted_on_the_seen_generator(adjusted, expected):
    found = color_finding(color_table(b=[0.0] * len(adjusted), a=adjusted), "a")
    assert found.verdict == expected
    assert found.text.startswith("On a, seen in training (24 fakes")


def test_color_says_both_counts_of_every_generator():
    lines = color_finding(color_table(a=[0.05, 0.08, 0.5], b=[1.0, 1.0, 1.0]), "a").text.splitlines()
    assert "1 of 3 with adjusted p <= 0.05, 2 with the raw p" in lines[0]
    assert lines[1].startswith("On b (24 fakes")
    assert "0 of 3 with adjusted p <= 0.05, 0 with the raw p" in lines[1]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([1.0, 1.0], [0.01, 1.0], "some, 0 to 1 of 2"),
        ([0.01, 1.0], [0.01, 0.01], "most, 1 to 2 of 2"),
        ([1.0, 1.0], [1.0, 1.0], "none, 0 of 2"),
    ],
)
def test_color_is_counted_on_every_generator_where_that_of_the_training_is_not_known(a, b, verdict):
    assert color_finding(color_table(a=a, b=b), None).verdict == verdict


def test_findings_name_what_is_missing():
    with pytest.raises(InputError, match="no images of c were scored"):
        findings(draws_table(), color_table(a=[1.0]), 2, "c")
    with pytest.raises(InputError, match="no channel was tested on fakes of a"):
        findings(draws_table(), color_table(b=[1.0]), 2, "a")


def test_the_page_of_the_findings():
    found = findings(draws_table(), color_table(a=[0.01], b=[1.0]), 2, "a")
    page = markdown(found, "How they were made.")
    assert [line for line in page.splitlines() if line.startswith("**")] == [
        "**Yes.**",
        "**Yes.**",
        "**Most, 1 of 1.**",
    ]
    assert page.count("\n- ") == sum(len(finding.text.splitlines()) for finding in found)
    assert "How they were made." in page


# The commands, on a small network in place of the embedded one


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Embedded:
    """A detector whose logit is one channel, and images of two generators that it tells apart."""
    folder, unsorted = tmp_path_factory.mktemp("embedded"), tmp_path_factory.mktemp("unsorted")
    studies.sort_by_decision(folder / "images", unsorted, ("seen", "unseen"), 4)
    (folder / "decisive").mkdir()
    (folder / "decisive" / "card.json").write_text(cases.B0_SAME.card().to_json())
    save_generator(random_generator(GeneratorCard(latent=3, widths=(10, 8), name="small")), folder / "generator")
    return Embedded(folder / "decisive", folder / "images", folder / "generator", "seen")


def blank(figure, path: Path) -> None:
    """Stands in for `save_figure` where a report shows the picture."""
    Image.new("RGB", (8, 8)).save(path.with_name(f"{path.name}.png"))


@contextlib.contextmanager
def in_place(small: Embedded):
    def modest(given: Embedded) -> Whole:  # it is sure of nothing, and has few channels
        return dataclasses.replace(demonstration(given), confidence=0.0, color_channels=6, generated=(6, 2))

    with contextlib.ExitStack() as stack:
        stack.enter_context(studies.networks_by_name())
        stack.enter_context(mock.patch.object(embedded, "EMBEDDED", small))
        stack.enter_context(mock.patch.object(tffjax.cli.demo, "demonstration", modest))
        stack.enter_context(mock.patch.object(whole_steps, "MULTIPLES", (1,)))
        for module in ("ffrs.run", "dropout.run", "dropout.find_k", "lrpmax.figures", "color.run"):
            stack.enter_context(mock.patch(f"tffjax.studies.{module}.save_figure"))  # drawing takes most of the time
        for module in ("dropout.run", "dropout.find_k"):
            stack.enter_context(mock.patch(f"tffjax.studies.{module}.dropout_curves", mock.MagicMock()))
        for module in ("heatmaps", "generator"):
            stack.enter_context(mock.patch(f"tffjax.studies.{module}.run.save_figure", blank))
        yield


@pytest.fixture
def replaced(small):
    """The small network and its images are the embedded ones."""
    with in_place(small):
        yield small


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> tuple[Path, list[str]]:
    """A finished demo, and what it said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with in_place(small):
        return out, done("demo", "--out", out).out.splitlines()


def test_every_step_has_its_command_and_its_question(small):
    made = steps(demonstration(small), Path("out"), 5)
    assert [step.command for step in made] == list(QUESTIONS)
    lines = {step.command: step.line for step in made}
    assert lines["dropout"].startswith(
        f"$ tffjax dropout {small.detector} {small.images} --ranking out/rank/ranking_fake.csv --k 5,10,20 "
    )
    assert lines["color"].endswith("--k 27 --out out/color")
    for command in ("rank", "find-k"):  # on the seen generator only
        assert lines[command].startswith(f"$ tffjax {command} {small.detector} {small.images / 'seen'} ")
    assert "0_real" in lines["heatmap"]
    assert lines["heatmap"].count("1_fake") == 2


def test_a_dry_run_writes_nothing(replaced, tmp_path):
    ended = done("demo", "--out", tmp_path / "out", "--dry-run")
    lines = ended.out.splitlines()
    assert [line.split()[:3] for line in lines[:9]] == [["$", "tffjax", command] for command in QUESTIONS]
    assert sum("--k K " in line for line in lines) == 1
    assert [line.split(": ")[0] for line in lines[9:]] == [*list(QUESTIONS)[:6], "generator"]
    assert all("too few images to be timed" in line for line in lines[9:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extended
def test_the_forecast_of_every_step(replaced, small, tmp_path):
    """Eight batches of two: before there is a ranking or a k, and once they are there."""
    whole = dataclasses.replace(tffjax.cli.demo.demonstration(small), confidence=0.0)
    with mock.patch("tffjax.pipeline.images.default_batch_size", return_value=2):
        found = {one.name: one for one in forecasts(whole, tmp_path / "out", tuple(QUESTIONS), Silent())}
        made = found.pop("generator")
        assert "of masked channels" in made.note
        assert list(found) == list(QUESTIONS)[:6]
        assert {name: one.passes.images for name, one in found.items()} == dict.fromkeys(found, 16) | {
            "rank": 8,
            "find-k": 8,
            "lrpmax": 8,
        }
        assert all(re.match(r"[\d.]+ images/s, \d+ s for \d+ images, [\d.]+ MB to be kept", str(one.passes))
                   for one in found.values())  # fmt: skip
        assert {name for name, one in found.items() if one.passes.more} - {"find-k"} == {"lrpmax"}
        assert {name for name, one in found.items() if one.note} == {"find-k", "dropout", "lrpmax"}
        assert "its first pass; the search takes up to 4" in found["find-k"].note
        assert found["dropout"].note == "for k = 3, which find-k may find otherwise"
        assert not list(tmp_path.iterdir())
        assert not list(forecasts(whole, tmp_path / "out", tuple(QUESTIONS), Silent(), least=9))
        given = list(forecasts(dataclasses.replace(whole, k=2), tmp_path / "out", ("find-k", "dropout"), Silent()))
        assert [(one.name, one.note) for one in given] == [("dropout", "")]
    assert re.fullmatch(r"together: \d+ s, [\d.]+ MB to be kept, and what is not timed", total(given))


def test_bad_places_are_refused(replaced, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "is a file" in refused("demo", "--out", tmp_path / "file")
    assert "is not empty" in refused("demo", "--out", tmp_path)
    assert "was not written by tffjax" in refused("demo", "--out", tmp_path, "--overwrite")
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "study.json").write_text('{"tffjax": "0.0.0"}')
    assert "holds another study" in refused("demo", "--out", tmp_path)
    assert "holds another study" in refused("demo", "--out", tmp_path, "--dry-run")


def test_an_installation_without_the_detector_says_so(small, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "EMBEDDED", small._replace(detector=tmp_path / "none"))
    assert "lacks its detector, generator or images" in refused("demo", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_find_k_does_not_find_is_the_papers(tmp_path):
    assert found_k(tmp_path) is None
    record = {"command": "find-k", "identity": {"weights": {"architecture": "efficientnet_b0"}}, "paths": {}}
    (tmp_path / "find-k").mkdir()
    for results, expected in (({}, None), ({"results": {"k": 5}}, 5), ({"results": {"k": None}}, 27)):
        (tmp_path / "find-k" / runs.RECORD).write_text(json.dumps(record | results))
        assert found_k(tmp_path) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "rank,dance"), "there is no step dance; the steps are predict, rank, find-k"),
        (("--seen", "nobody"), "there is no folder nobody in "),
        (("--only", "color"), "color needs the results of rank; do not leave it out"),
    ],
)
def test_a_study_that_cannot_be(replaced, small, tmp_path, options, message):
    assert message in refused("study", small.detector, small.images, "--out", tmp_path / "out", *options)


def test_chosen_steps_of_ones_own_detector(replaced, small, tmp_path):
    out = tmp_path / "out"
    asked = ("study", small.detector, small.images, "--seen", "seen", "--confidence", 0, "--resize", 32, "--crop", 32)
    said = done(*asked, "--only", "predict,rank", "--out", out).out
    assert {path.name for path in out.iterdir()} == {"study.json", ".tffjax", "predict", "rank"}
    assert "step 2 of 2" in said
    record = runs.read_record(out / "rank")
    assert (record["identity"]["arguments"]["resize"], record["results"]["images"]["fake"]["kept"]) == (32, 4)
    assert "rank is done already" in done(*asked, "--only", "rank", "--out", out).out
    assert "holds another study" in refused(*asked[:3], "--out", out)


def test_a_given_k_leaves_the_search_out(replaced, small, tmp_path):
    out, asked = tmp_path / "out", ("study", small.detector, small.images, "--confidence", 0, "--k", 2)
    done(*asked, "--only", "rank,find-k,dropout", "--resize", 32, "--crop", 32, "--out", out)
    assert {path.name for path in out.iterdir()} == {"study.json", ".tffjax", "rank", "dropout"}
    assert runs.read_record(out / "dropout")["identity"]["arguments"]["ks"] == [2]


@pytest.mark.slow
def test_a_demo_leaves_runs_a_report_and_findings(replaced, whole):
    out, said = whole
    files = {"study.json", ".tffjax", "report.html", "findings.md"}
    assert {path.name for path in out.iterdir()} == files | (QUESTIONS.keys() - {"report"})
    typed = [line for line in said if line.startswith("$ ")]
    assert typed == [step.line for step in steps(tffjax.cli.demo.demonstration(replaced), out, found_k(out))]
    assert [line.split(" (")[0] for line in said if line.startswith("step ")] == [
        f"step {i} of 9" for i in range(1, 10)
    ]
    page = (out / "report.html").read_text()
    assert all(
        f'id="{section}"' in page for section in ("ranking", "dropout", "find-k", "channels", "color", "heatmaps")
    )
    assert "report.html (open it in a browser)" in said[-1]


@pytest.mark.slow
def test_the_findings_are_those_of_the_tables(small, whole):
    out, said = whole
    k = found_k(out)
    tables = (read_table(out / name) for name in ("dropout/draws", "color/tests"))
    found = findings(*tables, k, "seen")
    page = (out / "findings.md").read_text()
    for number, finding in enumerate(found, start=1):
        assert f"{number}. {finding.question} {finding.verdict.capitalize()}." in said
        assert all(f"   {line}" in said and f"- {line}\n" in page for line in finding.text.splitlines())
    assert f"k = {k} is the smallest for which on every generator, the accuracy on fake images" in page
    assert found[0].verdict in ("yes", "partly")  # find-k found it
    draws = studies.columns(out / "dropout" / "draws.parquet")
    own = draws["fake_calibrated"][(draws["generator"] == "seen") & (draws["setting"] == f"top-{k}")]
    assert f"{own.item():.1%} (" in found[0].text


@pytest.mark.slow
def test_a_finished_demo_is_not_run_again(replaced, whole):
    out, said = whole
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    again = done("demo", "--out", out).out.splitlines()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [line.split(", in")[0] for line in again[:9]] == [
        f"step {number} of 9: {command} is done already" for number, command in enumerate(QUESTIONS, start=1)
    ]
    assert again[9:-1] == said[-len(again[9:]) : -1]  # the findings


@pytest.mark.slow
def test_an_interrupted_demo_goes_on(replaced, whole, tmp_path):
    out, go_on = tmp_path / "out", f"interrupted; go on with: tffjax demo --out {tmp_path / 'out'}"
    with mock.patch.object(tffjax.studies.predict, "prepared", side_effect=KeyboardInterrupt):
        assert go_on in refused("demo", "--out", out)
    with mock.patch.object(tffjax.studies.ffrs.run, "prepared", side_effect=KeyboardInterrupt):
        assert go_on in refused("demo", "--out", out)
    assert "results" not in runs.read_record(out / "rank")
    with mock.patch.object(whole_run, "read_sources", side_effect=KeyboardInterrupt):
        ended = tffjax_command("demo", "--out", out)
    assert (ended.code, ended.last) == (2, f"tffjax: error: {go_on}")
    assert "step 1 of 9: predict is done already" in ended.out
    done("demo", "--out", out)
    assert files_of(out).keys() == files_of(whole[0]).keys()
    assert (out / "findings.md").read_bytes() == (whole[0] / "findings.md").read_bytes()


@pytest.mark.slow
def test_what_is_deleted_is_made_again_and_the_report_with_it(replaced, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    shutil.rmtree(out / "heatmap")
    report = (out / "report.html").stat().st_mtime_ns
    assert done("demo", "--out", out, "--quiet").out == ""
    assert (out / "heatmap").exists()
    assert (out / "report.html").stat().st_mtime_ns > report
    with mock.patch.object(whole_run, "steps", side_effect=KeyboardInterrupt):
        assert "interrupted" in refused("demo", "--out", out, "--overwrite")
    assert files_of(out).keys() == {"study.json", ".tffjax"}


@pytest.mark.slow
def test_what_a_killed_overwrite_left_is_not_gone_on_with(replaced, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    with mock.patch.object(shutil, "rmtree", side_effect=KeyboardInterrupt):
        assert f"go on with: tffjax demo --out {out} --overwrite" in refused("demo", "--out", out, "--overwrite")
    assert "--overwrite" in refused("demo", "--out", out)


# The embedded detector itself


@pytest.mark.slow
@pytest.mark.skipif(not EMBEDDED.detector.is_dir(), reason="the embedded detector is not here")
def test_top_channels_of_the_embedded_detector_matter_far_more_than_random_ones(tmp_path):
    commands = ["rank", "find-k", "dropout"]
    for name in commands:
        made = steps(demonstration(EMBEDDED), tmp_path, found_k(tmp_path))
        next(step for step in made if step.command == name).run(Silent())
    k = runs.read_record(tmp_path / "find-k")["results"]["k"]
    assert k is not None
    found = effects(read_table(tmp_path / "dropout" / "draws"), k)
    unseen = [one for name, one in found.items() if name != EMBEDDED.seen]
    assert len(unseen) == 3
    assert verdict(found[EMBEDDED.seen]) == "yes"
    for group in ([found[EMBEDDED.seen]], unseen):
        baseline, top, random = (
            np.mean([getattr(one, name).fake for one in group]) for name in ("baseline", "top", "random_mean")
        )
        assert baseline - top > 0.2 + (baseline - random)

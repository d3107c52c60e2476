"""The supplement: where it begins, what the paper reports, and all of it on a small network."""

import contextlib
import dataclasses
from pathlib import Path
from unittest import mock

import cases
import numpy as np
import pyarrow as pa
import pytest
import studies
from command import done, refused
from PIL import Image

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn.graph_options import GraphOptions
from tffjax.results.generators import PAPER
from tffjax.studies.heatmaps.maps import lrp_map
from tffjax.supplement import facts
from tffjax.supplement.start import RANKINGS, check_data, missing_generators, recognized, released_ranking
from tffjax.whole import steps as whole_steps

B0 = cases.B0_SAME.card()
CONVERTED = dataclasses.replace(B0, source="blur_jpg_prob0.5.pth", source_sha256="0" * 64)


@pytest.mark.parametrize(
    ("card", "named", "detector", "line"),
    [
        (dataclasses.replace(B0, published="EfficientNet-B0"), None, "EfficientNet-B0", "the card says so"),
        (CONVERTED, "CR-EfficientNet-B0", "CR-EfficientNet-B0", "--published says so"),
        (CONVERTED, None, None, "say --published EfficientNet-B0 (CR-EfficientNet-B0: the color-robust one)"),
        (dataclasses.replace(CONVERTED, graph=GraphOptions(224, 1e-3)), None, None, "none of the paper's detectors"),
        (B0, None, None, "none of the paper's detectors"),  # it was not converted from a file
        (cases.RESNET50.card(), None, None, "none of the paper's detectors"),
    ],
)
def test_a_detector_is_the_papers_where_somebody_says_so(card, named, detector, line):
    found, how = recognized(card, named)
    assert found == detector
    assert line in how


def test_another_network_is_not_the_papers():
    with pytest.raises(InputError, match="--published ResNet-50: this is efficientnet_b0, so another network"):
        recognized(CONVERTED, "ResNet-50")


def test_generators_of_the_paper_that_are_missing():
    files = [ImageFile(Path(f"{name}.png"), 1, name) for name in ("progan", "StyleGAN-2", "mine", "SPADE")]
    assert missing_generators(files) == ("StyleGAN", "BigGAN", "CycleGAN", "StarGAN")


def test_the_released_ranking_is_looked_for_in_a_clone(tmp_path):
    assert released_ranking(B0, None) is None
    with pytest.raises(InputError, match=r"no fmap_relevances/efb0/progan_val_0.5/progan_val-fake.csv in it"):
        released_ranking(B0, tmp_path)
    path = tmp_path / RANKINGS["efficientnet_b0"]
    path.parent.mkdir(parents=True)
    path.touch()
    assert released_ranking(B0, tmp_path) == path


def test_the_papers_numbers_in_words():
    assert facts.dropout_facts("EfficientNet-B0", 3) == "The paper has no numbers of EfficientNet-B0 for k = 3."
    said = facts.dropout_facts("EfficientNet-B0", 27)
    # means of AP over the seven generators of the table, by hand
    base = np.mean([100.0, 99.0, 99.0, 84.4, 97.3, 96.0, 98.3])
    top = np.mean([50.0, 52.1, 52.1, 53.5, 47.5, 50.0, 46.2])
    random = np.mean([100.0, 96.5, 99.2, 84.5, 96.9, 96.7, 98.1])
    assert f"AP {base:.1f}%, without the top 27 channels {top:.1f}%, without 27 random ones {random:.1f}%" in said
    gray = np.mean([99.9, 91.0, 91.0, 68.4, 86.5, 91.8, 93.7])
    assert f"AP {base:.1f}%, on grayscale images {gray:.1f}%" in facts.grayscale_facts("EfficientNet-B0")


def test_how_far_ours_are_from_the_papers():
    rows = [("k", "biggan", 0.5, 0.4), ("k", "progan", 0.9, 0.89), ("k", "mine", 0.1, None), ("k", "all", 0.1, None)]
    table = pa.table(dict(zip(("setting", "generator", "ap", "published_ap"), map(list, zip(*rows)))))  # noqa: B905
    assert facts.agreement(table, "setting", ["ap"], 100) == (
        "Of 2 numbers that the paper has, ours differ by 5.5 percentage points in the median and by 10.0 at most (AP, "
        "k, BigGAN)."
    )
    assert facts.agreement(table.slice(2), "setting", ["ap"], 100) == "The paper has no numbers for these images."


def test_what_is_missing_is_named(tmp_path):
    studies.make_images(tmp_path / "images")
    said = refused("paper", tmp_path / "none", tmp_path / "images", "--out", tmp_path / "out")
    assert "resnet50/blur_jpg_prob0.5.pth and efb0/blur_jpg_prob0.5.pth" in said
    (tmp_path / "weights.pth").touch()
    said = refused("paper", tmp_path / "weights.pth", tmp_path / "images", "--out", tmp_path / "out")
    assert f"tffjax convert {tmp_path / 'weights.pth'} detector" in said
    (tmp_path / "detector").mkdir()
    said = refused("paper", tmp_path / "detector", tmp_path / "none", "--out", tmp_path / "out")
    assert all(name.lower() in said for name in PAPER)
    assert "GENERATOR/[CLASS/]{0_real,1_fake}/*.png" in said
    (tmp_path / "list.csv").write_text("path,generator\nimages/a.png,x\n")
    check_data([tmp_path / "list.csv" / "x", Path("tfds:forensynths/test")])  # parts of DATA are DATA
    assert not (tmp_path / "out").exists()


def blank(figure, path: Path, formats=("png", "pdf"), dpi: int = 0) -> None:
    """Stands in for `save_figure`."""
    for ending in formats:
        Image.new("RGB", (8, 8)).save(path.with_name(f"{path.name}.{ending}"))


@contextlib.contextmanager
def undrawn():
    """Drawing takes most of the time of a small study."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(studies.networks_by_name())
        stack.enter_context(mock.patch.object(whole_steps, "MULTIPLES", (1,)))
        places = [f"studies.{name}" for name in ("ffrs.run", "dropout.run", "lrpmax.figures", "color.run")]
        places += ["studies.color.across", "studies.heatmaps.run", "supplement.features", "supplement.pictures"]
        for place in places:
            stack.enter_context(mock.patch(f"tffjax.{place}.save_figure", blank))
        stack.enter_context(mock.patch("tffjax.studies.dropout.run.dropout_curves", mock.MagicMock()))
        stack.enter_context(mock.patch("tffjax.studies.heatmaps.run.overlay", mock.MagicMock()))
        stack.enter_context(mock.patch("tffjax.studies.heatmaps.run.guided_grad_cam", lrp_map))  # no layer for CAM
        yield


@pytest.mark.slow
def test_all_of_it_on_a_small_network(tmp_path):
    studies.make_images(tmp_path / "images", ("mine", "progan"), count=3)
    for name, outputs in (("sure", 1), ("classifier", 1000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(cases.B0_SAME.card(num_outputs=outputs).to_json())
    words = ("paper", tmp_path / "sure", tmp_path / "images", "--k", 3, "--confidence", 0, "--crop", 32)
    words += ("--resize", 32, "--imagenet", tmp_path / "classifier", "--out", tmp_path / "out")
    with undrawn():
        planned = done(*words, "--dry-run").out
        assert "tffjax color" in planned
        assert not (tmp_path / "out").exists()
        said = done(*words).out
        (tmp_path / "out" / "figure-Z9.png").touch()  # of an earlier call
        again = done(*words).out
    made = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    named = {"table-E1.csv", "table-E1.tex", "table-E1.html", "table-I2.csv", "table-G.csv", "index.html", "runs"}
    named |= {f"figure-{name}.{ending}" for name in ("E1", "F1", "G", "J1") for ending in ("png", "pdf")}
    assert named <= made
    assert "figure-Z9.png" not in made
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(f'src="{name}"' in page for name in made if name.endswith(".png"))
    assert "FF-RS ranking beside the released one: left out" in said
    assert "M.1: channels of a generator: left out: give a generator with --generator CHECKPOINT" in said
    assert "is done already" not in said
    assert again.count("is done already") == 7
    with undrawn():
        assert "holds another study" in refused(*words[:4], 4, *words[5:])

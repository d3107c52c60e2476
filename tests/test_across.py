"""The same ablation on several networks, from color runs written by hand."""

import dataclasses
import json
import math
from pathlib import Path

import cases
import numpy as np
import pyarrow as pa
import pytest
from command import done, refused

from tffjax.errors import InputError
from tffjax.pipeline.reporter import Silent
from tffjax.results.run_result import RunResult
from tffjax.results.tables import write_parquet
from tffjax.studies.color.across import across, decisions

DETECTOR = cases.B0_SAME.card(num_outputs=1)
CLASSIFIER = cases.B0_SAME.card(num_outputs=2)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def color_run(folder: Path, card, logits, labels=("fake", "fake", "fake", "real"), ablations=("blur:1", "grayscale")):
    """A run of four images, (image, variant, output)."""
    identity = {
        "arguments": {"ablations": list(ablations)},
        "weights": dataclasses.asdict(card),
        "images": {"count": 4},
        "channels": ["conv1.#0(T=64)"],
    }
    record = {"command": "color", "identity": identity, "paths": {}, "results": {}}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    flat = pa.array(np.float32(logits).reshape(-1))
    columns = {"path": list("abcd"), "generator": ["x", "x", "y", "y"], "label": list(labels)}
    columns["logits"] = pa.FixedSizeListArray.from_arrays(flat, len(flat) // 4)
    columns["activations"] = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(12, np.float32)), 3)
    table = pa.table(columns)
    write_parquet(table, folder / "per_image")
    return folder


@pytest.fixture
def runs(tmp_path):
    p = {"a": (0.9, 0.1, 0.3), "b": (0.6, 0.1, 0.7), "c": (0.1, 0.1, 0.1), "d": (0.9, 0.9, 0.9)}
    detector = color_run(tmp_path / "detector", DETECTOR, [[[logit(one)] for one in row] for row in p.values()])
    q = {"a": (0.8, 0.5, 0.4), "b": (0.3, 0.5, 0.2), "c": (0.9, 0.5, 0.9), "d": (0.9, 0.9, 0.9)}
    both = [[[0, logit(one)] for one in row] for row in q.values()]
    return detector, color_run(tmp_path / "classifier", CLASSIFIER, both)


def test_decisions_before_and_after(runs, tmp_path):
    found = across(runs, tmp_path / "out", reporter=Silent())
    rows = [[row[name] for name in ("generator", "num", "median_before", "median_after", "kept")]
            for row in found.table("networks").to_pylist()]  # fmt: skip
    detector = ["x", 2, 75, 50, 0.5]  # fake y has p = 0.1 < 0.2, d is real
    # top classes of a, b, c: 1 (0.8), 0 (0.7), 1 (0.9), whose probabilities become 0.4, 0.8, 0.9
    classifier = [["x", 2, 75, 60, 0.5], ["y", 1, 90, 90, 1.0], ["all", 3, 80, 80, 2 / 3]]
    for row, expected in zip(rows, [detector, *classifier], strict=True):
        assert row[0] == expected[0]
        np.testing.assert_allclose(row[1:], expected[1:], rtol=1e-5)  # logits are float32
    names = found.table("networks")["network"].to_pylist()
    assert (names[0].split(":")[0], names[-1].split(":")[0]) == ("detector", "classifier")
    assert [path.name for path in found.figures] == ["networks.png"]


def test_one_network_on_two_sets_of_images_is_two_rows(runs, tmp_path):
    again = color_run(tmp_path / "again", DETECTOR, np.ones((4, 3, 1)))
    said = done("across", runs[0], again, "--out", tmp_path / "out")
    names = RunResult(tmp_path / "out").table("networks")["network"].to_pylist()
    assert len(set(names)) == 2
    assert names[0].endswith(f"({runs[0]})")
    assert "2 runs compared" in said.out


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(InputError, match="give two color runs or more"):
        across(runs[:1], tmp_path / "out", reporter=Silent())
    with pytest.raises(InputError, match=r"has no ablation hue:90; it has blur:1, grayscale"):
        decisions(RunResult(runs[0]), "hue:90")
    assert "is not a run directory" in refused("across", tmp_path, runs[0], "--out", tmp_path / "out")
    with pytest.raises(InputError, match="each once"):
        across([runs[0], runs[0]], tmp_path / "out", reporter=Silent())
    nothing = color_run(tmp_path / "real", DETECTOR, np.zeros((4, 3, 1)), labels=["real"] * 4)
    with pytest.raises(InputError, match=r"no fake image has p >= 0.20"):
        decisions(RunResult(nothing), "grayscale")

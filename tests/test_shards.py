"""Every study in shards through the command line: the same bytes as in one run, and what cannot be merged."""

import random
from pathlib import Path

import numpy as np
import pytest
import studies
from command import done, refused
from small import KEYS
from studies import assert_same_files

import tffjax
from tffjax.nn import checkpoint
from tffjax.pipeline.reporter import Silent
from tffjax.pipeline.shards import merge
from tffjax.studies.call import model_of
from tffjax.studies.ffrs.run import Rank
from tffjax.studies.ffrs.statistic import UNIT, Design, Totals

OPTIONS = {
    "predict": (),
    "rank": ("--own-size", "--k", 5, "--confidence", 0, "--bootstrap", 5, "--per-image"),
    "dropout": ("--k", "2,4", "--random", 2, "--each", 3, "--greedy", 2),
    "find-k": ("--random", 1),
    "color": ("--k", 3, "--ablation", "grayscale", "--ablation", "jpeg:50"),
    "lrpmax": ("--k", 3, "--top", 2),
}
"""Options of each study, on images of four batches."""


@pytest.fixture(scope="module", autouse=True)
def networks():
    with studies.networks_by_name():
        yield


@pytest.fixture(autouse=True)
def unplotted(monkeypatch):
    """Drawing takes most of the time of a small run."""
    for module in ("ffrs.run", "dropout.run", "dropout.find_k", "color.run", "lrpmax.figures"):
        monkeypatch.setattr(f"tffjax.studies.{module}.save_figure", lambda *given, **options: None)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    studies.sort_by_decision(folder, tmp_path_factory.mktemp("unsorted"), ("biggan", "progan"), 3)
    studies.damage(folder, studies.paths_of(folder)[4])
    return folder


@pytest.fixture(scope="module")
def arguments(images, tmp_path_factory) -> dict[str, tuple]:
    ranking = studies.make_ranking(tmp_path_factory.mktemp("ranking") / "ranking.csv", KEYS)
    ranked = ("--ranking", ranking)
    given = {name: () if name in ("predict", "rank") else ranked for name in OPTIONS}
    return {name: ("decisive", images, *given[name], *OPTIONS[name], "--batch-size", 3) for name in OPTIONS}


def in_shards(command: str, arguments: tuple, out: Path, count: int, order: random.Random) -> None:
    """All passes, each in shards in another order, one of them twice."""
    while True:
        indices = [*range(count), order.randrange(count)]
        order.shuffle(indices)
        for index in indices:
            done(command, *arguments, "--out", out, "--shard", f"{index}/{count}")
        if "run the" not in done("merge", out).out:
            return


@pytest.mark.extended
@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("count", [3, studies.slow(7)])
def test_shards_give_the_same_bytes_as_one_run(command, count, arguments, tmp_path):
    done(command, *arguments[command], "--out", tmp_path / "whole")
    in_shards(command, arguments[command], tmp_path / "run", count, random.Random(count))
    assert_same_files(tmp_path / "run", tmp_path / "whole")


def test_what_cannot_be_merged_is_said(arguments, images, tmp_path):
    out = tmp_path / "run"
    assert "holds no shards" in refused("merge", out)
    done("predict", *arguments["predict"], "--out", out, "--shard", "0/2")
    assert "shards 1 of 2 are missing; run them first" in refused("merge", out)
    other = ("predict", *arguments["predict"], "--crop", 32, "--out", out, "--shard", "0/2")
    assert "was made otherwise: identity.arguments.crop is 32 here and was null there" in refused(*other)
    assert "shard 2 of 2 does not exist" in refused("predict", *arguments["predict"], "--out", out, "--shard", "2/2")
    assert "holds other results" in refused("predict", *arguments["predict"], "--out", out)
    assert "--resume" in refused("predict", "--resume", out / "shards" / "0-of-2", "--shard", "0/2")
    done("predict", *arguments["predict"], "--out", out, "--shard", "1/2")
    record = out / "shards" / "1-of-2" / "run.json"
    record.write_text(record.read_text().replace('"jax": "', '"jax": "9.', 1))
    assert "identity.machine.jax is" in refused("merge", out)


@pytest.mark.extended
def test_from_python(arguments, images, tmp_path):
    """The functions of the library, with a model from memory, which a merger cannot know."""
    model = checkpoint.load(Path("decisive"))
    asked = {"confidence": 0.0, "bootstrap": 5, "batch_size": 3, "resize": None, "crop": None, "reporter": Silent()}
    whole = tffjax.rank(model, images, tmp_path / "whole", **asked)
    for index in range(2):
        tffjax.rank(model, images, tmp_path / "run", shard=(index, 2), **asked)
    assert "say --weights CHECKPOINT" in refused("merge", tmp_path / "run")
    assert merge(Rank(model_of(model)[0], confidence=0.0, bootstrap=5), tmp_path / "run", Silent())
    assert_same_files(tmp_path / "run", tmp_path / "whole")
    assert whole.table("ranking_fake").column_names == ["key", "mean_relevance"]
    again = tffjax.rank(model, images, tmp_path / "whole", **asked)
    assert again.summary == whole.summary
    assert "statistics" in whole._repr_html_()
    with pytest.raises(tffjax.InputError, match="has no table 'nothing'; there are"):
        whole.table("nothing")
    with pytest.raises(tffjax.InputError, match="was made otherwise"):
        tffjax.rank(model, images, tmp_path / "whole", **asked | {"bootstrap": 6})


def test_sums_that_overflow_are_refused():
    """10^8 images fit: their shares are at most 1 each."""
    design = Design((2,), (), 1, 0, 0)
    totals = Totals.zero(design)
    totals.sums[:] = 10**8 * 2**36
    one = np.ones((1, 2), np.float32), np.ones((1, 1), np.float32), np.ones((2, 1)), np.array([True]), np.array([True])
    totals.add(*one)
    assert (totals.sums[1] * UNIT == 10**8 + 1).all()
    totals.sums[:] = 2**63 - 1
    with pytest.raises(tffjax.InputError, match="the sums over so many images overflow; rank them in several runs"):
        totals.add(*one)

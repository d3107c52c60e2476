"""The studies on EfficientNet-B0 in shards that are killed and run again: the same bytes as in one run."""

import random
from pathlib import Path

import cases
import pytest
import studies
from command import done
from processes import killed
from studies import assert_same_files

from tffjax.nn import checkpoint
from tffjax.studies.rankings import all_channels

pytestmark = pytest.mark.slow

COUNT, KILLED = 8, 3
OPTIONS = {
    "rank": ("--own-size", "--confidence", 0, "--bootstrap", 5, "--per-image"),
    "dropout": ("--k", "2,4", "--random", 2),
    "color": ("--k", 3),
    "lrpmax": ("--k", 3, "--top", 2),
}
PASSES = dict.fromkeys(OPTIONS, 1) | {"lrpmax": 2}
DETECTOR = cases.B0_SAME


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> dict[str, tuple]:
    """Of each study, on 47 images: three batches of two a shard."""
    folder = tmp_path_factory.mktemp("given")
    checkpoint.save(DETECTOR.random_model(), folder / "detector")
    images = studies.make_images(folder / "images", count=12)
    studies.damage(images, studies.paths_of(images)[4])
    channels = random.Random(0).sample(all_channels(DETECTOR.random_model()), 20)
    ranking = studies.make_ranking(folder / "ranking.csv", [channel.key for channel in channels])
    ranked = {name: () if name == "rank" else ("--ranking", ranking) for name in OPTIONS}
    return {name: (folder / "detector", images, *ranked[name], *OPTIONS[name], "--batch-size", 2) for name in OPTIONS}


@pytest.fixture(scope="module", params=OPTIONS)
def study(request, arguments, tmp_path_factory) -> tuple[str, tuple, Path]:
    """A study, its arguments, and a run that nothing disturbed."""
    name = request.param
    whole = tmp_path_factory.mktemp(name) / "run"
    done(name, *arguments[name], "--out", whole)
    return name, arguments[name], whole


@pytest.mark.parametrize("seed", [0, 1])
def test_shards_that_are_killed_and_run_again_give_the_same_bytes(study, tmp_path, seed):
    """Of eight shards three are killed at random moments of each pass, then all are run in another order."""
    name, given, whole = study
    draw, out, kills = random.Random(f"{name} {seed}"), tmp_path / "run", 0

    def shard(index: int) -> tuple:
        return name, *given, "--out", out, "--shard", f"{index}/{COUNT}"

    for number in range(PASSES[name]):
        for index in draw.sample(range(COUNT), KILLED):
            kills += killed(out / "shards" / f"{index}-of-{COUNT}", number, draw, *shard(index))
        for index in draw.sample(range(COUNT), COUNT):
            done(*shard(index))
        said = done("merge", out).out
        assert ("run the" in said) == (number + 1 < PASSES[name])
    assert kills > 0
    assert_same_files(out, whole)

"""Which channels of a ranking are meant: keys, channels that respond to color, and numbers above what there is."""

import json

import numpy as np
import pyarrow as pa
import pytest
import studies
from command import done
from small import KEYS

from tffjax.errors import InputError
from tffjax.results.tables import write_table
from tffjax.studies.figures import dropped_medians
from tffjax.studies.rankings import Ranking, parse_key, read_keys
from tffjax.studies.selection import Amounts, amounts, choose

CHANNELS = tuple(map(parse_key, KEYS[:5]))
A, B, C, D, E = CHANNELS
RANKING = Ranking(CHANNELS, np.array([0.5, 0.4, 0.3, 0.2, 0.1]))


def color_run(folder, command="color", ablation="grayscale", weights="abc"):
    """A finished run: A responds on both generators, B on one, C on none; D and E are not tested."""
    folder.mkdir()
    record = {"command": command, "identity": {"weights": {"weights_sha256": weights}}, "paths": {}, "results": {}}
    (folder / "run.json").write_text(json.dumps(record))
    responds = {("progan", A): True, ("progan", B): True, ("progan", C): False}
    responds |= {("BigGAN", A): True, ("BigGAN", B): False, ("BigGAN", C): False}
    rows = [
        {"ablation": ablation, "generator": generator, "key": channel.key, "color_conditional": found}
        for (generator, channel), found in responds.items()
    ]
    write_table(pa.Table.from_pylist(rows), folder / "tests")
    return folder


@pytest.fixture
def run(tmp_path):
    return color_run(tmp_path / "color")


def test_chosen_channels_come_first_and_the_others_follow():
    chosen = choose(RANKING, [D, B.key])
    assert chosen.channels == (D, B)
    assert chosen.ranking.channels == (D, B, A, C, E)
    assert chosen.ranking.omega.tolist() == [0.2, 0.4, 0.5, 0.3, 0.1]
    assert choose(RANKING).channels == CHANNELS
    assert choose(None, [E, A]).channels == (E, A)


@pytest.mark.parametrize(
    ("where", "keys", "expected"),
    [
        ("color-conditional", None, (A,)),
        ("not-color-conditional", None, (C,)),
        ("color-conditional:progan", None, (A, B)),
        ("not-color-conditional:biggan", None, (B, C)),
        ("color-conditional:progan", (D, B), (B,)),
    ],
)
def test_channels_that_respond_to_color(run, where, keys, expected):
    assert choose(RANKING, keys, where, run, "abc").channels == expected
    assert choose(None, keys and expected, where, run).channels == expected


def test_what_cannot_be_chosen(run, tmp_path):
    def refused(message, *given):
        with pytest.raises(InputError, match=message):
            choose(*given)

    refused("give --ranking RANK.csv", None)
    refused("is named twice", RANKING, [A, B, A])
    refused("none of the channels of the ranking", Ranking((A,), np.ones(1)), [B])
    refused("need each other", RANKING, None, "color-conditional")
    refused("need each other", RANKING, None, None, run)
    refused("got blue", RANKING, None, "blue", run)
    refused("has no generator x; it has progan, BigGAN", RANKING, None, "color-conditional:x", run)
    refused("none of the channels is color-conditional", RANKING, [C], "color-conditional", run)
    refused("made with another network", RANKING, None, "color-conditional", run, "another")
    other = color_run(tmp_path / "dropout", command="dropout")
    refused("not a finished run of tffjax color", RANKING, None, "color-conditional", other)
    blurred = color_run(tmp_path / "blur", ablation="blur:1")
    refused("did not test grayscale", RANKING, None, "color-conditional", blurred)


def test_figures_of_several_networks_are_refused(run, tmp_path):
    other = color_run(tmp_path / "other", weights="def")
    with pytest.raises(InputError, match="of several networks; draw a figure for each of them"):
        dropped_medians([run, other])


def test_numbers_above_what_there_is_are_capped_with_a_word():
    chosen = choose(RANKING, [A, B, C])
    assert amounts(chosen, [2, 3]) == Amounts((2, 3), "")
    word = "3 channels are there, fewer than k = 6: all of them are taken"
    assert amounts(chosen, [2, 3, 4, 6]) == Amounts((2, 3), word)


def test_keys_from_a_file(tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("key,mean_relevance\nconv1.#5(T=6),0.5\n\nconv0.#0(T=4)\n")
    assert [channel.key for channel in read_keys(path)] == ["conv1.#5(T=6)", "conv0.#0(T=4)"]
    for text, message in (
        ("conv1.#6(T=6)\n", "keys.csv, line 1: 'conv1.#6"),
        ("conv1.#5(T=6)\nkey\n", "line 2: 'key' is not a channel key"),
        ("key\n", "holds no channel key"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_keys(path)
    with pytest.raises(InputError, match=r"other.csv: cannot be read \(No such file"):
        read_keys(tmp_path / "other.csv")


@pytest.mark.parametrize("command", ["lrpmax", "color", "dropout", "find-k"])
def test_commands_take_chosen_channels(command, tmp_path, monkeypatch):
    monkeypatch.setattr(studies.checkpoint, "load", lambda path: studies.network(path.name))
    images = studies.make_images(tmp_path / "images", generators=("progan",), count=1)
    ranking = studies.make_ranking(tmp_path / "ranking.csv")
    keys = ",".join(studies.SHUFFLED[3:5])
    dry = done(command, "detector", images, "--ranking", ranking, "--keys", keys, "--out", tmp_path / "o", "--dry-run")
    number = {
        "lrpmax": "explain 2 channels",
        "color": "test 2 channels",
        "dropout": "under 7 settings",
        "find-k": "up to 2",
    }
    assert number[command] in dry.out

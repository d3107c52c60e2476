"""Channel keys and ranking files: published files byte for byte, golden keys, and everything that can be wrong."""

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tffjax.errors import InputError
from tffjax.studies.rankings import (
    Channel,
    Ranking,
    all_channels,
    check_channels,
    parse_key,
    read_ranking,
    write_ranking,
)

PUBLISHED = {"resnet50": cases.RESNET50, "efb0": cases.B0_SAME}


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


# Keys


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.from_regex(r"[A-Za-z_][\w.]{0,20}", fullmatch=True), st.integers(0, 5000), st.integers(1, 5000))
def test_keys_there_and_back(site, index, more):
    channel = Channel(site, index, index + more)
    assert parse_key(channel.key) == channel


def test_a_key_by_hand():
    assert parse_key("layer1.0.conv1.#63(T=64)") == Channel("layer1.0.conv1", 63, 64)
    assert parse_key(" _blocks.0._depthwise_conv.#2(T=32)\n") == Channel("_blocks.0._depthwise_conv", 2, 32)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "layer1.0.conv1",
        "layer1.0.conv1.#63",
        "layer1.0.conv1#63(T=64)",
        ".#63(T=64)",
        "layer1.0.conv1.#64(T=64)",
        "layer1.0.conv1.#0(T=0)",
        "layer1.0.conv1.#-1(T=64)",
        "layer1.0.conv1.#1.0(T=64)",
        "layer1.0.conv1.#63(T=64) x",
        "layer1 conv1.#63(T=64)",
    ],
)
def test_what_is_no_key(key):
    with pytest.raises(InputError, match="is not a channel key"):
        parse_key(key)


def test_channels_of_a_network(network, model):
    channels = all_channels(model)
    assert len(set(channels)) == len(channels) == network.num_channels
    assert len({channel.site for channel in channels}) == network.num_sites


def test_channels_are_in_the_golden_order(golden, golden_model):
    assert [channel.key for channel in all_channels(golden_model)] == golden.load("ffrs.npz")["keys"].tolist()


# Files


@pytest.mark.extended
@pytest.mark.parametrize("label", ["fake", "real"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rankings_there_and_back(shared, tmp_path, name, label):
    """Read, they are sorted rankings of all channels of the network; written again, they have the same bytes."""
    path = shared / "published" / f"omega-{name}-progan_val-{label}.csv"
    ranking = read_ranking(path)
    assert set(ranking.channels) == set(all_channels(PUBLISHED[name].random_model(num_outputs=3)))
    assert len(ranking.channels) == PUBLISHED[name].num_channels
    assert (np.diff(ranking.omega) <= 0).all()
    write_ranking(tmp_path / "again.csv", ranking)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_values_read_back_as_the_same_number(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("ranking") / "r.csv"
    ranking = Ranking(tuple(Channel("conv1", i, 9) for i in range(len(values))), np.array(values))
    write_ranking(path, ranking)
    again = read_ranking(path)
    assert again.channels == ranking.channels
    assert again.omega.tobytes() == ranking.omega.tobytes()


def test_further_columns_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes(b"key,mean_relevance,rank\r\nconv1.#1(T=3),0.5,1\r\nconv1.#0(T=3),1e-3,2\r\n")
    channels, omega = read_ranking(path)
    assert channels == (Channel("conv1", 1, 3), Channel("conv1", 0, 3))
    assert omega.tolist() == [0.5, 0.001]


@pytest.mark.parametrize(
    ("line", "number"),
    [("conv1.#1(T=3)", 3), ("conv1.#3(T=3),0.1", 3), ("conv1.#1(T=3),much", 3), ("", 3), ("conv1.#1(T=3),", 3)],
)
def test_a_malformed_line_is_named(tmp_path, line, number):
    path = write(tmp_path / "r.csv", f"key,mean_relevance\nconv1.#0(T=3),0.5\n{line}\nconv1.#2(T=3),0.1\n")
    with pytest.raises(InputError, match=rf"r\.csv, line {number}: .*is not `key,mean_relevance`"):
        read_ranking(path)


@pytest.mark.parametrize(
    "text", ["", "\n", "key,mean_relevance\n", "key,omega\nconv1.#0(T=3),1\n", "conv1.#0(T=3),1\n"]
)
def test_what_is_no_ranking(tmp_path, text):
    with pytest.raises(InputError, match="not a ranking; expected a CSV with the header key,mean_relevance"):
        read_ranking(write(tmp_path / "r.csv", text))


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_ranking(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_ranking(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(InputError, match="not a text file"):
        read_ranking(tmp_path / "picture.png")


# Lists against networks


@pytest.mark.extended
def test_channels_of_another_network_are_refused():
    channels = all_channels(cases.B0_SAME.random_model(num_outputs=3))[:5]
    check_channels(channels, cases.B0_SYMMETRIC.random_model(num_outputs=3))
    with pytest.raises(InputError, match=r"no channel _conv_stem\.#0\(T=32\) \(5 of 5 are unknown\)"):
        check_channels(channels, cases.RESNET50.random_model(num_outputs=3))
    with pytest.raises(InputError, match=r"\(1 of 6 are unknown\)"):
        check_channels([*channels, Channel("_conv_stem", 0, 33)], cases.B0_SAME.random_model(num_outputs=3))


def test_a_channel_named_twice_is_refused():
    channels = all_channels(cases.B0_SAME.random_model(num_outputs=3))[:5]
    with pytest.raises(InputError, match=r"channel _conv_stem\.#3\(T=32\) is named twice"):
        check_channels([*channels, channels[3]], cases.B0_SAME.random_model(num_outputs=3))

"""Names of files and folders with everything that a file system takes: in tables, plots, pages and on the screen."""

import os
from pathlib import Path

import pytest
import studies
from command import done, save_image
from studies import make_ranking, networks_by_name, read

from tffjax.files import LONGEST, file_name, printable, shortened, utf8
from tffjax.results.style import short_name

NAMES = {
    b"caf\xe9": b"\xff\xfe.png",
    b"x" * 240: b"y" * 236 + b".png",
    b"$\\frac$ = 1": b"$x_$.png",
    b"=1+1\"'": b"=cmd|'.png",
    b"a\nb": b"n\nl.png",
    b"<b>[red]&amp;": b"<script>.png",
    b"_under": b"_.png",
    "日本\u202e".encode(): "\u200b.png".encode(),
    b"\x1b[31m;": b"\x07.png",
    b"-rf %d": b"-h.png",
}
"""Generator -> image."""

BATCH = ("--batch-size", 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    for seed, (generator, name) in enumerate(NAMES.items()):
        for label in ("0_real", "1_fake"):
            save_image(folder / os.fsdecode(generator) / label / os.fsdecode(name), 2 * seed + (label > "1"))
    return folder


@pytest.fixture(scope="module", autouse=True)
def networks():
    with networks_by_name():
        yield


def escaped(name: bytes) -> str:
    return {b"caf\xe9": "caf%E9"}.get(name) or name.decode()


def test_predictions_say_the_names_and_are_a_list(data, tmp_path):
    done("predict", "decisive", data, "--out", tmp_path / "run", *BATCH)
    rows = read(tmp_path / "run/predictions.parquet")
    assert {row["generator"] for row in rows} == set(map(escaped, NAMES))
    assert {row["path"] for row in rows} >= {"caf%E9/0_real/%FF%FE.png", "=1+1\"'/1_fake/=cmd|'.png"}
    assert len({row["path"] for row in rows}) == 2 * len(NAMES)


@pytest.mark.slow
def test_every_study_and_page_takes_the_names(data, tmp_path):
    ranking = make_ranking(tmp_path / "ranking.csv")
    every = {
        "rank": ("--confidence", 0, "--own-size", "--bootstrap", 5, "--per-image"),
        "dropout": ("--ranking", ranking, "--k", 2, "--random", 2),
        "find-k": ("--ranking", ranking, "--max-k", 3, "--random", 2),
        "color": ("--ranking", ranking, "--k", 3),
        "lrpmax": ("--ranking", ranking, "--k", 3, "--top", 2),
    }
    for command, options in every.items():
        done(command, "detector", data, *options, "--out", tmp_path / command, *BATCH)
    done("heatmap", "detector", data, "--method", "lrp", "--out", tmp_path / "heatmap", "--limit", 20)
    done("report", *(tmp_path / command for command in every), tmp_path / "heatmap", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>.png" not in page
    assert "caf%E9" in page
    done("audit", data, "--out", tmp_path / "audit")
    done("pack", data, "--out", tmp_path / "records")
    done("predict", "detector", tmp_path / "records", "--out", tmp_path / "packed", *BATCH)
    done("predict", "detector", data, "--out", tmp_path / "files", *BATCH)
    assert studies.read(tmp_path / "packed/predictions.parquet") == studies.read(tmp_path / "files/predictions.parquet")


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"a%FF", "a%FF"), (b"a\xff%", "a%FF%25"), ("ü".encode(), "ü"), (b"\xc3", "%C3"), (b"\xff\xc3\xbc", "%FFü")],
)
def test_a_name_as_utf8(name, expected):
    assert utf8(os.fsdecode(name)) == expected


def test_a_long_name_is_cut_and_stays_distinct():
    first, second = "ü" * 130 + "a", "ü" * 130 + "b"
    assert shortened("ü" * 60) == "ü" * 60
    assert len({shortened(first), shortened(second), file_name(first)}) == 2
    assert all(len(shortened(name).encode()) <= LONGEST for name in (first, second))


def test_a_name_in_a_figure_and_on_a_terminal():
    assert short_name("_a\nb") == " _a b"
    assert len(short_name("x" * 99)) == 28
    assert printable("\x1b[31m\n\u202e") == "\\x1b[31m\n\\u202e"

"""Tables on the disk: rounded for people, in full precision for programs, whole or not at all."""

import math

import pyarrow as pa
import pytest

from tffjax.errors import InputError
from tffjax.results import tables
from tffjax.results.decimals import digits_of, rounded
from tffjax.results.tables import has_table, read_table, write_parquet, write_table

TABLE = pa.table(
    {
        "generator": ["a, b", "c"],
        "ap": [2 / 3, math.nan],
        "threshold": pa.array([-1 / 3, 41.98765432], pa.float64()),
        "p_adjusted": [1.23456e-7, 0.05123],
        "effect": [math.inf, -1234.5678],
        "num": [1_234_567, 2],
    }
)


def test_a_person_reads_few_decimals_and_a_program_all(tmp_path):
    write_table(TABLE, tmp_path / "jpeg-0.5")
    assert (tmp_path / "jpeg-0.5.csv").read_text().splitlines() == [
        '"generator","ap","threshold","p_adjusted","effect","num"',
        '"a, b",0.6667,-0.3333,1.23e-7,inf,1234567',
        '"c",,41.9877,0.0512,-1234.57,2',
    ]
    again = read_table(tmp_path / "jpeg-0.5")
    assert again.drop_columns(["ap"]).equals(TABLE.drop_columns(["ap"]))
    assert again["ap"].to_pylist()[0] == 2 / 3
    assert {path.name for path in tmp_path.iterdir()} == {"jpeg-0.5.csv", "jpeg-0.5.parquet"}


@pytest.mark.parametrize(
    ("column", "digits"),
    [
        *((name, ".4f") for name in ("ap", "real_calibrated", "published_acc_fake", "share_paired", "probability")),
        *((name, ".4f") for name in ("logit", "threshold_best", "score")),
        ("ProGAN ap", ".1f"),
        *((name, ".3g") for name in ("p", "p_paired", "p_value")),
        *((name, ".6g") for name in ("omega", "effect", "value", "top-114", "pathological", "realm")),
    ],
)
def test_digits_by_the_kind_of_number(column, digits):
    assert digits_of(column) == digits


def test_no_number_is_minus_zero():
    assert math.copysign(1, rounded(pa.table({"ap": [-1e-9]}))["ap"][0].as_py()) == 1


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_table(TABLE, tmp_path / name)
    for ending in ("csv", "parquet"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_table_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    write_table(TABLE, tmp_path / "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(table, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables.pyarrow.parquet, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_parquet(TABLE.slice(1), tmp_path / "a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), (b"", ""), (b"PAR1 no PAR1", "")])
def test_a_table_that_cannot_be_read_is_named(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "a.parquet").write_bytes(content)
    assert has_table(tmp_path / "a") == (content is not None)
    with pytest.raises(InputError, match=rf"a\.parquet: cannot be read \(.*{reason}.*\); run the command again"):
        read_table(tmp_path / "a")

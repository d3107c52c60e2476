"""The paper's wide layout of tables E.1 and I.1."""

import math

import pyarrow as pa
import pytest

from tffjax.errors import InputError
from tffjax.results import published
from tffjax.results.tables import read_table
from tffjax.results.wide import Line, html_table, latex, lines_of, write_wide

GENERATORS = ("ProGAN", "StyleGAN2", "StyleGAN", "BigGAN", "CycleGAN", "StarGAN", "GauGAN")


def long_table(*rows: tuple[str, str, float, float | None]) -> pa.Table:
    """Setting, generator, AP of ours and of the paper; accuracies on real and fake are a half and a quarter of it."""
    columns = ("ap", "real_calibrated", "fake_calibrated")
    parts = (1, 0.5, 0.25)
    return pa.Table.from_pylist(
        [
            {"setting": setting, "generator": generator}
            | {name: part * ours for name, part in zip(columns, parts, strict=True)}
            | {f"published_{name}": theirs and part * theirs for name, part in zip(columns, parts, strict=True)}
            for setting, generator, ours, theirs in rows
        ]
    )


TABLE = long_table(
    ("baseline", "my_gan", 0.8, None),
    ("baseline", "progan", 1.0, 0.96),
    ("baseline", "all", 0.9, None),
    ("top-2", "my_gan", 0.5, None),
    ("top-2", "progan", math.nan, None),
    ("top-2", "all", 0.6, None),
)


def test_a_row_for_each_setting_and_below_it_the_papers(tmp_path):
    write_wide(lines_of(TABLE, "setting"), "setting", tmp_path / "table-e1")
    assert (tmp_path / "table-e1.csv").read_text().splitlines() == [
        '"setting","progan ap","progan real","progan fake","my_gan ap","my_gan real","my_gan fake"',
        '"baseline",100,50,25,80,40,20',
        '"baseline, published",96,48,24,,,',
        '"top-2",,,,50,25,12.5',
    ]
    assert read_table(tmp_path / "table-e1")["progan ap"].to_pylist()[:2] == [100, 96]
    assert (tmp_path / "table-e1.tex").read_text().splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{l*{2}{rrr}}",
        r"\toprule",
        r" & \multicolumn{3}{c}{ProGAN} & \multicolumn{3}{c}{my\_gan} \\",
        r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}",
        r" & AP & Real & Fake & AP & Real & Fake \\",
        r"\midrule",
        r"baseline & 100.0 & 50.0 & 25.0 & 80.0 & 40.0 & 20.0 \\",
        r"baseline, published & 96.0 & 48.0 & 24.0 & -- & -- & -- \\",
        r"top-2 & -- & -- & -- & 50.0 & 25.0 & 12.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_generators_stand_in_the_order_of_the_paper(tmp_path):
    values = {name: published.dropout_numbers("ResNet-50", "top-114", name) for name in sorted(GENERATORS)}
    line = Line("top-114", {name: tuple(100 * value for value in row) for name, row in values.items()})
    write_wide([line], "setting", tmp_path / "e1")
    row = read_table(tmp_path / "e1")
    assert row.column_names[1::3] == [f"{name} ap" for name in GENERATORS]
    assert (tmp_path / "e1.csv").read_text().splitlines()[1].startswith('"top-114",69.8,99.4,3.2,')


def test_names_cannot_break_the_latex_or_the_html():
    line = Line(r"100% {x} \y", {"a&b_<c>": (1.0, None, 3.0)})
    assert r'<th colspan="3">a&amp;b_&lt;c&gt;</th>' in html_table([line], ["a&b_<c>"])
    assert "<td>1.0</td><td>&ndash;</td><td>3.0</td>" in html_table([line], ["a&b_<c>"])
    text = latex([line], ["a&b_<c>"])
    assert r"{a\&b\_\textless{}c\textgreater{}}" in text
    assert r"100\% \{x\} \textbackslash{}y & 1.0 & -- & 3.0 \\" in text


@pytest.mark.parametrize("detector", published.DETECTORS)
def test_every_detector_of_the_paper_has_its_color_table(detector):
    for kind in ("Baseline", "Grayscale"):
        assert all(published.grayscale_numbers(detector, kind, name) for name in GENERATORS)
    published.check_detector(detector)


def test_other_detectors_have_no_numbers():
    assert published.dropout_numbers(None, "baseline", "ProGAN") is None
    assert published.grayscale_numbers("ResNet-50", "Grayscale", "spade") == (0.976, 0.977, 0.788)
    with pytest.raises(InputError, match="the paper has no detector mine; it has ResNet-50, "):
        published.check_detector("mine")

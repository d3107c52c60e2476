"""Rounding, the emulated formats on a small network, comparison with the reference."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import precision_study
import pytest
from precision_study import FORMATS, Format, compare, iou, kept, markdown, measure, spread
from small import noise, small_model

from tffjax.data import ImageFile
from tffjax.lrp.explain import relevance

pytestmark = pytest.mark.extended

FLOAT64, FLOAT32, TF32, BFLOAT16, STORAGE = FORMATS
NAMES = [f"{number}.png" for number in range(6)]


@pytest.fixture(scope="module")
def measured() -> dict[str, precision_study.Measured]:
    """The small network in every format but TF32, which is bfloat16 with more bits."""
    model, images = small_model(jnp.float32), np.asarray(noise(16, len(NAMES), jnp.float32))
    found = {FLOAT64.name: measure(model, images, 2, FLOAT64)}
    others = (FLOAT32, BFLOAT16, STORAGE)
    return found | {one.name: measure(model, images, 2, one, found[FLOAT64.name]) for one in others}


@pytest.mark.parametrize("format", [TF32, BFLOAT16], ids=lambda format: format.name)
def test_rounding_is_idempotent_and_within_half_a_unit_and_keeps_what_is_representable(format, rng):
    x = np.float32(rng.standard_normal(1000) * 10.0 ** rng.integers(-20, 20, 1000))
    rounded = np.asarray(format.product(jnp.asarray(x)))
    unit = 2.0 ** (np.floor(np.log2(np.abs(x.astype(np.float64)))) - format.mantissa)
    assert np.all(np.abs(rounded.astype(np.float64) - x) <= unit / 2)
    assert np.any(rounded != x)
    np.testing.assert_array_equal(format.product(jnp.asarray(rounded)), rounded)
    dyadic = np.float32(np.arange(2**format.mantissa, 2 ** (format.mantissa + 1)) * 2.0**-30)
    np.testing.assert_array_equal(format.product(jnp.asarray(dyadic)), dyadic)


def test_rounding_goes_to_the_even_neighbor_and_as_the_type_does(rng):
    tie = 1 + np.float32([1, 3]) * np.float32(2.0**-11)
    np.testing.assert_array_equal(TF32.product(jnp.asarray(tie)), np.float32([1, 1 + 2.0**-9]))
    x = jnp.asarray(rng.standard_normal(1000), jnp.float32)
    np.testing.assert_array_equal(BFLOAT16.product(x), x.astype(jnp.bfloat16).astype(jnp.float32))


def test_stored_numbers_are_rounded_forward_and_relevances_backward():
    x, gradient = jnp.float32(1.001), jnp.float32(3.003)
    value, pullback = jax.vjp(STORAGE.stored, x)
    assert value == 1
    assert pullback(gradient) == (3,)
    assert BFLOAT16.stored(x) == x


@pytest.mark.slow
def test_float32_is_what_tffjax_computes(measured):
    model, images = small_model(jnp.float32), noise(16, len(NAMES), jnp.float32)
    found = relevance(model, images, target=jnp.asarray(measured["float64"].targets), sites=True)
    np.testing.assert_allclose(measured["float32"].maps, found.input.sum(axis=3), rtol=1e-5, atol=1e-6)
    shares = [sums[:, 0] / sums.sum(axis=(1, 2))[:, None] for sums in found.sites.values()]
    np.testing.assert_allclose(measured["float32"].shares, np.concatenate(shares, axis=1), rtol=1e-5, atol=1e-7)


def test_the_target_is_the_largest_output_in_float64(measured, x64):
    model, images = small_model(), noise(16, len(NAMES), jnp.float32).astype(jnp.float64)
    np.testing.assert_array_equal(measured["float64"].targets, model(images).argmax(axis=1))
    assert all((one.targets == measured["float64"].targets).all() for one in measured.values())


def test_nothing_moves_from_the_reference_to_itself(measured):
    row = compare(measured["float64"], measured["float64"], NAMES)
    assert row.pop("top 27 kept") == row.pop("top 114 kept") == 1
    assert np.isnan(row.pop("of same neuron")) is np.False_
    assert np.isnan(row.pop("median IoU of moved")), "no box has moved"
    assert all(abs(value) < 1e-12 for value in row.values())


def test_errors_grow_with_fewer_bits(measured):
    rows = [compare(measured["float64"], one, NAMES) for one in list(measured.values())[1:]]
    float32, bfloat16, storage = (row["median map error"] for row in rows)
    assert 0 < float32 < 1e-5
    assert 1e-3 < bfloat16 < 0.2
    assert 1e-3 < storage < 0.2
    assert bfloat16 != storage
    shifts = [row["median shift"] for row in rows]
    assert shifts[0] < 1e-3 * shifts[1]
    assert all(np.isfinite(value) for row in rows for name, value in row.items() if name != "median IoU of moved")


def test_without_storage_only_products_are_rounded():
    model, images = small_model(jnp.float32), np.asarray(noise(16, 1, jnp.float32))
    exact, fine = (measure(model, images, 1, format) for format in (FLOAT32, Format("all bits", mantissa=23)))
    np.testing.assert_allclose(fine.maps, exact.maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fine.boxes, exact.boxes)


def test_intersection_over_union():
    box = np.array([[0, 2, 0, 4], [0, 2, 0, 4], [0, 2, 0, 4]])
    other = np.array([[0, 2, 0, 4], [1, 3, 2, 6], [2, 4, 0, 4]])
    np.testing.assert_allclose(iou(box, other), [1, 2 / 14, 0])


def test_images_are_taken_in_turn_from_generators_and_labels():
    files = [ImageFile(Path(f"{g}{label}{i}"), label, g) for g in "ab" for label in (0, 1) for i in range(3)]
    assert [str(file.path) for file in spread(files, 5)] == ["a00", "a10", "b00", "b10", "a01"]
    assert len(spread(files, 100)) == len(files)


def test_what_has_been_computed_is_kept_for_the_same_request(measured, tmp_path):
    path, asked = tmp_path / "small.npz", []

    def compute() -> precision_study.Measured:
        asked.append(1)
        return measured["float64"]

    for request, count in (("a", 1), ("a", 1), ("b", 2)):
        found = kept(path, request, compute)
        assert len(asked) == count
        assert all((one == other).all() for one, other in zip(found, measured["float64"], strict=True))


def test_tables_have_a_line_for_each_format_and_a_dash_for_what_does_not_apply(measured):
    row = {"network": "small", "format": "float64"} | compare(measured["float64"], measured["float64"], NAMES)
    rankings, maps = markdown([row, row]).strip().split("\n\n")
    assert len(rankings.splitlines()) == len(maps.splitlines()) == 4
    assert all(line.startswith("| small | float64 | ") for line in rankings.splitlines()[2:])
    assert "nan" not in maps

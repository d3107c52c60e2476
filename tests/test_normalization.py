"""Pixels become network input on the device: the very numbers of the host, in whatever program."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SmallNet

from tffjax.compile.logits import forward, logits_of
from tffjax.compile.placement import put
from tffjax.data.preprocessing import normalize
from tffjax.nn import Model
from tffjax.nn.card import NORMALIZATIONS, Normalization
from tffjax.nn.normalization import normalized
from tffjax.pipeline.programs import compile_pass
from tffjax.studies.color.activations import max_activations
from tffjax.studies.ffrs.statistic import relevance_shares
from tffjax.studies.rankings import Channel

LEVELS = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 3))
means = st.tuples(*[st.floats(-1, 2, width=32)] * 3)
deviations = st.tuples(*[st.floats(2**-10, 2, width=32)] * 3)


@pytest.fixture(scope="module")
def model() -> Model:
    module = SmallNet(outputs=1)
    return Model(module, cases.random_variables(module, seed=0), cases.B0_SAME.card())


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_same_bits(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def on_host(normalization: Normalization) -> np.ndarray:
    """All levels, step by step."""
    source = LEVELS[..., ::-1] if normalization.order == "bgr" else LEVELS
    scaled = source.astype(np.float32) / np.float32(255)
    return (scaled - np.float32(normalization.mean)) / np.float32(normalization.std)


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_every_level_to_the_bit(name, order):
    given = NORMALIZATIONS[name]
    normalization = Normalization(given.mean, given.std, order)
    ours = normalized(jnp.asarray(LEVELS), normalization)
    assert_same_bits(ours, on_host(normalization))
    assert_same_bits(ours, normalize(LEVELS, normalization))


@given(means, deviations, st.sampled_from(["rgb", "bgr"]))
@settings(max_examples=20, deadline=None)
def test_any_normalization_to_the_bit(mean, std, order):
    normalization = Normalization(mean, std, order)
    assert_same_bits(normalized(jnp.asarray(LEVELS), normalization), on_host(normalization))


def test_the_channels_are_told_apart():
    pixels = noise(2, 3, 5, 4, 3)  # with variants
    for normalization in NORMALIZATIONS.values():
        assert_same_bits(normalized(jnp.asarray(pixels), normalization), normalize(pixels, normalization))


def test_a_batch_stays_spread_and_nothing_is_sent():
    pixels = put(noise(4, 6, 5, 3))
    found = normalized(pixels, Normalization())
    assert found.sharding.is_equivalent_to(pixels.sharding, pixels.ndim)
    text = normalized.lower(pixels, Normalization()).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-reduce", "collective-permute", "all-to-all"))


PROGRAMS = {
    "predict": (forward, 0, ()),
    "rank": (relevance_shares, 0, (np.int32,)),
    "color": (
        lambda model, images, **how: max_activations(model, images, (Channel("stem", 3, 6),), **how),
        1,
        (),
    ),
}


@pytest.mark.parametrize("study", PROGRAMS)
def test_a_row_without_an_image_changes_nothing(model, study):
    function, variants, row_types = PROGRAMS[study]
    shape = (4, *[1 + variants] * bool(variants), 32, 32, 3)
    program = compile_pass(function, model, shape, *row_types)
    pixels, rows = noise(*shape), [put(np.ones(4, dtype)) for dtype in row_types]
    found = []
    for level in (0, 255):
        pixels[1::2] = level
        found.append(jax.tree.map(np.asarray, program(model, put(pixels), *rows)))
    for black, white in zip(*map(jax.tree.leaves, found), strict=True):
        assert_same_bits(black[::2], white[::2])
        assert np.isfinite(black).all()
        assert np.isfinite(white).all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_program_begins_with_the_normalization_of_the_card(model, name):
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, normalization=NORMALIZATIONS[name]))
    pixels = noise(4, 32, 32, 3)
    program = compile_pass(forward, model, pixels.shape)
    images = put(normalize(pixels, NORMALIZATIONS[name]))
    assert_same_bits(program(model, put(pixels)), logits_of(model, images))

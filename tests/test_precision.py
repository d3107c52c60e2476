"""The arithmetic of products by name: what is refused, and how far bfloat16 is from float32."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from command import done, refused
from small import SmallNet
from studies import make_images, networks_by_name

from tffjax.compile.logits import forward
from tffjax.compile.products import products
from tffjax.errors import InputError
from tffjax.kernels import choice
from tffjax.kernels.convolution import Geometry, conv, fast
from tffjax.kernels.precision import PRECISIONS, check_precision, lax_precision
from tffjax.lrp.composites import COMPOSITES
from tffjax.lrp.explain import relevance
from tffjax.lrp.linear import Conv
from tffjax.lrp.prepare import prepare
from tffjax.nn import Model
from tffjax.studies.color.activations import max_activations
from tffjax.studies.rankings import all_channels
from tffjax.training.step import Recipe


def small(outputs: int = 1) -> Model:
    return Model(SmallNet(outputs=outputs), cases.random_variables(SmallNet(outputs=outputs), seed=0))


def images(rng, count: int = 2, size: int = 16) -> jax.Array:
    return jnp.asarray(rng.normal(size=(count, size, size, 3)), jnp.float32)


def test_names_that_jax_gives_other_meanings_are_refused(rng):
    for name in ("highest", "high", "default", "tf32"):
        with pytest.raises(InputError, match="choose one of float32, tensorfloat32, bfloat16"):
            relevance(small(), images(rng), precision=name)


def test_tensorfloat32_is_refused_where_there_is_none(rng):
    with pytest.raises(InputError, match="tensorfloat32 needs an NVIDIA GPU"):
        check_precision("tensorfloat32")
    with pytest.raises(InputError, match="tensorfloat32 needs an NVIDIA GPU"):
        Recipe(precision="tensorfloat32")


def test_bfloat16_is_not_what_jax_calls_so():
    assert lax_precision("float32") == jax.lax.Precision.HIGHEST
    assert lax_precision("tensorfloat32") == jax.lax.Precision.HIGH
    x = jnp.ones((1, 4, 4, 2), jnp.float32)
    y = conv(x, jnp.ones((3, 3, 2, 2)), Geometry(), "bfloat16")
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("groups", [1, 4])
def test_sums_of_bfloat16_products_are_float32(groups, rng):
    """Rounded factors, an exact sum, and one rounding: not one for every term."""
    x, kernel = rng.normal(size=(1, 6, 6, 64)), rng.normal(size=(3, 3, 64 // groups, 64))
    rounded = [np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64) for a in (x, kernel)]
    y = conv(*(jnp.asarray(a, jnp.float32) for a in (x, kernel)), Geometry(groups=groups), "bfloat16")
    with jax.enable_x64(True):
        exact = np.asarray(fast(*(jnp.asarray(a) for a in rounded), Geometry(groups=groups)))
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2**-8, atol=1e-5 * np.abs(exact).max())


FEW = ("beta0", "beta1", "beta-adaptive", "epsilon", "epsilon-gamma-box", "guided-backprop")


@pytest.mark.extended
@pytest.mark.parametrize(
    "composite", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in COMPOSITES]
)
def test_bfloat16_relevance_is_float32_up_to_rounding(composite, rng):
    model, x = small(), images(rng)
    formats = ("float32", "bfloat16")
    exact, rounded = (relevance(model, x, composite=composite, sites=True, precision=p) for p in formats)
    assert rounded.input.dtype == rounded.logits.dtype == jnp.float32
    assert {sums.dtype for sums in rounded.sites.values()} == {jnp.dtype("float32")}
    assert (rounded.input != exact.input).any()
    difference = np.linalg.norm(rounded.input - exact.input) / np.linalg.norm(exact.input)
    assert difference < tolerances.BFLOAT16_RELEVANCE


@pytest.mark.extended
def test_bfloat16_forward_and_activations(rng):
    model, x = small(), images(rng)
    scale = np.abs(forward(model, x)).max()
    assert np.abs(forward(model, x, precision="bfloat16") - forward(model, x)).max() < tolerances.BFLOAT16_LOGIT * scale
    channels = all_channels(model)
    exact, rounded = (max_activations(model, x, channels, precision=p)[1] for p in ("float32", "bfloat16"))
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=tolerances.BFLOAT16_LOGIT * np.abs(exact).max())


@pytest.mark.extended
def test_the_ways_of_gpus_explain_the_same(rng, x64):
    """Patches, the stem's phases and the pool by comparisons, and XLA's own convolutions with nothing chosen."""
    model, x = small().astype(jnp.float64), jnp.asarray(images(rng), jnp.float64)
    expected = relevance(model, x, sites=True)
    for kernels in (choice.XLA, choice.GPU, choice.Kernels(patches=("float32",))):
        found = relevance(prepare(model, "beta0", kernels=kernels), x, sites=True)
        np.testing.assert_allclose(found.input, expected.input, rtol=0, atol=1e-12)
        for site, sums in expected.sites.items():
            np.testing.assert_allclose(found.sites[site], sums, rtol=0, atol=1e-12)


def test_the_choice_is_that_of_the_backend():
    assert choice.kernels_of() == choice.kernels_of("cpu") == choice.CPU
    assert choice.kernels_of("gpu") == choice.GPU
    assert choice.kernels_of("tpu") == choice.XLA


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("patches", [False, True])
def test_denominators_are_exactly_zero_where_all_contributions_are(precision, patches, rng):
    x = np.abs(rng.normal(size=(2, 12, 12, 64)))
    x[:, :, 6:] = 0
    kernel = jnp.asarray(np.abs(rng.normal(size=(3, 3, 64, 64))), jnp.float32)
    kernels = dataclasses.replace(choice.kernels_of(), patches=("float32",) if patches else ())
    linear = Conv(Geometry(padding=((1, 1), (1, 1))), precision, kernels)
    z = jax.jit(linear)(jnp.asarray(x, jnp.float32), kernel)
    assert not np.asarray(z, np.float32)[:, :, 7:].any()
    assert (np.asarray(z, np.float32)[:, :, :7] > 0).all()


HLO = "\n".join(
    [
        "  %a = (f32[128,112,112,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k, %b), window={size=7x7}, "
        'operand_precision={highest,highest,default}, custom_call_target="__cudnn$convBiasActivationForward", '
        'backend_config={"algorithm":{"math_type":"DEFAULT_MATH"}}',
        '  %b = (f32[4,4]{1,0}, s8[0]{0}) custom-call(%x, %k), custom_call_target="__cublas$gemm", '
        'backend_config={"precision_config":{"operand_precision":["HIGH","HIGH"]}}',
        "  %c = bf16[4,4]{1,0} dot(%x, %k), lhs_contracting_dims={1}",
        '  %d = f32[4,4]{1,0} custom-call(%x), custom_call_target="TopK"',
        "  %e = f32[2,2]{1,0} fusion(%x), kind=kLoop, calls=%f",
    ]
)


def test_what_a_program_computes_in_is_read_from_its_text():
    assert products(HLO) == (
        "1 cudnn convBiasActivationForward f32 default_math highest, 1 cublas gemm f32 high, 1 dot bf16"
    )
    assert products("nothing") == "none named"


def test_a_compiled_program_names_its_products():
    x = jnp.ones((4, 4))
    text = jax.jit(lambda x: jnp.dot(x, x, precision=lax_precision("float32"))).lower(x).compile().as_text()
    assert products(text) == "1 dot f32 highest"


@pytest.mark.extended
def test_rank_prints_what_its_program_computes_in(tmp_path):
    data = make_images(tmp_path / "data")
    options = ("--resize", 32, "--crop", 32, "--confidence", 0, "--batch-size", 4)
    with networks_by_name():
        for precision, expected in (("float32", None), ("bfloat16", "the compiled program has ")):
            out = done("rank", "small", data, "--out", tmp_path / precision, "--precision", precision, *options).out
            assert ("the compiled program has" in out) == (expected is not None)
        refusal = refused("rank", "small", data, "--out", tmp_path / "x", "--precision", "tensorfloat32", *options)
    assert "tensorfloat32 needs an NVIDIA GPU" in refusal
    assert not (tmp_path / "x").exists()


def test_every_precision_has_a_meaning():
    assert {lax_precision(name) for name in PRECISIONS} == set(jax.lax.Precision)

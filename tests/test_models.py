"""The networks: against golden logits, against the PyTorch twin, and canonization as an exact identity."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
import torch
from tffjax.conversion import twin

from tffjax.nn import Model, canonize
from tffjax.nn.ops import Plain
from tffjax.nn.sites import Site, site_outputs, sites_of

pytestmark = pytest.mark.extended

# One program for logits and sites, and one odd-by-even size wherever the size does not matter: compiling takes time.
run = jax.jit(site_outputs)
SIZE = (33, 46)


def logits_of(model: Model, images: np.ndarray, dtype=jnp.float32) -> np.ndarray:
    return np.asarray(run(model.astype(dtype), jnp.asarray(images, dtype))[0])


def noise(height: int = SIZE[0], width: int = SIZE[1], count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, height, width, 3))


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def largest_relative(ours, theirs) -> float:
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


# Golden logits


@pytest.mark.parametrize("size", cases.GOLDEN_SIZES)
def test_golden_input_is_what_the_reference_saw(size, shared):
    with np.load(shared / "golden" / "images.npz") as archive:
        stored = archive[f"x{size}_check"]
    sums = cases.golden_images(size).sum(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(sums, stored, rtol=tolerances.GOLDEN_INPUT_SUM)


@pytest.mark.parity
@pytest.mark.parametrize("size", [224, slow(256), 356])
def test_golden_logits_in_float64(golden, golden_model, size, x64):
    stored = golden.load("logits.npz")
    images = cases.golden_images(size)
    logits = logits_of(golden_model, images, jnp.float64)
    np.testing.assert_allclose(logits[:, 0], stored[f"orig_f64_{size}"], rtol=tolerances.GOLDEN_F64_LOGIT)


@pytest.mark.parity
@pytest.mark.parametrize("size", [224, slow(256), 356])
def test_golden_logits_in_float32(golden, golden_model, size):
    stored = golden.load("logits.npz")[f"orig_f64_{size}"]
    logits = logits_of(golden_model, cases.golden_images(size), jnp.float32)
    assert logits.dtype == np.float32
    limits = {
        "atol": tolerances.GOLDEN_F32_LOGIT_ABSOLUTE[size],
        "rtol": tolerances.GOLDEN_F32_LOGIT_RELATIVE[size],
    }
    np.testing.assert_allclose(logits[:, 0], stored, **limits)


@pytest.mark.parity
@pytest.mark.parametrize("size", [224, slow(256), slow(356)])
def test_golden_logits_of_the_folded_and_of_the_reset_network(golden, golden_model, size, x64):
    stored = golden.load("logits.npz")
    images, model = cases.golden_images(size)[:1], golden_model.astype(jnp.float64)
    reset = logits_of(canonize(model, "reset"), images, jnp.float64)
    folded = logits_of(canonize(model), images, jnp.float64)
    np.testing.assert_allclose(reset[:, 0], stored[f"canon_f64_{size}"][:1], rtol=tolerances.GOLDEN_F64_LOGIT)
    np.testing.assert_allclose(folded[:, 0], stored[f"orig_f64_{size}"][:1], rtol=tolerances.GOLDEN_F64_LOGIT)


# Canonization


@pytest.mark.extended
def test_canonize_is_the_identity_with_negative_and_zero_gammas(model, x64):
    model, images = model.astype(jnp.float64), noise()
    gammas = np.concatenate([bn["scale"] for bn in model.variables["params"].values() if "scale" in bn])
    assert (gammas < 0).any()
    assert (gammas == 0).any()
    before, after = logits_of(model, images, jnp.float64), logits_of(canonize(model), images, jnp.float64)
    assert largest_relative(after, before) <= tolerances.F64_IDENTITY


def test_canonize_removes_every_batch_norm_and_its_statistics(model, folded, network):
    assert set(folded.variables) == {"params"}
    assert not any("scale" in layer for layer in folded.variables["params"].values())
    assert len(model.variables["params"]) - len(folded.variables["params"]) == network.num_sites
    assert "batch_stats" in model.variables  # the model that was given is left alone
    assert any("scale" in layer for layer in model.variables["params"].values())


def test_a_zero_gamma_leaves_a_constant_channel(model, folded, network, x64):
    # gamma 0: the folded channel is its batch norm's shift everywhere, whatever the image
    conv, bn = ("conv1", "bn1") if network.architecture == "resnet50" else ("_conv_stem", "_bn0")
    _, outputs = run(folded.astype(jnp.float64), noise())
    first = np.asarray(outputs[conv])
    assert (first[..., 0] == np.float64(model.variables["params"][bn]["bias"][0])).all()
    assert np.ptp(first[..., 1]) > 0


def test_a_folded_model_is_returned_as_it_is(model, folded):
    assert canonize(folded) is folded
    reset = jax.jit(canonize, static_argnums=1)(model, "reset")
    assert canonize(reset) is reset


def test_canonize_works_under_jit(model, folded):
    traced = jax.jit(canonize)(model)
    assert traced.module == folded.module
    assert traced.card == folded.card
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),  # XLA may fuse: one rounding of float32
        traced.variables,
        folded.variables,
    )


# Against the twin


@pytest.mark.parametrize(("height", "width"), [SIZE, slow(65, 97), slow(64, 32)])
def test_equals_the_twin_at_every_site_whatever_the_size(model, network, height, width, x64):
    images = noise(height, width)
    net = twin.twin_from_variables(model.variables, network.architecture, network.card().graph).double()
    their_logits, theirs = twin.site_outputs(net, torch.from_numpy(images).permute(0, 3, 1, 2))
    our_logits, ours = run(model.astype(jnp.float64), images)
    assert sorted(ours) == sorted(theirs)
    for site, y in theirs.items():
        assert largest_relative(np.asarray(ours[site]), y.permute(0, 2, 3, 1).numpy()) <= tolerances.F64_IDENTITY, site
    assert largest_relative(np.asarray(our_logits), their_logits.numpy()) <= tolerances.F64_IDENTITY
    announced = {site.name: (2, site.height, site.width, site.channels) for site in sites_of(model, (height, width))}
    assert announced == {site: y.shape for site, y in ours.items()}


@pytest.mark.extended
def test_the_two_conventions_of_efficientnet_differ(x64):
    # equal weights; a mixed-up padding or epsilon must not go unnoticed
    same, symmetric = cases.B0_SAME.random_model(3), cases.B0_SYMMETRIC.random_model(3)
    jax.tree.map(np.testing.assert_array_equal, same.variables, symmetric.variables)
    a, b = logits_of(same, noise(), jnp.float64), logits_of(symmetric, noise(), jnp.float64)
    assert largest_relative(a, b) > 1e-3  # a thousand million times what the twin test allows


# Sites


def test_sites_have_the_published_numbers(model, network):
    sites = sites_of(model, (224, 224))
    assert len(sites) == network.num_sites
    assert sum(site.channels for site in sites) == network.num_channels


def test_sites_are_the_golden_ones_in_their_order(golden, golden_model):
    sites = sites_of(golden_model, (224, 224))
    stored = golden.load("channels_224.npz")
    computed = {site.name: site for site in sites}
    names = stored["layer_names"].tolist()
    assert [site.name for site in sites] == names
    assert [computed[name].channels for name in names] == stored["layer_channels"].tolist()
    assert [[computed[name].height, computed[name].width] for name in names] == stored["layer_hw"].tolist()


def test_keys_are_the_golden_ones(golden, golden_model):
    keys = [site.key(channel) for site in sites_of(golden_model, (224, 224)) for channel in range(site.channels)]
    assert keys == golden.load("ffrs.npz")["keys"].tolist()


def test_key_of_a_channel():
    assert Site("layer1.0.conv1", 64, 56, 56).key(63) == "layer1.0.conv1.#63(T=64)"


def test_folding_keeps_the_sites(model, folded):
    assert sites_of(folded, (64, 64)) == sites_of(model, (64, 64))


# A model as a value


@pytest.mark.parametrize("num_outputs", [2, 1000])
def test_any_number_of_outputs(network, num_outputs):
    model = network.random_model(num_outputs)
    image = jax.ShapeDtypeStruct((5, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(model, image).shape == (5, num_outputs)


def test_a_model_is_a_pytree_of_its_weights(model):
    doubled = jax.tree.map(lambda array: 2 * array, model)
    assert isinstance(doubled, Model)
    assert (doubled.module, doubled.card) == (model.module, model.card)
    for ours, weights in zip(jax.tree.leaves(doubled), jax.tree.leaves(model.variables), strict=True):
        np.testing.assert_array_equal(ours, 2 * weights)


@pytest.mark.extended
def test_new_weights_do_not_compile_again():
    traces = []

    @jax.jit
    def forward(model, images):
        traces.append(model)
        return model(images)

    images = jnp.asarray(noise(), jnp.float32)
    first, second = (cases.RESNET50.random_model(seed=seed) for seed in (0, 1))
    assert not np.array_equal(forward(first, images), forward(second, images))
    assert len(traces) == 1


@pytest.mark.extended
def test_each_image_of_a_batch_is_scored_by_itself():
    model, images = cases.B0_SAME.random_model(), noise()
    together = logits_of(model, images)
    apart = np.concatenate([logits_of(model, image[None]) for image in images])
    assert largest_relative(together, apart) <= tolerances.F32_PROGRAM


def test_a_tap_sees_every_site_and_may_change_it():
    model, images, seen = cases.RESNET50.random_model(), jnp.asarray(noise(), jnp.float32), []

    def silence(site, y):
        seen.append(site)
        return 0 * y if site == "layer4.2.conv3" else y

    silenced = jax.jit(lambda model, images: model(images, Plain(), silence))(model, images)
    assert len(set(seen)) == len(seen) == cases.RESNET50.num_sites
    assert largest_relative(np.asarray(silenced), logits_of(model, images)) > tolerances.F32_PROGRAM


def test_a_batch_splits_over_two_devices():
    assert jax.device_count() == 2
    model, images = cases.RESNET50.random_model(), noise()
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (["batch"], []))
    split, _ = run(jax.device_put(model, everywhere), jax.device_put(jnp.asarray(images, jnp.float32), rows))
    assert len(split.sharding.device_set) == 2
    assert largest_relative(np.asarray(split), logits_of(model, images)) <= tolerances.F32_PROGRAM

"""`relevance`: the golden relevances of the released code, targets, and what must not change an explanation."""

import dataclasses
import gc
import itertools
import os
from pathlib import Path

import cases
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tolerances
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small import SmallNet, noise, small_model

from tffjax.errors import InputError
from tffjax.lrp import rules
from tffjax.lrp.composites import COMPOSITES, Composite, composite_of, rule
from tffjax.lrp.explain import relevance
from tffjax.lrp.targets import Neuron
from tffjax.nn import Model, canonize
from tffjax.nn.card import NORMALIZATIONS
from tffjax.nn.sites import site_outputs

# The golden numbers


def released(model: Model, dtype) -> Model:
    """The network as the released code explains it: with an emptied batch norm left behind each convolution."""
    return canonize(model.astype(dtype), "reset")


def with_float32_epsilons(composite: Composite) -> Composite:
    """The released code keeps its stabilizers in float32, in float64 runs too."""
    epsilon = {"epsilon": float(np.float32(1e-6))}
    changes = {
        "dense": rule(rules.epsilon, **epsilon),
        "average_pool": rule(rules.epsilon, **epsilon),
        "add": rule(rules.sum_epsilon, **epsilon),
    }
    if composite.first is not None:
        changes["first"] = rule(rules.z_box, **(dict(composite.first.parameters) | epsilon))
    return composite.replace(**changes)


def explain(model: Model, images, composite="beta0", **options):
    """The explanation by the released code, in the dtype of the model."""
    dtype = jnp.result_type(jax.tree.leaves(model.variables)[0])
    return relevance(
        model,
        jnp.asarray(images, dtype),
        composite=with_float32_epsilons(composite_of(composite, model)),
        **options,
    )


def of_golden(golden, model, name, size, count, dtype=jnp.float64, **options):
    return explain(released(model, dtype), cases.golden_images(size)[:count], name, sites=True, **options)


def assert_equal_as_stored(ours, stored):
    """Equal to arrays that were computed in float64 and stored in float32."""
    atol = tolerances.GOLDEN_F64_FLOOR * np.abs(stored).max()
    np.testing.assert_allclose(ours, stored, rtol=tolerances.GOLDEN_STORED_F32, atol=atol)


def assert_layer_sums_agree(found, stored, suffix, count):
    rtol = tolerances.GOLDEN_F64_RELEVANCE
    absolute = np.stack([np.sum(site, axis=(1, 2)) for site in found.sites.values()], axis=1)
    net = np.stack([np.sum(site[:, 0] - site[:, 1], axis=1) for site in found.sites.values()], axis=1)
    np.testing.assert_allclose(absolute, stored[f"layer_abs_{suffix}"][:count], rtol=rtol)
    np.testing.assert_allclose(net, stored[f"layer_net_{suffix}"][:count], rtol=rtol)


MAPS = {
    "resnet50": ("layer1.1.conv2", "layer3.0.conv2", "layer4.0.downsample.0"),
    "efb0": ("_blocks.2._depthwise_conv", "_blocks.5._project_conv", "_conv_head"),
}


def check_golden_224(golden, model, count):
    stored = golden.load("relevance.npz") | golden.load("channels_224.npz")
    found = of_golden(golden, model, "beta0", 224, count, maps=MAPS[golden.folder])
    for image in range(min(count, 2)):
        assert_equal_as_stored(found.input[image], stored["R_beta0_f64"][image].transpose(1, 2, 0))
    for image in range(2, count):
        assert_equal_as_stored(found.input[image].sum(axis=2), stored["R_beta0_rgbsum_f64"][image - 2])
    rtol = tolerances.GOLDEN_F64_RELEVANCE
    np.testing.assert_allclose(found.input.sum(axis=(1, 2, 3)), stored["R_beta0_sum_f64"][:count], rtol=rtol)
    np.testing.assert_allclose(np.abs(found.input).sum(axis=(1, 2, 3)), stored["R_beta0_abs_f64"][:count], rtol=rtol)
    assert list(found.sites) == stored["layer_names"].tolist()
    channels = np.concatenate(list(found.sites.values()), axis=2)
    for image in range(count):
        assert_equal_as_stored(channels[image, 0], stored["chan_pos_f64"][image])
        assert_equal_as_stored(channels[image, 1], stored["chan_neg_f64"][image])
    assert_layer_sums_agree(found, stored, "f64", count)
    for site in MAPS[golden.folder]:
        assert_equal_as_stored(found.maps[site][0], stored[f"map_f64__{site}"].transpose(1, 2, 0))


@pytest.mark.parity
def test_golden_relevance_in_float64(shared, x64):
    # ResNet-50 only: EfficientNet-B0 takes much longer to compile
    check_golden_224(cases.GOLDEN[0], cases.GOLDEN[0].model(), count=1)


@pytest.mark.slow
def test_golden_relevance_of_all_images_in_float64(golden, golden_model, x64):
    check_golden_224(golden, golden_model, count=4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "short"), [("beta1", "beta1"), ("beta-adaptive", "betaada")])
@pytest.mark.exhaustive
def test_golden_relevance_of_the_other_composites(name, short, shared, x64):
    golden = cases.GOLDEN[0]
    stored = golden.load("relevance.npz")
    found = of_golden(golden, golden.model(), name, 224, 2)
    assert_equal_as_stored(found.input[0], stored[f"R_{short}_f64"][0].transpose(1, 2, 0))
    assert_equal_as_stored(found.input[1].sum(axis=2), stored[f"R_{short}_rgbsum_f64"][0])
    sums, sizes = found.input.sum(axis=(1, 2, 3)), np.abs(found.input).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, stored[f"R_{short}_sum_f64"][:2], rtol=tolerances.GOLDEN_F64_RELEVANCE)
    np.testing.assert_allclose(sizes, stored[f"R_{short}_abs_f64"][:2], rtol=tolerances.GOLDEN_F64_RELEVANCE)
    assert_layer_sums_agree(found, stored, f"{short}_f64", 2)


def reached_by_ties(model: Model, images) -> np.ndarray:
    """Pixels of one image, (H, W), under a max-pool window of ResNet-50 with two equal positive maxima.

    Flat image regions make such ties exact on paper, so rounding picks the winner, and the relevance lands up to two
    rows or columns of conv1's output away: no two implementations need to agree there.
    """
    y = np.maximum(jax.jit(site_outputs)(model, images)[1]["conv1"][0], 0)
    padded = np.pad(y, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]
    best = windows.max(axis=(3, 4))
    tied = ((windows >= (1 - 1e-12) * best[..., None, None]).sum(axis=(3, 4)) > 1) & (best > 0)
    reached = np.zeros(images.shape[1:3], bool)
    for row, column in np.argwhere(tied.any(axis=2)):
        # rows 2r - 1 to 2r + 1 of conv1, each of which reads 7 rows from 2 * row - 3 on
        reached[max(4 * row - 5, 0) : 4 * row + 6, max(4 * column - 5, 0) : 4 * column + 6] = True
    return reached


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 356])
@pytest.mark.exhaustive
def test_golden_relevance_of_other_sizes(golden, golden_model, size, x64):
    stored, channels = golden.load("relevance.npz"), golden.load(f"channels_{size}.npz")
    model = released(golden_model, jnp.float64)
    images = jnp.asarray(cases.golden_images(size)[:1], jnp.float64)
    found = explain(model, images, sites=True)
    ours, theirs = np.asarray(found.input[0].sum(axis=2)), stored[f"R{size}_beta0_rgbsum_f64"][0]
    rtol = tolerances.GOLDEN_F64_RELEVANCE
    np.testing.assert_allclose(ours.sum(), stored[f"R{size}_beta0_sum_f64"][0], rtol=rtol)

    free = np.ones((size, size), bool)
    if golden.network is cases.RESNET50:
        free = ~reached_by_ties(model, images)
    assert free.all() or size == 356
    assert free.mean() > 0.5
    sums = [np.sum(site[0]) for site in found.sites.values()]
    np.testing.assert_allclose(sums[1:], channels["layer_abs_f64"][0, 1:], rtol=rtol)
    np.testing.assert_allclose(
        sums[0], channels["layer_abs_f64"][0, 0], rtol=rtol if free.all() else tolerances.GOLDEN_STORED_F32
    )
    for index, ((name, site), start) in enumerate(zip(found.sites.items(), channels["chan_offset"], strict=False)):
        assert name == channels["layer_names"][index]
        if index > 0 or free.all():
            assert_equal_as_stored(site[0, 0], channels["chan_pos_f64"][0, start : start + site.shape[2]])
    atol = tolerances.GOLDEN_F64_FLOOR * np.abs(theirs).max()
    np.testing.assert_allclose(ours[free], theirs[free], rtol=tolerances.GOLDEN_STORED_F32, atol=atol)


def relative_l2(ours, theirs) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.slow
def test_golden_relevance_in_float32(golden, golden_model):
    stored, limits = golden.load("relevance.npz"), tolerances.GOLDEN_F32_RELEVANCE[golden.folder]
    channels = golden.load("channels_224.npz")
    found = of_golden(golden, golden_model, "beta0", 224, 2, jnp.float32, maps=MAPS[golden.folder])
    ours = np.concatenate(list(found.sites.values()), axis=2)
    for image in range(2):
        assert relative_l2(found.input[image], stored["R_beta0_f64"][image].transpose(1, 2, 0)) <= limits["input"]
        theirs = channels["chan_pos_f64"][image]
        assert np.abs(ours[image, 0] - theirs).max() <= limits["channels"] * theirs.max()
    for site in MAPS[golden.folder]:
        assert relative_l2(found.maps[site][0], stored[f"map_f64__{site}"].transpose(1, 2, 0)) <= limits["map"], site
    assert found.input.dtype == jnp.float32


@pytest.mark.slow
def test_the_left_over_batch_norms_explain_the_difference(shared, x64):
    """Without the released code's defect the explanation is a different one, by what 49 factors of 0.9995 do."""
    golden = cases.GOLDEN[1]
    images = jnp.asarray(cases.golden_images(224)[:1], jnp.float64)
    stored = golden.load("relevance.npz")["R_beta0_f64"][0].transpose(1, 2, 0)
    ours = relevance(golden.model().astype(jnp.float64), images, composite="beta0")
    assert 1e-4 < relative_l2(ours.input[0], stored) < 0.5


# The most active neuron of a channel


def check_golden_neurons(golden, model, layer):
    """All stored pairs of one layer for images 0 and 1, as one batch."""
    stored = golden.load("lrpmax.npz")
    pairs = [
        (pair, image)
        for pair, image in itertools.product(range(12), range(2))
        if stored["layer"][pair] == layer and stored["value_224_f64"][pair, image] > 0
    ]
    assert len(pairs) >= 2
    model = released(model, jnp.float64)
    images = jnp.asarray(cases.golden_images(224)[[image for _, image in pairs]], jnp.float64)
    channel = jnp.array([stored["channel"][pair] for pair, _ in pairs])
    place = np.array([stored["hw_224_f64"][pair] for pair in pairs])

    _, outputs = jax.jit(site_outputs)(model, images)
    y = np.asarray(outputs[layer])
    for n, pair in enumerate(pairs):
        values = y[n, :, :, channel[n]]
        assert np.unravel_index(values.argmax(), values.shape) == tuple(place[n])
        np.testing.assert_allclose(values.max(), stored["value_224_f64"][pair], rtol=tolerances.GOLDEN_F64_RELEVANCE)

    found = explain(model, images, target=Neuron(layer, channel))
    for n, (pair, image) in enumerate(pairs):
        assert_equal_as_stored(found.input[n].sum(axis=2), stored[f"rgbsum_224_f64__{pair}_{image}"])
    at_place = explain(model, images, target=Neuron(layer, channel, (jnp.array(place[:, 0]), jnp.array(place[:, 1]))))
    np.testing.assert_allclose(at_place.input, found.input, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_golden_neurons(golden, golden_model, x64):
    check_golden_neurons(golden, golden_model, golden.load("lrpmax.npz")["layer"][1])


@pytest.mark.slow
@pytest.mark.parametrize("pair", [5, 8, 11])
@pytest.mark.exhaustive
def test_golden_neurons_of_deeper_layers(golden, golden_model, pair, x64):
    check_golden_neurons(golden, golden_model, golden.load("lrpmax.npz")["layer"][pair])


# Targets, on a small network with three outputs


@pytest.fixture(scope="module")
def net() -> Model:
    with jax.enable_x64(True):
        return small_model()


@pytest.fixture(scope="module")
def images():
    with jax.enable_x64(True):
        return noise(16, count=4)


def assert_same(ours, theirs):
    """The same explanation by another program."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.F64_PROGRAM * np.abs(b).max())


def rows(found, index):
    """Some images of an explanation."""
    return jax.tree.map(lambda array: array[index], found)


@pytest.mark.extended
@pytest.mark.parametrize("composite", ["beta0", "beta-adaptive", "epsilon", "gradient-x-input"])
def test_the_explanation_of_minus_f_is_the_exact_negative(net, images, composite, x64):
    plus, minus = (relevance(net, images, target=1, composite=composite, sign=s, sites=True) for s in (1, -1))
    np.testing.assert_array_equal(minus.input, -plus.input)
    np.testing.assert_array_equal(minus.logits, plus.logits)
    for site, sums in plus.sites.items():
        np.testing.assert_array_equal(minus.sites[site], sums[:, ::-1])
    assert np.any(plus.input)


def test_logits_are_those_of_the_network(net, images, x64):
    np.testing.assert_allclose(
        relevance(net, images, target=0).logits, jax.jit(lambda images: net(images))(images), rtol=1e-13
    )


@pytest.mark.extended
def test_an_index_for_each_image(net, images, x64):
    found = relevance(net, images, target=jnp.array([2, 0, 1, 2]), sites=True)
    for index in range(3):
        chosen = np.flatnonzero(np.array([2, 0, 1, 2]) == index)
        assert_same(rows(found, chosen), rows(relevance(net, images, target=index, sites=True), chosen))


def test_the_top_output(net, images, x64):
    found = relevance(net, images, target="top")
    assert_same(found, relevance(net, images, target=found.logits.argmax(axis=1)))


def test_the_logit_of_a_detector(net, images, x64):
    params = net.variables["params"]
    params = params | {"out": jax.tree.map(lambda array: array[..., :1], params["out"])}
    detector = dataclasses.replace(net, module=SmallNet(outputs=1), variables={"params": params})
    found = relevance(detector, images)
    assert_same(found, relevance(detector, images, target=0))
    assert_same(found.input, relevance(net, images, target=0).input)


def test_a_neuron_is_the_most_active_one_of_its_channel(net, images, x64):
    y = np.asarray(jax.jit(site_outputs)(net, images)[1]["project"])
    channels = [3, 0, 5, 3]
    found = relevance(net, images, target=Neuron("project", jnp.array(channels)))
    for n, channel in enumerate(channels):
        row, column = np.unravel_index(y[n, :, :, channel].argmax(), y.shape[1:3])
        alone = relevance(net, images[n : n + 1], target=Neuron("project", channel, (int(row), int(column))))
        assert_same(alone.input[0], found.input[n])
    same = relevance(net, images, target=Neuron("project", 3))
    assert_same(same.input[0], found.input[0])
    assert not np.allclose(same.input[1], found.input[1])


def test_of_equally_active_neurons_the_first_in_scan_order_is_explained(net, x64):
    # A constant image makes the inner part of a map constant; "stem" reads 3x3 pixels.
    flat = jnp.ones((1, 16, 16, 3))
    y = np.asarray(jax.jit(site_outputs)(net, flat)[1]["stem"][0])
    tied = [c for c in range(y.shape[2]) if (y[..., c] == y[..., c].max()).sum() > 1]
    assert tied
    row, column = np.unravel_index(y[..., tied[0]].argmax(), y.shape[:2])
    found, expected = (
        relevance(net, flat, target=Neuron("stem", tied[0], position)) for position in (None, (int(row), int(column)))
    )
    np.testing.assert_array_equal(found.input, expected.input)


def test_a_neuron_sees_its_receptive_field_only(net, images, x64):
    # row 2 and column 5 of the first convolution read rows 3 to 5 and columns 9 to 11
    found = np.array(relevance(net, images, target=Neuron("stem", 1, (2, 5)), composite="epsilon").input)
    assert found[:, 3:6, 9:12].all()
    found[:, 3:6, 9:12] = 0
    assert not found.any()


def test_the_relevance_of_a_neuron_starts_at_its_site(net, images, x64):
    found = relevance(net, images, target=Neuron("head", 2, (1, 0)), sites=True, maps=("head",))
    expected = np.zeros((4, 2, 2, 8))
    expected[:, 1, 0, 2] = 1
    np.testing.assert_array_equal(found.maps["head"], expected)
    np.testing.assert_array_equal(found.sites["head"].sum(axis=(1, 2)), 1)


def test_sites_are_the_sums_of_the_maps_in_the_order_of_the_network(net, images, x64):
    asked = ("project", "stem", "head")
    found = relevance(net, images, target=0, sites=True, maps=asked)
    assert list(found.sites) == ["stem", "depthwise", "project", "head"]
    assert tuple(found.maps) == asked
    for site in asked:
        full = np.asarray(found.maps[site])
        assert (full < 0).any() or site != "project"
        sums = np.stack([np.maximum(full, 0).sum(axis=(1, 2)), np.maximum(-full, 0).sum(axis=(1, 2))], axis=1)
        assert_same(found.sites[site], sums)
    without = relevance(net, images, target=0)
    assert (without.sites, without.maps) == ({}, {})
    assert_same(without.input, found.input)


def test_one_name_of_a_layer(net, images, monkeypatch, x64):
    found = relevance(net, images, target=0, sites="stem", maps="sum")
    assert (list(found.sites), list(found.maps)) == (["stem"], ["sum"])
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as at a user's
    with pytest.raises(InputError, match="maps takes names of layers, not True"):
        relevance(net, images, target=0, maps=True)


def test_gradient_x_input_multiplies_at_the_sites_too(net, images, x64):
    found = relevance(net, images, target=0, composite="gradient-x-input", maps=("head",))
    y = jax.jit(site_outputs)(net, images)[1]["head"]
    # behind "head" come a ReLU, a mean over 2x2 and the dense layer
    weights = net.variables["params"]["out"]["kernel"][:, 0]
    assert_same(found.maps["head"], jnp.maximum(y, 0) * weights / 4)


def test_presets_take_the_box_of_the_network(net):
    detector = cases.RESNET50.random_model()
    first = composite_of("beta0", detector).first
    bounds = detector.card.normalization.bounds
    assert first == rule(rules.z_box, low=bounds[0], high=bounds[1])
    assert composite_of("beta0", cases.B0_SAME.random_model()).first is None
    assert composite_of("epsilon-gamma-box", cases.B0_SAME.random_model()).first == first
    card = dataclasses.replace(detector.card, normalization=NORMALIZATIONS["caffe"])
    low, high = card.normalization.bounds
    assert low < -100
    assert composite_of("beta0", dataclasses.replace(detector, card=card)).first == rule(
        rules.z_box, low=low, high=high
    )
    assert composite_of("epsilon-gamma-box", net) == COMPOSITES["epsilon-gamma-box"]


# What must not change an explanation


COMPOSED = {"target": 1, "sites": True, "maps": ("project",)}


@pytest.fixture(scope="module")
def together(net, images):
    with jax.enable_x64(True):
        return relevance(net, images, **COMPOSED)


def test_a_batch_is_its_single_images(net, images, together, x64):
    for n in range(4):
        assert_same(relevance(net, images[n : n + 1], **COMPOSED), rows(together, slice(n, n + 1)))


def test_a_permuted_batch_is_the_permuted_result(net, images, together, x64):
    order = np.array([2, 0, 3, 1])
    jax.tree.map(np.testing.assert_array_equal, relevance(net, images[order], **COMPOSED), rows(together, order))


def test_under_jit(net, images, together, x64):
    assert_same(jax.jit(lambda model, images: relevance(model, images, **COMPOSED))(net, images), together)


def test_micro_batches(net, images, together, x64):
    pairs = images.reshape(2, 2, *images.shape[1:])
    found = jax.jit(lambda model, pairs: jax.lax.map(lambda pair: relevance(model, pair, **COMPOSED), pairs))(
        net, pairs
    )
    assert_same(jax.tree.map(lambda array: array.reshape(4, *array.shape[2:]), found), together)


def test_vmap_over_targets_is_a_loop_over_targets(net, images, x64):
    explained = jax.vmap(lambda target: relevance(net, images, target=target, sites=True))
    found = explained(jnp.broadcast_to(jnp.arange(3)[:, None], (3, 4)))
    for target in range(3):
        assert_same(rows(found, target), relevance(net, images, target=target, sites=True))


@pytest.mark.extended
def test_vmap_over_scalar_targets(net, images, x64):
    found = jax.vmap(lambda target: relevance(net, images, target=target))(jnp.arange(3))
    assert_same(rows(found, 2), relevance(net, images, target=2))


def test_vmap_over_neurons_is_a_loop_over_neurons(net, images, x64):
    found = jax.vmap(lambda channel: relevance(net, images, target=Neuron("project", channel)).input)(jnp.arange(6))
    for channel in range(6):
        assert_same(found[channel], relevance(net, images, target=Neuron("project", channel)).input)


def mesh():
    assert jax.device_count() == 2
    return jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))


def test_a_batch_sharded_over_two_devices(net, images, together, x64):
    split, everywhere = (NamedSharding(mesh(), PartitionSpec(*axes)) for axes in (["batch"], []))
    found = relevance(jax.device_put(net, everywhere), jax.device_put(images, split), **COMPOSED)
    assert len(found.input.sharding.device_set) == 2
    assert_same(found, together)


@pytest.mark.parametrize("target", [1, "top", Neuron("project", 1)], ids=["index", "top", "neuron"])
def test_shard_map_over_two_devices(net, images, target, x64):
    options = COMPOSED | {"target": target}
    split, everywhere = PartitionSpec("batch"), PartitionSpec()
    explained = jax.shard_map(
        lambda model, images: relevance(model, images, **options),
        mesh=mesh(),
        in_specs=(everywhere, split),
        out_specs=split,
    )
    found = jax.jit(explained)(net, images)
    assert len(found.input.sharding.device_set) == 2
    assert_same(found, relevance(net, images, **options))


def test_micro_batches_in_shard_map(net, images, x64):
    split, everywhere = PartitionSpec("batch"), PartitionSpec()
    images = jnp.concatenate([images, -images])
    explained = jax.shard_map(
        lambda model, images: relevance(model, images, target=1, micro_batch=1).input,
        mesh=mesh(),
        in_specs=(everywhere, split),
        out_specs=split,
    )
    assert_same(jax.jit(explained)(net, images), relevance(net, images, target=1).input)


@pytest.mark.slow
def test_the_networks_image_by_image_and_on_two_devices(model):
    images = noise(64, count=2, dtype=jnp.float32)
    together = relevance(model, images, target="top", sites=True)
    split, everywhere = (NamedSharding(mesh(), PartitionSpec(*axes)) for axes in (["batch"], []))
    sharded = relevance(jax.device_put(model, everywhere), jax.device_put(images, split), target="top", sites=True)
    alone = [relevance(model, images[n : n + 1], target="top", sites=True) for n in range(2)]
    apart = jax.tree.map(lambda *parts: np.concatenate(parts), *alone)
    limits = tolerances.GOLDEN_F32_RELEVANCE["efb0" if "efficientnet" in model.card.architecture else "resnet50"]
    for other in (sharded, apart):
        assert relative_l2(other.input, together.input) <= limits["input"]
        for site, sums in together.sites.items():
            assert relative_l2(other.sites[site], sums) <= limits["map"], site


@pytest.mark.slow
def test_a_permuted_batch_of_a_network_is_the_permuted_result(x64):
    model, images = cases.RESNET50.random_model().astype(jnp.float64), noise(32, count=3)
    order = np.array([2, 0, 1])
    found, expected = relevance(model, images[order]).input, relevance(model, images).input[order]
    np.testing.assert_allclose(found, expected, atol=tolerances.F64_PROGRAM * np.abs(expected).max())


# Unusable input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"composite": "zplus"}, "no composite 'zplus'; choose one of beta0"),
        ({"maps": ("stem", "layer9")}, "no layer 'layer9'; there are stem, depthwise"),
        ({"sites": ("layer9",)}, "no layer 'layer9'"),
        ({"sites": "stm"}, "no layer 'stm'; there is stem, sum"),
        ({"maps": ("stem.rel",)}, "no layer 'stem.rel'; there is stem.relu"),
        ({"target": Neuron("layer9", 0)}, "no layer 'layer9'"),
        ({"target": Neuron("out", 0, (0, 0))}, "out is no map"),
        ({"target": np.zeros(3, int)}, "there are 4 images, but the target is for 3"),
        (
            {"target": np.zeros(2)},
            r"has the shape of the outputs, \(3,\) or \(4, 3\) for 4 images",
        ),
        ({"target": "best"}, "no target 'best'; choose 'logit', 'top'"),
        ({"target": "logit"}, "'logit' needs a network with one output, this one has 3"),
        ({"target": 3}, "no output 3"),
        ({"target": -1}, "no output -1"),
        ({"target": Neuron("stem", 6)}, "channel"),
        ({"target": Neuron("stem", 0, (8, 0))}, "position"),
        ({"target": Neuron("stem", 0, (0, 8))}, "position"),
    ],
)
def test_what_there_is_not(net, images, options, message, x64):
    with pytest.raises(InputError, match=message) as caught:
        relevance(net, images, **{"target": 0, **options})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("weights", "pixels", "message"),
    [
        ("bfloat16", "float32", "weights in float32 or float64, these are bfloat16; upcast them: model.astype"),
        ("float16", "float16", "these are float16"),
        ("float32", "float64", "the images are float64, the weights float32"),
        ("float64", "float32", "the images are float32, the weights float64"),
        ("float32", "bfloat16", "the images are bfloat16"),
    ],
)
def test_types_that_do_not_fit(net, images, weights, pixels, message, x64):
    with pytest.raises(InputError, match=message) as caught:
        relevance(net.astype(weights), images.astype(pixels), target=0)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_two_types_are_refused(net, images, x64):
    params = dict(net.variables["params"])
    params["out"] = jax.tree.map(lambda array: array.astype(jnp.bfloat16), params["out"])
    with pytest.raises(InputError, match="these are bfloat16, float64"):
        relevance(dataclasses.replace(net, variables={"params": params}), images, target=0)


# Memory


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.extended
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident memory of Linux processes")
def test_memory_does_not_grow():
    model = small_model(jnp.float32)
    rng = np.random.default_rng(0)

    def run(batches):
        for number in range(batches):
            images = jnp.asarray(rng.standard_normal((8, 32, 32, 3)), jnp.float32)
            found = relevance(model, images, target=number % 3, sites=True, maps=("stem",))
        jax.block_until_ready(found)
        gc.collect()
        return resident_bytes()

    warm = run(30)
    # one batch of images, relevances and maps is 0.6 MB: keeping only the images would be 20 MB
    assert run(200) - warm < 8e6

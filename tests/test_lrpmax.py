"""LRP-max: strongest neurons, top images, boxes, and neurons explained on crops and in shared full passes."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jax.extend.core import jaxpr_as_fun
from test_composites import noise, small_model
from test_explain import relative_l2, released, with_float32_epsilons
from test_receptive_field import own_model, same_model

from tffjax import full_pass, lrpmax, lrpmax_plan
from tffjax.errors import InputError
from tffjax.lrp.composites import BETA0, COMPOSITES, composite_of, rule
from tffjax.lrp.explain import relevance
from tffjax.lrp.rules import flat, w_square
from tffjax.lrp.targets import Neuron
from tffjax.lrpmax import Maps, Neurons, lrp_max, neuron_maps
from tffjax.lrpmax_plan import on_crops, plan
from tffjax.maxima import maxima, no_top, top_images
from tffjax.nn import canonize
from tffjax.nn.ops import Plain
from tffjax.nn.receptive_field import Cone, Window, cones_of
from tffjax.nn.sites import outputs_at, site_outputs, sites_of
from tffjax.patches import patch_boxes
from tffjax.rankings import Channel

MANY = 10**6
"""So many images that the price of compiling does not count."""

# The strongest neuron of every channel


def check_maxima(model, images, sites):
    outputs = jax.jit(site_outputs)(canonize(model), images)[1]
    found = maxima(model, images, {site: range(outputs[site].shape[-1]) for site in sites})
    assert set(found.values) == set(found.positions) == set(sites)
    for site in sites:
        y = np.asarray(outputs[site])
        n, h, w, c = y.shape
        flat = y.reshape(n, h * w, c)
        atol = tolerances.F64_PROGRAM * np.abs(y).max()
        np.testing.assert_allclose(found.values[site], flat.max(axis=1), rtol=0, atol=atol)
        expected = np.stack(np.unravel_index(flat.argmax(axis=1), (h, w)), axis=2)
        np.testing.assert_array_equal(found.positions[site], expected)
    return found


def test_maxima_are_the_largest_outputs(x64):
    model = small_model()
    found = check_maxima(model, noise(18, count=5), ("head", "stem", "project"))
    assert list(found.gates) == ["se.gate"]
    assert found.gates["se.gate"].shape == (5, 1, 1, 6)
    before = maxima(model, noise(18, count=5), {"depthwise": [0]})
    assert before.gates == {}  # the pass ends before the gate


def test_maxima_of_some_channels_are_in_the_order_asked_for(x64):
    model, images = small_model(), noise(18, count=5)
    everything = maxima(model, images, {"stem": range(6), "head": range(8)})
    some = maxima(model, images, {"head": [5, 0, 5], "stem": [3]})
    np.testing.assert_array_equal(some.values["head"], everything.values["head"][:, jnp.array([5, 0, 5])])
    np.testing.assert_array_equal(some.positions["stem"], everything.positions["stem"][:, 3:4])


def test_of_equal_values_the_first_in_scan_order_is_taken(x64):
    found = check_maxima(small_model(), jnp.ones((1, 16, 16, 3)), ("stem", "depthwise"))
    assert found.positions["stem"].max() <= 2  # the inner part of the map is constant


@pytest.mark.slow
@pytest.mark.exhaustive
def test_maxima_of_the_networks(model, x64):
    names = [site.name for site in sites_of(model, 45, 64)]
    check_maxima(model.astype(jnp.float64), jnp.asarray(noise(64)[:, :45]), tuple(names[::9]))


def values_of(rng, n, c):
    return rng.integers(-4, 5, (n, c)).astype(np.float32)  # many ties


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.lists(st.integers(0, 5), max_size=5), st.integers(1, 4))
def test_running_top_images_are_those_of_a_full_sort(seed, top, sizes, channels):
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    values, positions = values_of(rng, count, channels), rng.integers(0, 99, (count, channels, 2))
    images = rng.permutation(100)[:count]
    found = no_top(top, channels)
    for part in np.split(np.arange(count), np.cumsum(sizes)):
        padding = rng.integers(0, 3)  # a padded batch: rows of image -1, whose values would win
        index = np.concatenate([images[part], np.full(padding, -1)])
        value = np.concatenate([values[part], np.full((padding, channels), 99, np.float32)])
        found = top_images(found, index, value, np.pad(positions[part], ((0, padding), (0, 0), (0, 0))))
    assert found.images.shape == (top, channels)
    for c in range(channels):
        best = sorted(range(count), key=lambda i: (-values[i, c], images[i]))[:top]
        assert found.images[:, c].tolist() == [images[i] for i in best] + [-1] * (top - len(best))
        assert found.values[:, c].tolist() == [values[i, c] for i in best] + [-np.inf] * (top - len(best))
        np.testing.assert_array_equal(found.positions[: len(best), c], positions[best, c])


# Boxes


def golden_box(relevance):
    """The patch box as section 8 of the golden README writes it, made half open."""
    m = np.maximum(relevance, 0)
    if m.max() > 0:
        m = m / m.max()
    m[m <= np.percentile(m, 75)] = 0
    mask = m > np.percentile(m, 75)
    if not mask.any():
        return 0, m.shape[0], 0, m.shape[1]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_golden_boxes(shared):
    with np.load(shared / "golden" / "bbox_cases.npz") as archive:
        stored = dict(archive)
    names = [key.removeprefix("map__") for key in stored if key.startswith("map__")]
    assert len(names) == 13
    boxes = patch_boxes(np.stack([stored[f"map__{name}"] for name in names]))
    for name, box in zip(names, boxes, strict=True):
        end = 0 if tuple(stored[f"box__{name}"]) == (0, 40, 0, 56) else 1  # the released boxes hold their last index
        np.testing.assert_array_equal(box - np.array([0, end, 0, end]), stored[f"box__{name}"], err_msg=name)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_boxes_of_crops_are_those_of_the_whole_map(data):
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    h, w = data.draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    top, left = data.draw(st.tuples(st.integers(0, height - h), st.integers(0, width - w)))
    crop = data.draw(arrays.arrays(np.float32, (h, w), elements=st.integers(-2, 4)))
    maps = Maps(crop[None], np.array([[top, left]]))
    whole = maps.whole((height, width))
    assert whole.sum() == crop.sum()
    expected = golden_box(whole[0].astype(np.float64))
    assert tuple(patch_boxes(whole)[0]) == expected
    assert tuple(patch_boxes(*maps, size=(height, width))[0]) == expected


# Single neurons, in both ways


def all_neurons(site, images):
    grid = np.indices((images, site.channels, site.height, site.width)).reshape(4, -1)
    return Neurons(grid[0], grid[1], grid[2:].T)


def gates_of(model, images, sites):
    return maxima(model, images, {site: [0] for site in sites}).gates


def both_ways(model, size, sites, composite="beta0", **changes):
    """The plans that explain all sites on crops, and all in full."""
    how = plan(model, size, dict.fromkeys(sites, 1), MANY, composite)
    none = dataclasses.replace(how, crops={}, full=(), **changes)
    cones = cones_of(model, *size)
    return (
        dataclasses.replace(none, crops={site: cones[site] for site in sites}),
        dataclasses.replace(none, full=tuple(sites), lanes=16),
    )


def assert_equal_maps(ours, theirs):
    """Equal to 1e-10 of each map's largest value."""
    largest = np.abs(theirs).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(ours - theirs) <= tolerances.CROP * largest)


def assert_both_ways_agree(model, images, neurons, composite="beta0", **changes):
    size, sites = images.shape[1:3], tuple(neurons)
    plans = both_ways(model, size, sites, composite, **changes)
    gates = gates_of(model, images, sites)
    crops, full = (neuron_maps(model, how, images, neurons, gates) for how in plans)
    for site in sites:
        lengths = [axis.length for axis in plans[0].crops[site].field]
        assert crops[site].crops.shape[1:] == tuple(np.minimum(lengths, size))
        assert_equal_maps(crops[site].whole(size), full[site].crops)
        assert np.any(crops[site].crops)
    return full


@pytest.mark.parametrize("size", [(15, 16), (18, 21)])
@pytest.mark.parametrize("make", [small_model, same_model, own_model])
def test_all_neurons_on_crops_are_those_of_full_passes(make, size, x64):
    model, images = make(), np.asarray(noise(21)[:, : size[0], : size[1]])
    neurons = {site.name: all_neurons(site, 2) for site in sites_of(model, *size)}
    full = assert_both_ways_agree(model, images, neurons, pixels=2**12)
    outputs = jax.jit(site_outputs)(canonize(model), images)[1]
    for site, maps in full.items():
        image, channel, position = neurons[site]
        active = np.asarray(outputs[site])[image, position[:, 0], position[:, 1], channel] > 0
        np.testing.assert_array_equal(maps.crops.any(axis=(1, 2)) & ~active, False)


@pytest.mark.parametrize("name", ["beta1", "beta-adaptive", "epsilon-gamma-box", "flat"])
def test_crops_under_other_rules(name, x64):
    # the first convolution's rule makes up inputs of its own, which end at the image's borders
    composite = BETA0.replace(first=rule(flat), conv=rule(w_square)) if name == "flat" else COMPOSITES[name]
    model, images = small_model(), np.asarray(noise(17))
    neurons = {site.name: all_neurons(site, 2) for site in sites_of(model, 17, 17) if site.name in ("stem", "project")}
    assert_both_ways_agree(model, images, neurons, composite)


@pytest.mark.parametrize("composite", ["beta0", "epsilon", "gradient-x-input", "guided-backprop", "deconvnet"])
def test_lrp_max_is_the_relevance_of_the_strongest_neuron(composite, x64):
    model, images = small_model(), noise(33, count=3)
    sites = {site.name: site for site in sites_of(model, 33, 33)}
    asked = [("head", 3), ("stem", 0), ("project", 1), ("depthwise", 5), ("stem", 4)]
    found = lrp_max(model, images, [sites[site].key(channel) for site, channel in asked], composite)
    assert found.maps.shape == (3, 5, 33, 33)
    outputs = jax.jit(site_outputs)(model, images)[1]
    for column, (site, channel) in enumerate(asked):
        expected = relevance(model, images, target=Neuron(site, channel), composite=composite).input.sum(axis=3)
        y = np.asarray(outputs[site][..., channel])
        np.testing.assert_allclose(found.values[:, column], y.max(axis=(1, 2)), rtol=tolerances.F64_PROGRAM)
        row, place = found.positions[:, column].T
        np.testing.assert_array_equal(y[np.arange(3), row, place], y.max(axis=(1, 2)))
        expected = np.where((found.values[:, column] > 0)[:, None, None], expected, 0)
        assert_equal_maps(found.maps[:, column], expected)
        np.testing.assert_array_equal(found.boxes[:, column], patch_boxes(found.maps[:, column]))


def test_a_channel_without_positive_values_has_no_relevance(x64):
    model = small_model()
    params = dict(model.variables["params"])
    for site in ("stem", "head"):
        params[site] = params[site] | {"bias": params[site]["bias"].at[2].set(-1e3)}
    model = dataclasses.replace(model, variables={"params": params})
    found = lrp_max(model, noise(32), ["stem.#2(T=6)", "head.#2(T=8)", "stem.#1(T=6)"])
    assert (found.values[:, :2] < 0).all()
    assert not found.maps[:, :2].any()
    assert found.maps[:, 2].any(axis=(1, 2)).all()
    np.testing.assert_array_equal(found.boxes[:, :2], np.broadcast_to([0, 32, 0, 32], (2, 2, 4)))


def test_any_number_of_neurons_in_any_order(x64, rng):
    model, images = small_model(), np.asarray(noise(24, count=4))
    sites = {site.name: site for site in sites_of(model, 24, 24)}
    gates = gates_of(model, images, sites)
    for how in both_ways(model, (24, 24), ("stem", "project"), pixels=2**11):
        everything = {site: all_neurons(sites[site], 4) for site in ("project", "stem")}
        expected = neuron_maps(model, how, images, everything, gates)
        for count in (0, 1, 37):
            order = {site: rng.permutation(len(some.images))[:count] for site, some in everything.items()}
            chosen = {site: Neurons(*(a[order[site]] for a in some)) for site, some in everything.items()}
            found = neuron_maps(model, how, images, chosen, gates)
            assert list(found) == ["project", "stem"]
            for site, maps in found.items():
                assert_equal_maps(maps.crops, expected[site].crops[order[site]])
                np.testing.assert_array_equal(maps.places, expected[site].places[order[site]])


def test_nothing_is_compiled_for_other_channels_positions_and_counts(caplog):
    model, images = small_model(jnp.float32), np.asarray(noise(24, dtype=jnp.float32))
    sites = sites_of(model, 24, 24)
    gates = gates_of(model, images, ("head",))
    plans = both_ways(model, (24, 24), ("stem", "project"), pixels=2**11)
    assert [plans[0].crops_at_once(site) for site in ("stem", "project")] == [(228, 30), (10, 2)]  # even: two devices

    def run(seed, count):
        rng = np.random.default_rng(seed)
        for how in plans:
            some = {
                site.name: Neurons(*(a[rng.permutation(len(a))[:count]] for a in all_neurons(site, 2)))
                for site in sites
                if site.name in ("stem", "project")
            }
            with jax.log_compiles():
                neuron_maps(model, how, images, some, gates)
        compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
        return np.array([sum(name in text for text in compiled) for name in ("crop_relevance", "full_relevance")])

    few = run(0, 1)
    np.testing.assert_array_equal(run(5, 6), few)
    many = run(0, 300)
    np.testing.assert_array_equal(many - few, [2, 0])  # one more for each site on crops
    np.testing.assert_array_equal(run(5, 131), many)


def test_neurons_of_an_image_share_forward_pass_and_denominators():
    model = canonize(cases.RESNET50.random_model())
    sites = ("layer3.0.conv1", "layer4.0.conv3")
    how = plan(model, (64, 64), dict.fromkeys(sites, 1), MANY)
    arguments = (
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
        *(jax.ShapeDtypeStruct((1, 9, *more), jnp.int32) for more in ((), (), (2,))),
    )

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).cost_analysis()["flops"]

    everything = jax.make_jaxpr(
        lambda *arguments: full_pass.full_relevance(model, *arguments, sites, how.composite, how.layers)
    )(*arguments)
    (loop,) = (step for step in everything.eqns if step.primitive.name == "scan")
    neuron = loop.params["jaxpr"]
    each = flops(jaxpr_as_fun(neuron), *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in neuron.in_avals))
    forward = flops(lambda images: outputs_at(model, images, sites[1:]), arguments[0])
    assert loop.params["length"] == 9
    assert each < 2 * forward  # a backward pass; its strided convolutions are counted with the zeros between
    whole = flops(jaxpr_as_fun(everything), *arguments)
    assert whole - each > 1.9 * forward  # forward and denominators, once; a loop's body is counted once


def test_lanes_that_run_at_once_are_those_that_run_one_by_one(x64, rng, monkeypatch):
    model, images = canonize(small_model()), noise(24)
    sites = {site.name: site for site in sites_of(model, 24, 24)}
    how = plan(model, (24, 24), {"stem": 1, "head": 1}, MANY)
    neurons = [all_neurons(sites[name], 1) for name in ("stem", "head")]
    picked = [rng.integers(0, len(some.images), (2, 3)) for some in neurons]
    channels, positions = (
        np.concatenate([array[index] for array, index in zip(arrays, picked, strict=True)], axis=1)
        for arrays in ([some.channels for some in neurons], [some.positions for some in neurons])
    )
    numbers = np.array([[0, 0, -1, 1, 1, 1], [0, -1, 0, -1, 1, 1]])
    one_by_one, at_once = (
        run(model, images, numbers, channels, positions, ("stem", "head"), how.composite, how.layers)
        for on_cpu in (True, False)
        for _ in [monkeypatch.setattr(full_pass, "on_cpu", lambda on_cpu=on_cpu: on_cpu)]
        for run in [jax.jit(lambda *a: full_pass.full_relevance(*a), static_argnums=(5, 6, 7))]
    )
    assert_equal_maps(np.concatenate(one_by_one), np.concatenate(at_once))
    assert not np.any(np.asarray(at_once)[numbers < 0])
    assert np.any(at_once)


def test_a_site_is_explained_where_that_costs_less():
    deep = Cone(Window(), (), (), work=int(50e9), work_in_full=int(100e9))
    early = deep._replace(work=int(1e9), work_in_full=int(20e9))
    cones = {"early": early, "deep": deep, "gate": None}

    def crops(neurons, cones=cones):
        return on_crops(cones, neurons, MANY)

    assert crops({"deep": 1}) == ("deep",)  # 5 * 50 against 2 * 100 + 1.4 * 100
    assert crops({"deep": 2}) == ()  # 500 against 200 + 280
    assert crops({"deep": 0.1}) == ("deep",)  # 25 against 20 + 14: an image without any is not explained
    assert crops({"deep": 2, "early": 9}) == ("early",)  # 45 against 9 more backward parts of 140
    assert crops({"gate": 5, "deep": 1}) == ("deep",)  # the gate's pass is another one


def test_a_few_images_are_not_worth_a_program_for_each_site():
    model = cases.RESNET50.random_model()
    asked = {"layer1.0.conv1": 1, "layer1.0.conv2": 1, "layer1.1.conv1": 1, "layer1.1.conv2": 1}
    assert tuple(plan(model, (256, 256), asked, MANY).crops) == tuple(asked)
    few = plan(model, (256, 256), asked, 1)
    assert len(few.full) > 0


def test_plans_of_the_published_lists(monkeypatch):
    model = cases.RESNET50.random_model()
    neurons = {"conv1": 9, "layer1.0.conv1": 20, "layer2.3.conv2": 2, "layer4.1.conv2": 14, "layer4.2.conv1": 6}
    how = plan(model, (256, 256), neurons, MANY)
    assert tuple(how.crops) == ("conv1", "layer1.0.conv1", "layer2.3.conv2")
    assert how.full == ("layer4.1.conv2", "layer4.2.conv1")
    assert how.images_at_once(1) == 2  # one for each device
    early = {"conv1": 9, "layer1.0.conv1": 20}
    assert tuple(plan(model, (256, 256), early, MANY).crops) == tuple(early)
    monkeypatch.setattr(lrpmax_plan, "on_cpu", lambda: False)
    how = plan(model, (256, 256), neurons, MANY)
    assert (how.lanes, how.images_at_once(how.lanes)) == (10, 6)  # 20 neurons of an image in two even turns


def test_where_gates_receive_relevance_neurons_behind_them_are_explained_in_full():
    model, neurons = cases.B0_SAME.random_model(), {"_conv_stem": 1, "_blocks.1._expand_conv": 1}
    assert plan(model, (64, 64), neurons, MANY).full == ()
    how = plan(model, (64, 64), neurons, MANY, "gradient-x-input")
    assert (tuple(how.crops), how.full) == (("_conv_stem",), ("_blocks.1._expand_conv",))


@pytest.mark.parametrize(
    ("channels", "composite", "message"),
    [
        (["stem.#6(T=7)"], "beta0", "the network has no channel stem.#6"),
        (["stem"], "beta0", "'stem' is not a channel key"),
        ([Channel("stem", 0, 6)] * 2, "beta0", "named twice"),
        (["stem.#1(T=6)"], "zplus", "no composite 'zplus'"),
    ],
)
def test_what_there_is_not(channels, composite, message, x64):
    with pytest.raises(InputError, match=message):
        lrp_max(small_model(), noise(16), channels, composite)


def test_types_that_do_not_fit(x64):
    with pytest.raises(InputError, match="the images are float32, the weights float64"):
        lrp_max(small_model(), noise(16, dtype=jnp.float32), ["stem.#1(T=6)"])


# The networks


def neurons_around(site, y, rng):
    """The strongest channels at corners, borders and inside; y is (n, h, w, c)."""
    last = site.height - 1, site.width - 1
    inside = [rng.integers(0, last[0] + 1), rng.integers(0, last[1] + 1)]
    positions = [(0, 0), (0, last[1]), last, (last[0], last[1] // 2), (last[0] // 2, 0), (last[0] // 3, 1), inside]
    positions = np.array(positions) if min(last) else np.zeros((1, 2), int)
    images = rng.integers(0, len(y), len(positions))
    return Neurons(images, y[images, positions[:, 0], positions[:, 1]].argmax(axis=1), positions)


def check_sites(model, size, names):
    model, rng = canonize(model.astype(jnp.float64)), np.random.default_rng(0)
    images = np.asarray(noise(size, count=1))
    sites = {site.name: site for site in sites_of(model, size, size)}
    outputs = jax.jit(lambda model, images: outputs_at(model, images, names, Plain()))(model, images)
    neurons = {name: neurons_around(sites[name], np.asarray(y), rng) for name, y in zip(names, outputs, strict=True)}
    assert_both_ways_agree(model, images, neurons)


SOME = [
    ("resnet50", 224, ("layer1.2.conv2", "layer2.0.downsample.0", "layer2.3.conv1")),
    ("resnet50", 255, ("conv1", "layer2.1.conv2")),
    ("b0-same", 224, ("_blocks.1._depthwise_conv", "_blocks.4._expand_conv")),
    ("b0-same", 255, ("_conv_stem", "_blocks.3._depthwise_conv")),
    ("b0-symmetric", 127, ("_blocks.2._project_conv",)),
]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "size", "names"), SOME, ids=[f"{name}-{size}" for name, size, _ in SOME])
def test_crops_of_the_networks(name, size, names, x64):
    network = next(network for network in cases.NETWORKS if network.name == name)
    check_sites(network.random_model(), size, names)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_crops_of_every_site(network, x64):
    """Every site, at an odd size."""
    model = network.random_model()
    check_sites(model, 97, tuple(site.name for site in sites_of(model, 97, 97)))


def golden_lrp_max(stored, model, size, pairs, images):
    channels = {site.name: site.channels for site in sites_of(model, size, size)}
    layers, indices = stored["layer"][pairs].tolist(), stored["channel"][pairs].tolist()
    asked = [Channel(layer, index, channels[layer]) for layer, index in zip(layers, indices, strict=True)]
    return lrp_max(model, images, asked, with_float32_epsilons(composite_of("beta0", model)))


def check_golden(golden, model, size, pairs, images):
    stored = golden.load("lrpmax.npz")
    model, kind = released(model, jnp.float32), f"{size}_f32"
    found = golden_lrp_max(stored, model, size, pairs, cases.golden_images(size)[:images])
    values, gap = (stored[f"{name}_{kind}"][pairs, :images].T for name in ("value", "gap"))
    np.testing.assert_allclose(found.values, values, rtol=tolerances.GOLDEN_F32_ACTIVATION)
    assert (gap > 1e-3 * values).mean() > 0.5
    for n, column in np.argwhere(gap > 1e-3 * values):
        pair = pairs[column]
        np.testing.assert_array_equal(found.positions[n, column], stored[f"hw_{kind}"][pair, n])
        stored_box = stored[f"box_{kind}"][pair, n]
        end = 0 if tuple(stored_box) == (0, size, 0, size) else 1
        np.testing.assert_array_equal(found.boxes[n, column] - np.array([0, end, 0, end]), stored_box)
        key = f"rgbsum_{size}_f64__{pair}_{n}"
        if key in stored and stored[key].any():
            assert relative_l2(found.maps[n, column], stored[key]) <= tolerances.GOLDEN_F32_LRPMAX_MAP
    return found


def test_golden_lrp_max_of_shallow_layers(golden, golden_model):
    check_golden(golden, golden_model, 224, [0, 1], images=4)


@pytest.fixture
def many_images(monkeypatch):
    """Explain as if there were many: on crops."""
    monkeypatch.setattr(lrpmax, "plan", lambda *arguments: plan(*arguments[:3], MANY, *arguments[4:]))


@pytest.mark.slow
def test_golden_lrp_max(golden, golden_model, many_images):
    check_golden(golden, golden_model, 224, list(range(12)), images=2)


@pytest.mark.slow
def test_golden_lrp_max_in_full(golden, golden_model, x64):
    """Two images are planned in full, but for the earliest sites: all neurons of an image share its passes."""
    stored, pairs = golden.load("lrpmax.npz"), list(range(12))
    images = np.asarray(cases.golden_images(224)[:2], np.float64)
    found = golden_lrp_max(stored, released(golden_model, jnp.float64), 224, pairs, images)
    for n, column in np.ndindex(2, len(pairs)):
        theirs = stored[f"rgbsum_224_f64__{pairs[column]}_{n}"]
        if theirs.any():
            assert relative_l2(found.maps[n, column], theirs) <= tolerances.GOLDEN_STORED_F32
        else:
            assert not found.maps[n, column].any()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_golden_lrp_max_at_356(golden, golden_model, many_images):
    check_golden(golden, golden_model, 356, [0, 2, 4, 6], images=1)

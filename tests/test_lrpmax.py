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
from small import noise, small_model
from test_explain import relative_l2, released, with_float32_epsilons
from test_receptive_field import own_model, same_model

from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.lrp.composites import BETA0, COMPOSITES, composite_of, rule
from tffjax.lrp.explain import relevance
from tffjax.lrp.rules import flat, w_square
from tffjax.lrp.targets import Neuron
from tffjax.nn import canonize
from tffjax.nn.ops import Plain
from tffjax.nn.receptive_field import receptive_fields
from tffjax.nn.sites import outputs_at, site_outputs, sites_of
from tffjax.pipeline.part import Part
from tffjax.studies.lrpmax import neurons as lrpmax_neurons
from tffjax.studies.lrpmax.neurons import Map, Neurons, lrp_max, neuron_maps, patch_box
from tffjax.studies.lrpmax.plan import plan
from tffjax.studies.lrpmax.relevance import full_relevance
from tffjax.studies.lrpmax.search import TopK, best_first, best_of, maxima
from tffjax.studies.rankings import Channel

MANY = 10**6
"""So many images that the price of compiling does not count."""

# The strongest neuron of every channel


def channels_of(outputs, sites):
    return [Channel(site, index, outputs[site].shape[-1]) for site in sites for index in range(outputs[site].shape[-1])]


def check_maxima(model, images, sites):
    outputs = jax.jit(site_outputs)(canonize(model), images)[1]
    found = maxima(model, images, channels_of(outputs, sites))
    y = [np.asarray(outputs[site]) for site in sites]
    flat = [a.reshape(len(a), -1, a.shape[-1]) for a in y]
    expected = np.concatenate([a.max(axis=1) for a in flat], axis=1)
    atol = tolerances.F64_PROGRAM * max(np.abs(a).max() for a in y)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=atol)
    places = [np.stack(np.unravel_index(f.argmax(axis=1), a.shape[1:3]), axis=2) for f, a in zip(flat, y, strict=True)]
    np.testing.assert_array_equal(found.positions, np.concatenate(places, axis=1))
    return found


@pytest.mark.extended
def test_maxima_are_the_largest_outputs(x64):
    model = small_model()
    found = check_maxima(model, noise(18, count=5), ("head", "stem", "project"))
    assert list(found.gates) == ["se.gate"]
    assert found.gates["se.gate"].shape == (5, 1, 1, 6)
    before = maxima(model, noise(18, count=5), [Channel("depthwise", 0, 6)])
    assert before.gates == {}  # the pass ends before the gate


def test_maxima_are_in_the_order_asked_for(x64):
    model, images = small_model(), noise(18, count=5)
    asked = [Channel("head", 5, 8), Channel("stem", 3, 6), Channel("head", 0, 8), Channel("head", 5, 8)]
    some = maxima(model, images, asked)
    for column, channel in enumerate(asked):
        one = maxima(model, images, [channel])
        np.testing.assert_allclose(some.values[:, column], one.values[:, 0], rtol=tolerances.F64_PROGRAM)
        np.testing.assert_array_equal(some.positions[:, column], one.positions[:, 0])


def test_of_equal_values_the_first_in_scan_order_is_taken(x64):
    found = check_maxima(small_model(), jnp.ones((1, 16, 16, 3)), ("stem", "depthwise"))
    assert found.positions[:, :6].max() <= 2  # the inner part of the map is constant


@pytest.mark.slow
@pytest.mark.exhaustive
def test_maxima_of_the_networks(model, x64):
    names = [site.name for site in sites_of(model, (45, 64))]
    check_maxima(model.astype(jnp.float64), jnp.asarray(noise(64)[:, :45]), tuple(names[::9]))


def found_in(rng, images, channels):
    """What a search might find, with many ties."""
    count = len(images)
    scores = rng.integers(-4, 5, (count, channels)).astype(np.float32)
    return {"images": np.asarray(images), "scores": scores, "gate": rng.normal(size=(count, 1, 1, 2))}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.lists(st.integers(0, 5), min_size=1), st.integers(1, 4))
def test_running_top_images_are_those_of_a_full_sort(seed, k, sizes, channels):
    rng = np.random.default_rng(seed)
    found = found_in(rng, rng.permutation(100)[: sum(sizes)], channels)
    scores, images = found["scores"], found["images"]
    running = {name: array[:0] for name, array in found.items()}
    for part in np.split(np.arange(len(images)), np.cumsum(sizes)):
        running = best_of([running, {name: array[part] for name, array in found.items()}], k)
    assert len(running["images"]) <= k * channels
    order = best_first(running["scores"], running["images"], k)
    for c in range(channels):
        best = sorted(range(len(images)), key=lambda i: (-scores[i, c], images[i]))[:k]
        assert running["images"][order[:, c]].tolist() == images[best].tolist()
        for name in ("scores", "gate"):
            np.testing.assert_array_equal(running[name][order[:, c]], found[name][best])


def batch_of(images):
    """A batch of these images, -1 where a row holds none."""
    images = np.asarray(images, np.int64)
    return Batch(np.zeros((len(images), 1, 1, 3), np.uint8), (images >= 0).astype(np.float32), images, {})


def test_top_images_of_several_shards_are_those_of_one(rng, tmp_path):
    generators, keys = ["one", "two", None, ""] * 10, ("a", "b", "c")
    found = found_in(rng, np.arange(40), 3) | {
        "values": rng.normal(size=(40, 3)),
        "positions": np.zeros((40, 3, 2), int),
    }
    counting = [i for i, name in enumerate(generators) if name is not None]

    def top_of(images):
        top = TopK(keys, 4, generators)
        for part in np.split(np.array(images), [7, 11]):
            rows = np.append(part, -1)
            top.add(batch_of(rows), {name: array[rows] for name, array in found.items() if name != "images"})
        return top

    whole, parts = top_of(counting), [top_of(counting[::2]), top_of(counting[1::2]), TopK(keys, 4, generators)]
    merged = TopK(keys, 4, generators)
    merged.merge([Part(part.state(), tmp_path) for part in parts])
    assert merged.tasks() == whole.tasks()
    assert {task.generator for tasks in whole.tasks().values() for task in tasks} == {"one", "two", ""}
    assert merged.gates().keys() == whole.gates().keys() == whole.tasks().keys()
    for image, gates in whole.gates().items():
        np.testing.assert_array_equal(gates["gate"], found["gate"][image])
    again = TopK(keys, 4, generators)
    again.restore(whole.state())
    assert again.tasks() == whole.tasks()


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
    boxes = [patch_box(stored[f"map__{name}"]) for name in names]
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
    whole = whole_maps([Map(crop, np.array([top, left]))], (height, width))
    assert whole.sum() == crop.sum()
    expected = golden_box(whole[0].astype(np.float64))
    assert tuple(patch_box(whole[0])) == expected
    assert tuple(patch_box(crop, (top, left), (height, width))) == expected


# Single neurons, in both ways


def whole_maps(maps, size):
    """The maps of whole images of this height and width."""
    found = np.zeros((len(maps), *size), maps[0].crop.dtype if maps else float)
    for out, (crop, (top, left)) in zip(found, maps, strict=True):
        out[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return found


def all_neurons(sites, images):
    """Every neuron of some sites in so many images."""
    parts = [
        np.concatenate([np.full((1, grid.shape[1]), i), grid])
        for i, site in enumerate(sites)
        for grid in [np.indices((images, site.channels, site.height, site.width)).reshape(4, -1)]
    ]
    number, image, index, *position = np.concatenate(parts, axis=1)
    channels = [Channel(sites[i].name, int(j), sites[i].channels) for i, j in zip(number, index, strict=True)]
    return Neurons(image, channels, np.stack(position, axis=1))


def picked(neurons, numbers):
    """Some of the neurons."""
    return Neurons(neurons.images[numbers], [neurons.channels[i] for i in numbers], neurons.positions[numbers])


def sites_named(model, size, *names):
    return [site for site in sites_of(model, size) if site.name in names]


def gates_of(model, images, names):
    sites = sites_named(model, images.shape[1:3], *names)
    return maxima(model, images, [Channel(site.name, 0, site.channels) for site in sites]).gates


def both_ways(model, size, sites, composite="beta0", **changes):
    """The plans that explain all sites on crops, and all in full."""
    how = plan(model, size, dict.fromkeys(sites, 1), MANY, composite)
    none = dataclasses.replace(how, crops={}, full=(), **changes)
    fields = receptive_fields(model, *size)
    return (
        dataclasses.replace(none, crops={site: fields[site] for site in sites}),
        dataclasses.replace(none, full=tuple(sites), lanes=16),
    )


def assert_equal_maps(ours, theirs):
    """Equal to 1e-10 of each map's largest value."""
    largest = np.abs(theirs).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(ours - theirs) <= tolerances.CROP * largest)


def assert_both_ways_agree(model, images, neurons, composite="beta0", **changes):
    size, sites = images.shape[1:3], tuple(dict.fromkeys(channel.site for channel in neurons.channels))
    plans = both_ways(model, size, sites, composite, **changes)
    gates = gates_of(model, images, sites)
    crops, full = (neuron_maps(model, how, images, neurons, gates) for how in plans)
    for channel, (crop, _) in zip(neurons.channels, crops, strict=True):
        lengths = [axis.length for axis in plans[0].crops[channel.site].window]
        assert crop.shape == tuple(np.minimum(lengths, size))
    full = whole_maps(full, size)
    assert_equal_maps(whole_maps(crops, size), full)
    for site in sites:
        assert np.any(full[[channel.site == site for channel in neurons.channels]])
    return full


@pytest.mark.extended
@pytest.mark.parametrize("size", [(15, 16), (18, 21)])
@pytest.mark.parametrize("make", [small_model, same_model, own_model])
def test_all_neurons_on_crops_are_those_of_full_passes(make, size, x64):
    model, images = make(), np.asarray(noise(21)[:, : size[0], : size[1]])
    neurons = all_neurons(sites_of(model, size), 2)
    full = assert_both_ways_agree(model, images, neurons, pixels=2**12)
    outputs = jax.tree.map(np.asarray, jax.jit(site_outputs)(canonize(model), images)[1])
    for image, channel, (row, column), found in zip(*neurons, full, strict=True):
        assert outputs[channel.site][image, row, column, channel.index] > 0 or not found.any()


@pytest.mark.extended
@pytest.mark.parametrize("name", ["beta1", "beta-adaptive", "epsilon-gamma-box", "flat"])
def test_crops_under_other_rules(name, x64):
    # the first convolution's rule makes up inputs of its own, which end at the image's borders
    composite = BETA0.replace(first=rule(flat), conv=rule(w_square)) if name == "flat" else COMPOSITES[name]
    model, images = small_model(), np.asarray(noise(17))
    neurons = all_neurons(sites_named(model, (17, 17), "stem", "project"), 2)
    assert_both_ways_agree(model, images, neurons, composite)


@pytest.mark.extended
@pytest.mark.parametrize("composite", ["beta0", "epsilon", "gradient-x-input", "guided-backprop", "deconvnet"])
def test_lrp_max_is_the_relevance_of_the_strongest_neuron(composite, x64):
    model, images = small_model(), noise(33, count=3)
    sites = {site.name: site for site in sites_of(model, (33, 33))}
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
        np.testing.assert_array_equal(found.boxes[:, column], [patch_box(one) for one in found.maps[:, column]])


@pytest.mark.extended
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


@pytest.mark.extended
def test_any_number_of_neurons_in_any_order(x64, rng):
    model, images = small_model(), np.asarray(noise(24, count=4))
    gates = gates_of(model, images, ("stem", "project"))
    everything = all_neurons(sites_named(model, (24, 24), "stem", "project"), 4)
    for how in both_ways(model, (24, 24), ("stem", "project"), pixels=2**11):
        expected = neuron_maps(model, how, images, everything, gates)
        for count in (0, 1, 37):
            order = rng.permutation(len(everything.images))[:count]
            found = neuron_maps(model, how, images, picked(everything, order), gates)
            assert len(found) == count
            for number, (crop, place) in zip(order, found, strict=True):
                assert_equal_maps(crop[None], expected[number].crop[None])
                np.testing.assert_array_equal(place, expected[number].place)


@pytest.mark.extended
def test_nothing_is_compiled_for_other_channels_positions_and_counts(caplog):
    model, images = small_model(jnp.float32), np.asarray(noise(24, dtype=jnp.float32))
    gates = gates_of(model, images, ("head",))
    plans = both_ways(model, (24, 24), ("stem", "project"), pixels=2**11)
    assert [plans[0].at_once(site) for site in ("stem", "project")] == [128, 10]  # at most 128, and even: two devices
    everything = all_neurons(sites_named(model, (24, 24), "stem", "project"), 2)

    def run(seed, count):
        some = np.random.default_rng(seed).permutation(len(everything.images))[:count]
        for how in plans:
            with jax.log_compiles():
                neuron_maps(model, how, images, picked(everything, some), gates)
        compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
        return [sum(name in text for text in compiled) for name in ("crop_relevance", "full_relevance")]

    few = run(0, 20)
    assert run(5, 600) == run(6, 131) == few


@pytest.mark.extended
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
        lambda *arguments: full_relevance(model, *arguments, sites, how.composite, how.layers, one_by_one=True)
    )(*arguments)
    (loop,) = (step for step in everything.eqns if step.primitive.name == "scan")
    neuron = loop.params["jaxpr"]
    each = flops(jaxpr_as_fun(neuron), *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in neuron.in_avals))
    forward = flops(lambda images: outputs_at(model, images, sites[1:]), arguments[0])
    assert loop.params["length"] == 9
    assert each < 2 * forward  # a backward pass; its strided convolutions are counted with the zeros between
    whole = flops(jaxpr_as_fun(everything), *arguments)
    assert whole - each > 1.9 * forward  # forward and denominators, once; a loop's body is counted once


@pytest.mark.extended
def test_lanes_that_run_at_once_are_those_that_run_one_by_one(x64, rng):
    model, images = canonize(small_model()), noise(24)
    names = ("stem", "head")
    how = plan(model, (24, 24), dict.fromkeys(names, 1), MANY)
    sites = sites_named(model, (24, 24), *names)
    numbers = np.array([[0, 0, -1, 1, 1, 1], [0, -1, 0, -1, 1, 1]])
    channels, rows, columns = (
        rng.integers(0, [getattr(sites[max(number, 0)], name) for number in numbers.ravel()]).reshape(numbers.shape)
        for name in ("channels", "height", "width")
    )
    arguments = numbers, channels, np.stack([rows, columns], axis=2)
    one_by_one, at_once = (
        jax.jit(full_relevance, static_argnums=(5, 6, 7, 8))(
            model, images, *arguments, names, how.composite, how.layers, one
        )
        for one in (True, False)
    )
    assert_equal_maps(np.concatenate(one_by_one), np.concatenate(at_once))
    assert not np.any(np.asarray(at_once)[numbers < 0])
    assert np.any(at_once)


@pytest.mark.extended
def test_a_site_is_explained_where_that_costs_less():
    model = cases.RESNET50.random_model()

    def on_crops(*sites, images=MANY):
        return tuple(plan(model, (256, 256), dict.fromkeys(sites, 1), images, cpu=True).crops)

    assert on_crops("layer2.3.conv2") == ("layer2.3.conv2",)  # 3.6 * 0.05 of a pass to this site
    assert on_crops("layer3.4.conv2") == ()  # 3.6 * 0.43
    assert on_crops("layer3.3.conv2") == ()  # 3.6 * 0.32
    assert on_crops("layer3.3.conv2", "layer4.2.conv2") == ("layer3.3.conv2",)  # to that site: 3.6 * 0.22
    assert on_crops("layer3.3.conv2", "layer4.2.conv2", images=100) == ()  # 114 layers to compile


@pytest.mark.extended
def test_a_few_images_are_not_worth_a_program_for_each_site():
    model = cases.RESNET50.random_model()
    asked = {"layer1.0.conv1": 1, "layer1.0.conv2": 1, "layer1.1.conv1": 1, "layer1.1.conv2": 1}
    assert tuple(plan(model, (256, 256), asked, MANY).crops) == tuple(asked)
    few = plan(model, (256, 256), asked, 1)
    assert len(few.full) > 0


@pytest.mark.extended
def test_plans_of_the_published_lists():
    model = cases.RESNET50.random_model()
    neurons = {"conv1": 9, "layer1.0.conv1": 20, "layer2.3.conv2": 2, "layer4.1.conv2": 14, "layer4.2.conv1": 6}
    how = plan(model, (256, 256), neurons, MANY, cpu=True)
    assert tuple(how.crops) == ("conv1", "layer1.0.conv1", "layer2.3.conv2")
    assert how.full == ("layer4.1.conv2", "layer4.2.conv1")
    assert how.at_once() == 2  # one for each device
    early = {"conv1": 9, "layer1.0.conv1": 20}
    assert tuple(plan(model, (256, 256), early, MANY).crops) == tuple(early)
    elsewhere = plan(model, (256, 256), neurons, MANY, cpu=False)
    assert (elsewhere.full, elsewhere.lanes, elsewhere.at_once()) == (how.full, 8, 8)


@pytest.mark.extended
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
    strongest = y[images, positions[:, 0], positions[:, 1]].argmax(axis=1)
    return images, [Channel(site.name, int(index), site.channels) for index in strongest], positions


def check_sites(model, size, names):
    model, rng = canonize(model.astype(jnp.float64)), np.random.default_rng(0)
    images = np.asarray(noise(size, count=1))
    sites = {site.name: site for site in sites_of(model, (size, size))}
    outputs = jax.jit(lambda model, images: outputs_at(model, images, names, Plain()))(model, images)
    parts = [neurons_around(sites[name], np.asarray(y), rng) for name, y in zip(names, outputs, strict=True)]
    rows, channels, positions = zip(*parts, strict=True)
    neurons = Neurons(
        np.concatenate(rows), [channel for some in channels for channel in some], np.concatenate(positions)
    )
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
    check_sites(model, 97, tuple(site.name for site in sites_of(model, (97, 97))))


def golden_lrp_max(stored, model, size, pairs, images):
    channels = {site.name: site.channels for site in sites_of(model, (size, size))}
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


@pytest.mark.parity
def test_golden_lrp_max_of_shallow_layers(golden, golden_model):
    check_golden(golden, golden_model, 224, [0, 1], images=4)


@pytest.fixture
def many_images(monkeypatch):
    """Explain as if there were many: on crops."""
    monkeypatch.setattr(lrpmax_neurons, "plan", lambda *arguments: plan(*arguments[:3], MANY, *arguments[4:]))


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

"""Networks as records: every record holds, ResNets against PyTorch, and a user's network through the product."""

import dataclasses
import functools
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from command import done, refused
from studies import make_images, read
from tffjax.conversion import names

import tffjax
from tffjax.errors import InputError
from tffjax.lrp import rules
from tffjax.lrp.composites import composite_of
from tffjax.nn import (
    BatchNorm,
    Card,
    Conv,
    Dense,
    Geometry,
    GraphOptions,
    Model,
    Network,
    ResNet,
    ResNet50,
    canonize,
    checkpoint,
    layers_of,
    network_of,
    networks,
    register,
    sites_of,
)
from tffjax.nn.conv_bn import conv_bn
from tffjax.nn.ops import Plain, no_tap
from tffjax.studies.color.activations import max_activations
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.ffrs.figures import places_of
from tffjax.studies.ffrs.statistic import relevance_shares
from tffjax.studies.heatmaps.maps import grad_cam
from tffjax.studies.lrpmax.neurons import lrp_max
from tffjax.studies.rankings import Channel, all_channels

run = jax.jit(lambda model, images: model(images))

# Records


class Expected(NamedTuple):
    """Of a network with 1000 outputs: convolutions that are sites, parameters (without running statistics)."""

    name: str
    convolutions: int
    parameters: int
    first_rule: str | None


EXPECTED = (
    Expected("resnet18", 20, 11_689_512, "z_box"),
    Expected("resnet34", 36, 21_797_672, "z_box"),
    Expected("resnet50", 53, 25_557_032, "z_box"),
    Expected("resnet101", 104, 44_549_160, "z_box"),
    Expected("resnet152", 155, 60_192_808, "z_box"),
    Expected("efficientnet_b0", 49, 5_288_548, None),
    Expected("efficientnet_b1", 69, 7_794_184, None),
    Expected("efficientnet_b2", 69, 9_109_994, None),
    Expected("efficientnet_b3", 78, 12_233_232, None),
    Expected("efficientnet_b4", 96, 19_341_616, None),
    Expected("efficientnet_b5", 116, 30_389_784, None),
    Expected("efficientnet_b6", 134, 43_040_704, None),
    Expected("efficientnet_b7", 163, 66_347_960, None),
)


@functools.cache
def on_shapes(name: str, outputs: int = 1000) -> Model:
    """A network whose weights are shapes: nothing is computed."""
    card = Card(name, outputs, network_of(name).conventions[0])
    module = network_of(name).constructor(card)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return Model(module, dict(jax.eval_shape(module.init, jax.random.key(0), image)), card)


def test_these_are_the_networks():
    assert networks.names(lambda: ())[: len(EXPECTED)] == tuple(expected.name for expected in EXPECTED)


FEW = ("resnet18", "resnet50", "efficientnet_b0", "efficientnet_b1")  # of which others are more of the same
EACH = pytest.mark.parametrize(
    "expected",
    [expected if expected.name in FEW else pytest.param(expected, marks=pytest.mark.slow) for expected in EXPECTED],
    ids=lambda expected: expected.name,
)


@EACH
def test_a_record_is_complete(expected):
    network, model = network_of(expected.name), on_shapes(expected.name)
    layers = layers_of(model, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    assert sum(layer.is_site for layer in layers) == expected.convolutions
    assert sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"])) == expected.parameters
    assert layers[-1].name == network.head
    assert {layer.name: layer.kind for layer in layers}[network.cam_layer] in ("conv", "activation")
    assert network.first_rule == expected.first_rule
    assert network.makes(model.module)
    assert network.makes(model.module.clone(num_outputs=2, epsilon=0.1, batch_norm="folded"))


@pytest.mark.parametrize("with_card", [True, False], ids=["card", "no card"])
@EACH
def test_the_first_rule_is_that_of_the_record(expected, with_card):
    model = on_shapes(expected.name)
    model = model if with_card else dataclasses.replace(model, card=None)
    first = composite_of("beta0", model).first
    assert first.function is rules.z_box if expected.first_rule else first is None, first
    assert composite_of("epsilon-gamma-box", model).first.function is rules.z_box  # it is not the paper's


@pytest.mark.extended
@pytest.mark.parametrize(("name", "kinds"), [("resnet34", {"3x3"}), ("resnet101", {"1x1 reduce", "3x3", "1x1 expand"})])
def test_figures_know_the_kinds_of_its_convolutions(name, kinds):
    sites = [site.name for site in sites_of(on_shapes(name), (64, 64))]
    assert {place.kind for place in places_of(sites).values()} == {"stem", "downsample", *kinds}


def test_a_name_that_is_not_known():
    for ask in (network_of, tffjax.nn.module_of):
        with pytest.raises(InputError, match=r"no network 'alexnet'; known are resnet18, resnet34, resnet50, "):
            ask(Card("alexnet", 1))


def test_a_padding_that_the_network_does_not_have():
    with pytest.raises(InputError, match="resnet50 has no padding same"):
        tffjax.nn.module_of(Card("resnet50", 1, GraphOptions("same")))


@pytest.mark.parametrize("change", [{"name": ""}, {"conventions": ()}, {"dropout": 1.0}])
def test_an_impossible_record(change):
    with pytest.raises(InputError, match="a network needs a name"):
        dataclasses.replace(SMALL_VGG, **change)


# ResNets against PyTorch


def resnet_in_torch(variables, x, strides, stages, stem_stride=2, pool_stride=2):
    """ResNet by the paper, from weights under torchvision's names; `strides` of the convolutions of the first block of
    a stage whose stride is 2.
    """
    tensors = jax.tree.map(lambda a: torch.from_numpy(np.array(a)), variables)
    params, statistics = tensors["params"], tensors["batch_stats"]

    def conv_bn(conv, bn, x, stride):
        kernel = params[conv]["kernel"].permute(3, 2, 0, 1)
        y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, var = statistics[bn]["mean"], statistics[bn]["var"]
        return F.batch_norm(y, mean, var, params[bn]["scale"], params[bn]["bias"], eps=1e-5)

    x = F.max_pool2d(F.relu(conv_bn("conv1", "bn1", x, stem_stride)), 3, pool_stride, padding=1)
    for stage, count in enumerate(stages, start=1):
        for block in range(count):
            name, y = f"layer{stage}.{block}", x
            reduces = stage > 1 and block == 0
            for number, stride in enumerate(strides, start=1):
                y = y if number == 1 else F.relu(y)
                y = conv_bn(f"{name}.conv{number}", f"{name}.bn{number}", y, stride if reduces else 1)
            if f"{name}.downsample.0" in params:
                x = conv_bn(f"{name}.downsample.0", f"{name}.downsample.1", x, 2 if reduces else 1)
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), params["fc"]["kernel"].T, params["fc"]["bias"])


@pytest.mark.parity
@pytest.mark.parametrize(
    ("module", "strides", "stem"),
    [
        (ResNet("basic", (2, 2, 2, 2), num_outputs=3), (2, 1), {}),
        (ResNet("bottleneck", (2, 1, 1, 1), num_outputs=3), (1, 2, 1), {}),
        (ResNet("bottleneck", (1, 2, 1, 1), num_outputs=3, stride_in="1x1"), (2, 1, 1), {}),
        (
            ResNet("bottleneck", (1, 1, 2, 1), num_outputs=3, stem_stride=1, pool_stride=1),
            (1, 2, 1),
            {"stem_stride": 1, "pool_stride": 1},
        ),
    ],
    ids=["ResNet-18", "v1.5", "v1", "no down-sampling"],
)
def test_a_resnet_equals_pytorch(module, strides, stem, rng, x64):
    model = Model(module, cases.random_variables(module, seed=0)).astype(jnp.float64)
    images = rng.standard_normal((2, 33, 46, 3))
    ours = np.asarray(run(model, jnp.asarray(images)))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = resnet_in_torch(model.variables, pixels, strides, module.stages, **stem)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-10 * np.abs(ours).max())


@pytest.mark.extended
def test_a_resnet_of_basic_blocks_is_canonized(rng, x64):
    module = ResNet("basic", (1, 1, 1, 1), num_outputs=3)
    model = Model(module, cases.random_variables(module, seed=0)).astype(jnp.float64)
    images = jnp.asarray(rng.standard_normal((2, 33, 46, 3)))
    before, after = np.asarray(run(model, images)), np.asarray(run(canonize(model), images))
    assert np.max(np.abs(after - before)) <= tolerances.F64_IDENTITY * np.abs(before).max()


def test_resnet50_is_a_resnet():
    assert ResNet50(3, "folded", 0.1) == ResNet("bottleneck", (3, 4, 6, 3), 3, "folded", 0.1)
    assert network_of("resnet50").makes(ResNet50(3, "folded", 0.1))
    assert network_of("resnet50").makes(ResNet("bottleneck", (3, 4, 6, 3), stem_stride=1))
    assert not network_of("resnet50").makes(ResNet("bottleneck", (3, 4, 6, 4)))


# A network of a user


class SmallVGG(nn.Module):
    """Convolutions, ReLUs and max pools; no batch norms."""

    num_outputs: int = 1

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        for stage, width in enumerate((8, 16), start=1):
            for name in (f"conv{stage}.1", f"conv{stage}.2"):
                x = ops.relu(Conv(width, padding=1, name=name)(x, ops, tap), f"{name}.relu")
            x = ops.max_pool(x, (2, 2), Geometry(stride=(2, 2)), f"pool{stage}")
        return Dense(self.num_outputs, name="head")(ops.mean_pool(x, "mean"), ops)


SMALL_VGG = Network(
    "small_vgg", lambda card: SmallVGG(card.num_outputs), head="head", cam_layer="conv2.2.relu", first_rule="z_box"
)
register(SMALL_VGG)


@pytest.fixture(scope="module")
def user_model() -> Model:
    variables = cases.random_variables(SmallVGG(), seed=0)
    for layer in variables["params"].values():  # a bias would keep relevance for itself
        layer["bias"] = jnp.zeros_like(layer["bias"])
    return Model(SmallVGG(), variables, Card("small_vgg", 1))


@pytest.fixture(scope="module")
def weights(user_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("user") / "weights"
    checkpoint.save(user_model, path)
    return path


def test_a_users_network_is_saved_and_loaded(user_model, weights):
    loaded = checkpoint.load(weights)
    assert (loaded.module, loaded.card.architecture) == (user_model.module, "small_vgg")
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, user_model.variables)


@pytest.mark.parametrize("composite", ["beta0", "epsilon-plus"])
def test_a_users_network_is_explained(user_model, composite, rng):
    images = jnp.asarray(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    assert (composite_of(composite, user_model).first is not None) == (composite == "beta0")
    explained = tffjax.relevance(user_model, images, composite=composite)
    np.testing.assert_allclose(explained.input.sum(axis=(1, 2, 3)), 1, rtol=1e-3)
    np.testing.assert_array_equal(grad_cam(user_model, images), grad_cam(user_model, images, layer=SMALL_VGG.cam_layer))


@pytest.mark.extended
def test_a_users_network_through_the_command_line(weights, tmp_path):
    images = make_images(tmp_path / "images", generators=("progan",))
    folder, options = tmp_path / "rank", ("--own-size", "--batch-size", 4)
    assert "the paper has no number of channels for small_vgg; give --k" in refused(
        "rank", weights, images, "--out", folder, *options
    )
    done("rank", weights, images, "--out", folder, *options, "--k", 5, "--confidence", 0)
    ranking = folder / "ranking_fake.csv"
    assert len(read(ranking)) == 2 * (8 + 16)
    scored = ("dropout", weights, images, "--ranking", ranking, "--batch-size", 4, "--random", 1)
    assert "give --k" in refused(*scored, "--out", tmp_path / "dropout")
    done(*scored, "--k", "3,6", "--out", tmp_path / "dropout")
    rows = read(tmp_path / "dropout" / "dropout.csv")
    assert {row["setting"] for row in rows} == {"baseline", "top-3", "random-3", "top-6", "random-6"}
    assert {row["published_ap"] for row in rows} == {None}


@pytest.mark.extended
def test_a_users_network_is_trained(weights, tmp_path):
    images = make_images(tmp_path / "images", generators=("progan",), count=4)
    options = ("--batch-size", 2, "--epochs", 1, "--load-size", 0, "--crop", 32, "--validation-share", 0.5)
    done("train", images, "--init", weights, "--out", tmp_path / "run", *options)
    trained = checkpoint.load(tmp_path / "run" / "checkpoint")
    assert trained.card.architecture == "small_vgg"
    before = checkpoint.load(weights).variables["params"]["conv1.1"]["kernel"]
    assert not np.array_equal(trained.variables["params"]["conv1.1"]["kernel"], before)


class FixedSize(nn.Module):
    """A dense layer behind `flatten`: images of 32x32 only."""

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = ops.relu(Conv(4, padding=1, name="conv1")(x, ops, tap), "relu1")
        x = ops.max_pool(x, (4, 4), Geometry(stride=(4, 4)), "pool")
        x = ops.relu(Conv(8, padding=1, name="conv2")(x, ops, tap), "relu2")
        return Dense(1, name="head")(ops.flatten(x, "flatten"), ops)


FIXED_SIZE = Network("fixed_size", lambda card: FixedSize(), head="head", cam_layer="relu2", image_size=(32, 32))


def fixed_size(card: Card | None = None) -> Model:
    return Model(FixedSize(), FixedSize().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))), card)


@pytest.mark.extended
def test_a_network_of_one_image_size_without_a_record(rng):
    model, images = fixed_size(), jnp.asarray(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    with pytest.raises(InputError, match=r"does not take images of shape \(1, 224, 224, 3\).*; give size=\(h, w\)"):
        all_channels(model)
    channels = all_channels(model, (32, 32))
    assert len(channels) == 4 + 8
    assert relevance_shares(model, images, jnp.ones(2, jnp.int32)).shares.shape == (2, 12)
    assert masked_logits(model, images, [Setting("one", channels[:1])]).shape[:2] == (2, 1)
    assert max_activations(model, images, channels)[1].shape == (2, 12)
    assert lrp_max(model, images, channels[-2:], composite="epsilon-plus").maps.shape[:2] == (2, 2)
    with pytest.raises(InputError, match=r"has no channel conv3.#0\(T=8\)"):
        max_activations(model, images, (Channel("conv3", 0, 8),))


@pytest.mark.extended
def test_a_network_of_one_image_size_through_the_command_line(tmp_path):
    register(FIXED_SIZE)
    weights, images = tmp_path / "weights", make_images(tmp_path / "images", generators=("progan",))
    checkpoint.save(fixed_size(Card("fixed_size", 1)), weights)
    options = ("--k", 5, "--confidence", 0, "--batch-size", 4)
    assert "does not take images of shape (1, 64, 64, 3)" in refused(
        "rank", weights, images, "--out", tmp_path / "other", "--crop", 64, "--resize", 64, *options
    )
    done("rank", weights, images, "--out", tmp_path / "rank", "--crop", 32, "--resize", 32, *options)
    ranking = tmp_path / "rank" / "ranking_fake.csv"
    assert len(read(ranking)) == 4 + 8
    scored = ("--ranking", ranking, "--batch-size", 4, "--random", 1, "--crop", 32, "--resize", 32)
    done("dropout", weights, images, "--out", tmp_path / "dropout", "--k", "3,6", *scored)


@pytest.mark.extended
@pytest.mark.parametrize("channels", [1, 2])
def test_a_network_of_other_channels(channels, rng):
    module = SmallVGG()
    images = jnp.asarray(rng.standard_normal((2, 32, 32, channels)), jnp.float32)
    model = Model(module, module.init(jax.random.key(0), images))
    every = all_channels(model)
    assert len(every) == 2 * (8 + 16)
    assert all_channels(model, (32, 32, channels)) == every
    prepared = tffjax.prepare(model, "epsilon-plus")
    expected = tffjax.relevance(model, images, composite="epsilon-plus").input
    np.testing.assert_array_equal(tffjax.relevance(prepared, images).input, expected)
    found = lrp_max(model, images, [every[0], every[-1]], composite="epsilon-plus")
    assert found.maps.shape == (2, 2, 32, 32)
    with pytest.raises(InputError, match=r"a size is \(h, w\) or \(h, w, c\), not \(32,\)"):
        tffjax.prepare(model, size=(32,))


def test_a_network_of_one_image_size_is_prepared_at_the_size_of_its_record(rng):
    with pytest.raises(InputError, match=r"\(1, 224, 224, 3\).*; give size=\(h, w\) or \(h, w, c\)$"):
        tffjax.prepare(dataclasses.replace(fixed_size(), module=FixedSize(name="another")), "epsilon-plus")
    register(FIXED_SIZE)
    prepared = tffjax.prepare(fixed_size(Card("fixed_size", 1)), "epsilon-plus")
    images = jnp.asarray(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    assert tffjax.relevance(prepared, images).input.shape == images.shape


def test_a_constructor_that_raises_does_not_disturb_other_networks(monkeypatch):
    def constructor(card: Card) -> nn.Module:
        raise ValueError("not this card")

    monkeypatch.setitem(networks._known, "raises", Network("raises", constructor, head="head"))
    assert composite_of("beta0", fixed_size()).first is None
    assert not networks.network_of("raises").makes(FixedSize())


class Block(nn.Module):
    """Convolution, batch norm, ReLU; a nested module has the fields of the one around it."""

    features: int
    batch_norm: str
    epsilon: float

    @nn.compact
    def __call__(self, x, ops, tap):
        x = conv_bn(self, "conv", "bn", x, ops, tap, features=self.features, kernel_size=3, padding=1)
        return ops.relu(x, f"{self.name}.relu")


class WithBlocks(nn.Module):
    batch_norm: str = "statistics"
    epsilon: float = 1e-3
    pairs: tuple = (("stem.0", "stem.1"), ("b0.conv", "b0.bn"), ("b1.conv", "b1.bn"))

    @nn.compact
    def __call__(self, x, ops: Plain = Plain(), tap=no_tap):
        x = conv_bn(self, "stem.0", "stem.1", x, ops, tap, features=4, kernel_size=3)
        for number in range(2):
            x = Block(4, self.batch_norm, self.epsilon, name=f"b{number}")(x, ops, tap)
        return Dense(2, name="head")(ops.mean_pool(x, "mean"), ops)

    def batch_norm_pairs(self):
        return self.pairs


def with_blocks(**fields) -> Model:
    return Model(WithBlocks(**fields), cases.random_variables(WithBlocks(), seed=0))


def test_batch_norms_in_nested_modules_are_folded(rng, x64):
    model = with_blocks().astype(jnp.float64)
    folded, images = canonize(model), jnp.asarray(rng.standard_normal((2, 16, 16, 3)))
    np.testing.assert_allclose(run(folded, images), run(model, images), rtol=1e-10)
    assert list(folded.variables) == ["params"]
    assert sorted(folded.variables["params"]["b0"]) == ["conv"]
    check = tffjax.check_model(model, images, composite="epsilon-plus")
    assert check.ok
    assert check.notes == ()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("b0.cov", "b0.bn"), r"gives \('b0.cov', 'b0.bn'\), but there is no convolution 'b0.cov'; there is b0.conv"),
        (("b0.conv", "bn"), r"no batch norm 'bn'; there (is|are) "),
        (("b0.bn", "b0.conv"), "there is no convolution 'b0.bn'"),
    ],
)
def test_a_pair_that_is_none(pair, message):
    with pytest.raises(InputError, match=message) as caught:
        canonize(with_blocks(pairs=(pair,)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("state", [True, "train"])
def test_an_unknown_state_of_batch_norms(state, rng):
    model = dataclasses.replace(with_blocks(), module=WithBlocks(batch_norm=state))
    with pytest.raises(InputError, match=f"needs the fields epsilon and batch_norm: .* not {state!r}; see"):
        canonize(model)
    with pytest.raises(InputError, match="needs the fields"):
        tffjax.relevance(model, jnp.zeros((1, 16, 16, 3)), target=0)


def test_batch_norms_that_are_left_out_keep_their_statistics(rng, x64):
    class Partly(nn.Module):
        batch_norm: str = "statistics"
        epsilon: float = 1e-5

        @nn.compact
        def __call__(self, x, ops=Plain(), tap=no_tap):
            x = conv_bn(self, "conv", "bn", x, ops, tap, features=4, kernel_size=3)
            x = BatchNorm(name="alone")(ops.relu(x, "relu"), ops)
            return Dense(2, name="head")(ops.mean_pool(x, "mean"), ops)

        def batch_norm_pairs(self):
            yield "conv", "bn"

    model = Model(Partly(), cases.random_variables(Partly(), seed=0)).astype(jnp.float64)
    folded, images = canonize(model), jnp.asarray(rng.standard_normal((2, 16, 16, 3)))
    assert list(folded.variables["batch_stats"]) == ["alone"]
    np.testing.assert_allclose(run(folded, images), run(model, images), rtol=1e-10)
    check = tffjax.check_model(model, images, composite="epsilon-plus")
    assert check.ok  # the module says which ones to fold
    assert "1 batch norms, first alone, are not folded" in check.notes[0]


def test_modules_that_are_no_networks():
    class Ordinary(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x)

    class WithList(nn.Module):
        widths: list

        def __call__(self, x, ops, tap):
            return x

    class Silent(nn.Module):
        @nn.compact
        def __call__(self, x, ops, tap):
            return nn.Dense(2)(x.mean(axis=(1, 2)))

    with pytest.raises(InputError, match=r"Ordinary is not written over \(images, ops, tap\).*docs/own-network.md"):
        Model(Ordinary(), {})
    with pytest.raises(InputError, match="the fields of WithList must be hashable: tuples, not lists"):
        Model(WithList([1, 2]), {})
    images = jnp.zeros((1, 8, 8, 3))
    silent = Model(Silent(), Silent().init(jax.random.key(0), images, Plain(), no_tap))
    with pytest.raises(InputError, match=r"Silent calls no operations: .*docs/own-network.md"):
        tffjax.relevance(silent, images, target=0)


def test_a_users_network_cannot_be_converted():
    with pytest.raises(InputError, match="small_vgg networks cannot be converted or verified, only resnet18, res"):
        names.layers("small_vgg", 1)


def test_a_variant_of_a_network_is_registered_in_one_line(rng):
    nodown = dataclasses.replace(
        network_of("resnet50"),
        name="resnet50_nodown",
        constructor=lambda card: ResNet("bottleneck", (3, 4, 6, 3), card.num_outputs, stem_stride=1, pool_stride=1),
    )
    register(nodown)
    register(nodown)  # as when a notebook's cell runs again
    assert network_of("resnet50_nodown") is nodown
    assert composite_of("beta0", on_shapes("resnet50_nodown")).first.function is rules.z_box


def test_a_network_of_tffjax_is_not_replaced():
    with pytest.raises(InputError, match="resnet50 is a network of tffjax; give yours another name"):
        register(dataclasses.replace(SMALL_VGG, name="resnet50"))


# Entry points

ANNOUNCED = dataclasses.replace(SMALL_VGG, name="announced", conventions=(GraphOptions("same", 1e-3),))


def announced() -> Network:
    return ANNOUNCED


def broken() -> Network:
    raise OSError("no such library")


def points(**values: str):
    return lambda: [importlib.metadata.EntryPoint(name, f"{__name__}:{value}", networks.GROUP)
                    for name, value in values.items()]  # fmt: skip


@pytest.mark.parametrize("value", ["ANNOUNCED", "announced"], ids=["record", "function"])
def test_an_entry_point_is_honored(value):
    assert network_of("announced", points(announced=value)) is ANNOUNCED
    assert network_of(Card("announced", 1, GraphOptions("same", 1e-3)), points(announced=value)) is ANNOUNCED
    assert "announced" in networks.names(points(announced=value))


def test_entry_points_are_imported_only_when_named():
    assert network_of("resnet50", points(other="missing")).name == "resnet50"
    assert networks.names(points(other="missing"))[-1] == "other"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("missing", "cannot be loaded [(]AttributeError"),
        ("broken", "cannot be loaded [(]OSError: no such library"),
        ("SmallVGG", "is announced as the network 'other', but it is not that record"),
        ("ANNOUNCED", "is announced as the network 'other', but it is not that record"),
    ],
)
def test_an_entry_point_that_delivers_no_such_record(value, message):
    with pytest.raises(InputError, match=message):
        network_of("other", points(other=value))

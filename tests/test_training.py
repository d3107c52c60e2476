"""Training: gradients and statistics against PyTorch, the schedule by hand, interruptions, the command line."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tolerances
import torch
from command import done, refused, save_image
from PIL import Image
from tffjax.conversion.checkpoint import read_state_dict
from tffjax.conversion.twin import twin_from_variables
from tffjax.conversion.variables import to_flax
from torch.nn import functional as F

from tffjax.compile.placement import put, put_model
from tffjax.data import ImageFile, find_images
from tffjax.data.augmentations import Augmentation
from tffjax.data.preprocessing import resize
from tffjax.errors import InputError
from tffjax.files import delete
from tffjax.kernels.choice import CPU
from tffjax.kernels.convolution import Geometry, native
from tffjax.kernels.kernel_gradient import kernel_gradient, trainable_conv
from tffjax.nn import BatchNorm, Conv, Dense, Model, canonize, checkpoint, network_of
from tffjax.nn.card import Normalization
from tffjax.nn.ops import Plain, no_tap
from tffjax.results.tables import read_table
from tffjax.training import loop as fit
from tffjax.training import repeats
from tffjax.training import step as training
from tffjax.training.images import TrainingImages, split
from tffjax.training.operations import Training
from tffjax.training.schedule import Plateau
from tffjax.training.state import Epoch, Progress, States, Validation
from tffjax.training.step import Recipe

SIDE = 32  # of the squares that the slow tests train on
BATCH = 8


# Schedule


def rates(accuracies: list[float], **options) -> list[float | None]:
    """The rate after each epoch; None where training stops."""
    found, plateau = [], Plateau(**options)
    for accuracy in accuracies:
        plateau = plateau.after(accuracy)
        found.append(None if plateau.stopped else plateau.rate)
    return found


def test_the_rate_falls_after_five_epochs_without_a_rise():
    # 0.9 sets the mark; 0.901 is a rise of 0.1 %; then five that are not
    falls = rates([0.9, 0.901, 0.9019, 0.9, 0.5, 0.9019, 0.9018])
    np.testing.assert_allclose(falls, [1e-4] * 6 + [1e-5], rtol=1e-12)


def test_a_rise_in_time_starts_the_count_anew():
    assert rates([0.5, *[0.5] * 4, 0.6, *[0.6] * 4]) == [1e-4] * 10


def test_after_the_first_drop_a_rise_is_two_thousandths():
    # the first epoch at the new rate sets the mark, though it is lower; 0.8015 is no rise any more, 0.802 is
    falls = rates([0.9, *[0.9] * 5, 0.8, *[0.8015] * 4, 0.802, *[0.8035] * 5])
    np.testing.assert_allclose(falls, [1e-4] * 5 + [1e-5] * 11 + [1e-6], rtol=1e-12)


def test_training_stops_instead_of_a_rate_below_a_millionth():
    falls = rates([0.9] * 20, patience=2)
    np.testing.assert_allclose(falls[:8], [1e-4] * 2 + [1e-5] * 3 + [1e-6] * 3, rtol=1e-12)
    assert falls[8] is None
    assert rates([0.9] * 3, rate=9e-6, patience=2)[-1] is None


# Operations

CONVOLUTIONS = {  # input (n, h, w, c), kernel, geometry
    "depthwise": ((3, 9, 8, 6), (3, 3, 1, 6), Geometry(padding=((1, 1), (1, 1)), groups=6)),
    "depthwise, stride 2": ((2, 9, 12, 6), (5, 5, 1, 6), Geometry((2, 2), ((1, 2), (2, 2)), groups=6)),
    "1x1": ((3, 7, 5, 4), (1, 1, 4, 6), Geometry()),
    "1x1, stride 2": ((3, 7, 6, 4), (1, 1, 4, 6), Geometry(stride=(2, 2))),
    "3x3, stride 2": ((3, 9, 8, 4), (3, 3, 4, 5), Geometry((2, 2), ((1, 1), (0, 1)))),
    "7x7, stride 2": ((2, 16, 17, 3), (7, 7, 3, 4), Geometry((2, 2), ((3, 3), (3, 3)))),
    "groups": ((2, 6, 6, 4), (3, 3, 2, 6), Geometry(padding=((1, 1), (1, 1)), groups=2)),
}


@pytest.mark.extended
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_gradients_of_convolutions_are_xlas_own(case, x64, rng):
    shape, kernel_shape, geometry = case
    x, kernel = jnp.asarray(rng.standard_normal(shape)), jnp.asarray(rng.standard_normal(kernel_shape))
    y, transpose = jax.vjp(lambda x, kernel: native(x, kernel, geometry, "float32"), x, kernel)
    gradient = jnp.asarray(rng.standard_normal(y.shape))
    ours, our_transpose = jax.vjp(lambda x, kernel: trainable_conv(x, kernel, geometry, "float32", CPU), x, kernel)
    for found, wanted in zip((ours, *our_transpose(gradient)), (y, *transpose(gradient)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerances.F64_CONVOLUTION * float(abs(wanted).max()))
    to_kernel = kernel_gradient(x, gradient, 0 * kernel, geometry)  # its values do not matter
    np.testing.assert_array_equal(to_kernel, our_transpose(gradient)[1])


def test_batch_norm_is_pytorchs_in_training(x64, rng):
    """Output, gradients and running statistics through three batches; momentum 0.1 there is 0.9 here."""
    channels, epsilon = 5, 1e-3
    layer = torch.nn.BatchNorm2d(channels, epsilon, momentum=0.1).double().train()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rng.uniform(-1, 1, channels)))
        layer.bias.copy_(torch.tensor(rng.standard_normal(channels)))
    scale, bias = (jnp.asarray(tensor.detach().numpy()) for tensor in (layer.weight, layer.bias))
    mean, var = jnp.zeros(channels), jnp.ones(channels)
    for _ in range(3):
        y, gradient = (rng.standard_normal((2, 3, 4, channels)) * 2 + 1 for _ in range(2))

        def normalize(y, scale, bias, mean=mean, var=var):
            ops = Training(momentum=0.9)
            return ops.batch_norm(y, scale, bias, mean, var, epsilon, "bn"), ops.statistics["bn"]

        found, transpose, statistics = jax.vjp(normalize, jnp.asarray(y), scale, bias, has_aux=True)
        mean, var = statistics["mean"], statistics["var"]
        theirs = torch.tensor(y).permute(0, 3, 1, 2).requires_grad_()
        output = layer(theirs)
        layer.zero_grad()
        output.backward(torch.tensor(gradient).permute(0, 3, 1, 2))
        pairs = [
            (found, output.detach().permute(0, 2, 3, 1)),
            *zip(transpose(jnp.asarray(gradient)),
                 (theirs.grad.permute(0, 2, 3, 1), layer.weight.grad, layer.bias.grad), strict=True),
            (mean, layer.running_mean),
            (var, layer.running_var),
        ]  # fmt: skip
        for ours, wanted in pairs:
            np.testing.assert_allclose(ours, wanted.numpy(), rtol=0, atol=tolerances.F64_IDENTITY)


def test_relu_has_no_gradient_at_0_as_in_pytorch():
    assert jax.grad(lambda x: Training().relu(x, "relu"))(0.0) == 0


@pytest.mark.extended
def test_a_maximum_is_found_again_however_it_was_computed(x64):
    """Compiled, a batch norm fused into the pool is rounded otherwise than the one that the gradient looks at."""

    def backward(y, scale, bias, gradient):
        def pool(y, scale, bias):
            ops = Training()
            y = ops.relu(ops.batch_norm(y, scale, bias, bias, scale, 1e-5, "bn"), "relu")
            return ops.max_pool(y, (3, 3), Geometry((2, 2), ((1, 1), (1, 1))), "pool")

        return jax.vjp(pool, y, scale, bias)[1](gradient)

    compiled = jax.jit(backward)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y, gradient = (rng.standard_normal(shape) for shape in ((2, 8, 9, 8), (2, 4, 5, 8)))
        arguments = [jnp.asarray(array) for array in (y, rng.uniform(0.5, 1.5, 8), rng.standard_normal(8), gradient)]
        assert_trees_close(compiled(*arguments), backward(*arguments), tolerances.F64_IDENTITY)


def test_gate_gradients_are_those_of_the_product(x64, rng):
    x, gate, gradient = (jnp.asarray(rng.standard_normal(s)) for s in ((2, 3, 4, 5), (2, 1, 1, 5), (2, 3, 4, 5)))
    _, ours = jax.vjp(lambda x, gate: Training().gate(x, gate, "gate"), x, gate)
    _, wanted = jax.vjp(lambda x, gate: x * gate, x, gate)
    for found, value in zip(ours(gradient), wanted(gradient), strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=tolerances.F64_CONVOLUTION)


def test_dropout_zeroes_a_share_and_scales_the_rest():
    ops = Training(dropout=0.2, key=jax.random.key(1))
    x, kernel = jnp.ones((100, 200)), jnp.eye(200)
    y = ops.dense(x, kernel, None, "head")
    np.testing.assert_allclose(np.unique(y), [0, 1.25])
    assert abs(float((y == 0).mean()) - 0.2) < 0.015  # 20,000 draws: deviation 0.0028
    other = dataclasses.replace(ops, key=jax.random.key(2)).dense(x, kernel, None, "head")
    assert (np.asarray(y) != np.asarray(other)).any()


# A small network, against PyTorch


class Small(nn.Module):
    """Every kind of operation that the two networks have."""

    @nn.compact
    def __call__(self, x, ops=Plain(), tap=no_tap):
        x = BatchNorm(name="bn1")(Conv(8, 3, stride=2, padding=1, use_bias=False, name="conv1")(x, ops, tap), ops)
        x = ops.max_pool(ops.relu(x, "relu"), (3, 3), Geometry((2, 2), ((1, 1), (1, 1))), "pool")
        y = Conv(8, 3, padding=1, groups=8, use_bias=False, name="depthwise")(x, ops, tap)
        y = ops.silu(BatchNorm(name="bn2")(y, ops), "silu")
        gate = Conv(8, 1, is_site=False, name="gate")(ops.mean_pool(y, "squeeze")[:, None, None], ops, no_tap)
        x = ops.add(ops.gate(y, ops.sigmoid(gate, "sigmoid"), "excite"), x, "add")
        return Dense(1, name="head")(ops.mean_pool(x, "mean"), ops)


def small_model(dtype=jnp.float32) -> Model:
    module = Small()
    return Model(module, cases.random_variables(module, 3)).astype(dtype)


def small_batch(seed: int = 0, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 16, 18, 3)), np.arange(count) % 2.0


def with_params(model: Model, params) -> Model:
    return dataclasses.replace(model, variables={**model.variables, "params": params})


class SmallTorch:
    """The same in PyTorch."""

    def __init__(self, model: Model) -> None:
        leaves = jax.tree_util.tree_leaves_with_path(model.variables["params"])
        self.params = {
            tuple(key.key for key in path): torch.tensor(np.array(leaf)).requires_grad_() for path, leaf in leaves
        }
        self.stats = {
            name: [torch.tensor(np.array(stats[kind])) for kind in ("mean", "var")]
            for name, stats in model.variables["batch_stats"].items()
        }

    def conv(self, x: torch.Tensor, name: str, **options) -> torch.Tensor:
        return F.conv2d(x, self.params[name, "kernel"].permute(3, 2, 0, 1), self.params.get((name, "bias")), **options)

    def batch_norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        affine = self.params[name, "scale"], self.params[name, "bias"]
        return F.batch_norm(x, *self.stats[name], *affine, training=True, momentum=0.1, eps=1e-5)

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        x = torch.tensor(images).permute(0, 3, 1, 2)
        x = self.batch_norm(self.conv(x, "conv1", stride=2, padding=1), "bn1")
        x = F.max_pool2d(F.relu(x), 3, 2, 1)
        y = F.silu(self.batch_norm(self.conv(x, "depthwise", padding=1, groups=8), "bn2"))
        x = y * torch.sigmoid(self.conv(y.mean((2, 3), keepdim=True), "gate")) + x
        return x.mean((2, 3)) @ self.params["head", "kernel"] + self.params["head", "bias"]


def compiled_step(model: Model, recipe: Recipe, rate: float):
    """`train_step` as a function of (state, images, labels)."""
    step = jax.jit(functools.partial(training.train_step, dataclasses.replace(model, variables={}), recipe))
    kind = jax.tree.leaves(model.variables)[0].dtype
    return lambda state, images, labels: step(
        state, jnp.asarray(images, kind), jnp.asarray(labels, kind), jnp.asarray(rate, kind)
    )


def assert_trees_close(found, wanted, tolerance: float) -> None:
    """Every array, relative to the largest entry of the wanted one; what is 0 but for rounding counts as 0."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    zero = tolerances.F64_IDENTITY * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for (path, ours), theirs in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        theirs = np.asarray(theirs)
        limit = tolerance * float(np.abs(theirs).max()) + zero
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parity
def test_steps_are_those_of_pytorch_and_its_adam(x64):
    """Loss, weights and running statistics after each of four steps."""
    model = small_model(jnp.float64)
    twin, recipe, rate = SmallTorch(model), Recipe(batch_size=6), 1e-2
    optimizer = torch.optim.Adam(twin.params.values(), lr=rate, betas=(0.9, 0.999))
    step, state = compiled_step(model, recipe, rate), training.start(model)
    for seed in range(4):
        images, labels = small_batch(seed)
        state, loss, logits = step(state, images, labels)
        their_logits = twin(images)[:, 0]
        their_loss = F.binary_cross_entropy_with_logits(their_logits, torch.tensor(labels))
        optimizer.zero_grad()
        their_loss.backward()
        optimizer.step()
        np.testing.assert_allclose(float(loss), their_loss.item(), rtol=tolerances.TRAINING_STEPS)
        np.testing.assert_allclose(logits, their_logits.detach().numpy(), rtol=tolerances.TRAINING_STEPS)
        for (layer, name), tensor in twin.params.items():
            ours, theirs = state.params[layer][name], tensor.detach().numpy()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rate * tolerances.TRAINING_STEPS)
        for layer, statistics in twin.stats.items():
            for kind, tensor in zip(("mean", "var"), statistics, strict=True):
                np.testing.assert_allclose(
                    state.batch_stats[layer][kind], tensor.numpy(), rtol=tolerances.TRAINING_STEPS
                )
    assert int(state.step) == 4


@pytest.mark.extended
def test_two_devices_do_what_one_does(x64):
    """Batch norm statistics are those of the whole batch, wherever its parts lie."""
    model, recipe = small_model(jnp.float64), Recipe(batch_size=6, dropout=0.3)
    step = compiled_step(model, recipe, 1e-3)
    one = spread = training.start(model)
    spread = put_model(spread, 6)
    for seed in range(2):
        images, labels = (jnp.asarray(array) for array in small_batch(seed))
        assert len(put(images).sharding.device_set) == 2
        one, *_ = step(one, images, labels)
        spread, *_ = step(spread, put(images), put(labels))
    assert_trees_close(spread.params, one.params, tolerances.F64_PROGRAM)
    assert_trees_close(spread.batch_stats, one.batch_stats, tolerances.F64_PROGRAM)


@pytest.mark.extended
def test_mixed_precision_changes_the_gradient_by_bfloat16_rounding_only():
    model = small_model()
    images, labels = (jnp.asarray(array, jnp.float32) for array in small_batch(count=16))

    def gradient(precision: str):
        def loss(params):
            return training.training_pass(with_params(model, params), Training(precision), images, labels)

        gradients, (logits, statistics) = jax.jit(jax.grad(loss, has_aux=True))(model.variables["params"])
        assert {leaf.dtype for leaf in jax.tree.leaves((gradients, logits, statistics))} == {jnp.dtype("float32")}
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradients)])

    half, full = gradient("bfloat16"), gradient("float32")
    assert (half != full).any()
    assert np.linalg.norm(half - full) < tolerances.BFLOAT16_GRADIENT * np.linalg.norm(full)


def test_mixed_precision_keeps_weights_and_moments_in_float32():
    """Steps of 1e-5 would be lost in bfloat16, where weights around 0.1 are 5e-4 apart."""
    model = small_model()
    start = training.start(model)
    step, state = compiled_step(model, Recipe(batch_size=6, precision="bfloat16"), 1e-5), start
    for seed in range(3):
        state, *_ = step(state, *small_batch(seed))
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats, state.adam))} <= {
        jnp.dtype("float32"), jnp.dtype("int32")
    }  # fmt: skip
    before, after = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(s.params)]) for s in (start, state))
    large = np.abs(before) > 0.1
    moved = np.abs(after - before)[large]
    assert 0 < np.median(moved) < 4e-5


def test_dropout_differs_from_step_to_step_but_not_from_run_to_run():
    model, recipe = small_model(), Recipe(batch_size=6, dropout=0.5)
    images, labels = small_batch()
    step = compiled_step(model, recipe, 0.0)  # the weights stay
    state, first, _ = step(training.start(model), images, labels)
    _, second, _ = step(state, images, labels)
    _, again, _ = step(training.start(model), images, labels)
    assert first == again != second


# The two networks, against their PyTorch twins


@pytest.mark.slow
@pytest.mark.parametrize("network", [cases.RESNET50, cases.B0_SAME], ids=lambda network: network.name)
def test_gradients_and_statistics_of_the_networks_are_pytorchs(network, x64, rng):
    model = network.random_model().astype(jnp.float64)
    images, labels = rng.standard_normal((4, 64, 64, 3)), np.array([0.0, 1.0, 1.0, 0.0])
    ops = Training(momentum=training.batch_norm_momentum(model.card))

    def loss(params):
        return training.training_pass(with_params(model, params), ops, jnp.asarray(images), jnp.asarray(labels))

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (logits, statistics)), gradients = run(model.variables["params"])

    twin = twin_from_variables(network.random_model().variables, network.architecture, network.card().graph)
    twin = twin.double().train()
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.01 if network.padding == "same" else 0.1  # efficientnet_pytorch's own
    their_logits = twin(torch.tensor(images).permute(0, 3, 1, 2))[:, 0]
    their_loss = F.binary_cross_entropy_with_logits(their_logits, torch.tensor(labels))
    their_loss.backward()
    np.testing.assert_allclose(float(value), their_loss.item(), rtol=tolerances.TRAINING_NETWORK)
    np.testing.assert_allclose(logits, their_logits.detach().numpy(), rtol=tolerances.TRAINING_NETWORK)
    state_dict = {key: tensor.detach().numpy() for key, tensor in twin.state_dict().items()}
    assert_trees_close(statistics, to_flax(state_dict)[0]["batch_stats"], tolerances.TRAINING_NETWORK)
    state_dict |= {key: parameter.grad.numpy() for key, parameter in twin.named_parameters()}
    assert_trees_close(gradients, to_flax(state_dict)[0]["params"], tolerances.TRAINING_NETWORK)


# Where training starts from


@pytest.mark.extended
@pytest.mark.parametrize("architecture", ["resnet50", "efficientnet_b0"])
def test_from_scratch(architecture):
    """He's normal kernels (a depthwise one has its own channel only), identity batch norms, the same for a seed."""
    model, again, other = (training.from_scratch(architecture, seed) for seed in (0, 0, 1))
    assert checkpoint.digest(model.variables) == checkpoint.digest(again.variables)
    assert checkpoint.digest(model.variables) != checkpoint.digest(other.variables)
    params, stats = model.variables["params"], model.variables["batch_stats"]
    head = params[network_of(architecture).head]
    assert head["kernel"].shape[1] == 1
    assert abs(float(head["kernel"].std()) - 0.02) < 0.002
    for name, layer in params.items():
        if layer.get("kernel", head["kernel"]).size > 10_000:
            kernel = layer["kernel"]
            fan_out = kernel.shape[0] * kernel.shape[1] * (1 if kernel.shape[2] == 1 else kernel.shape[3])
            np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_out), rtol=0.05, err_msg=name)
        assert "scale" not in layer or bool((layer["scale"] == 1).all())
    assert all(bool((layer["mean"] == 0).all() and (layer["var"] == 1).all()) for layer in stats.values())
    assert model.card.high_means == "fake"
    assert "scratch" in model.card.source


@pytest.mark.extended
def test_the_head_of_an_imagenet_network_is_replaced():
    model = cases.B0_SAME.random_model(num_outputs=3)
    start = training.as_detector(model, seed=2)
    assert start.card.num_outputs == start.module.num_outputs == 1
    assert start.card.weights_sha256 == start.card.source_sha256 == ""
    assert start.variables["params"]["_fc"]["kernel"].shape == (1280, 1)
    assert (start.variables["params"]["_fc"]["bias"] == 0).all()
    body = [{k: v for k, v in m.variables["params"].items() if k != "_fc"} for m in (start, model)]
    assert checkpoint.digest(body[0]) == checkpoint.digest(body[1])
    assert jax.eval_shape(start, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)).shape == (1, 1)


@pytest.mark.parametrize("high_means", ["fake", "real"])
def test_a_detector_keeps_its_head_and_a_high_logit_means_fake(high_means):
    model = cases.B0_SAME.random_model()
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, high_means=high_means))
    start = training.as_detector(model)
    sign = 1 if high_means == "fake" else -1
    for name, array in model.variables["params"]["_fc"].items():
        np.testing.assert_array_equal(start.variables["params"]["_fc"][name], sign * array)
    assert start.card.high_means == "fake"


@pytest.mark.extended
def test_a_folded_model_is_refused():
    with pytest.raises(InputError, match="not folded"):
        training.as_detector(canonize(cases.B0_SAME.random_model()))


# Images


def labeled(folder: Path, count: int, side: int = 40, pattern: bool = False, generator: str = "g") -> Path:
    """`count` real images of smooth noise and as many fake ones, with a fine checkerboard on them if `pattern`."""
    checkerboard = 60 * (np.indices((side, side)).sum(0) % 2)[..., None] - 30
    for index in range(2 * count):
        smooth = resize(np.random.default_rng([index, 1]).integers(0, 256, (5, 5, 3), dtype=np.uint8), side)
        pixels = smooth.astype(int) + (checkerboard if pattern and index % 2 else 0)
        path = folder / generator / ("0_real", "1_fake")[index % 2] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return folder


def images_of(folder: Path, batch_size: int = BATCH, **changes) -> TrainingImages:
    augmentation = Augmentation(load_size=None, crop=SIDE, **changes)
    return TrainingImages(find_images([folder]), augmentation, Normalization(), batch_size, 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return labeled(tmp_path_factory.mktemp("images"), 10)


def test_an_epoch_is_the_same_however_often_and_from_wherever_it_is_read(folder):
    images = images_of(folder, 3)
    assert images.batches == 6
    epoch = list(images.epoch(1))
    assert [batch.shape for batch, _ in epoch] == [(3, SIDE, SIDE, 3)] * 6
    for start, threads in ((0, 1), (4, 3)):
        for ours, wanted in zip(
            dataclasses.replace(images, workers=threads).epoch(1, start), epoch[start:], strict=True
        ):
            np.testing.assert_array_equal(ours[0], wanted[0])
            np.testing.assert_array_equal(ours[1], wanted[1])
    assert any((a[0] != b[0]).any() for a, b in zip(epoch, images.epoch(2), strict=True))


def test_every_image_comes_at_most_once_an_epoch_with_its_label(folder):
    images = images_of(folder, 3, blur=0.0, jpeg=0.0, flip=0.0)
    plain = dataclasses.replace(images, augmentation=dataclasses.replace(images.augmentation, crop=40))
    first = {plain.image(0, index)[0].tobytes(): file for index, file in enumerate(plain.files)}
    assert len(first) == 20
    rows = ((row, label) for images, labels in plain.epoch(3) for row, label in zip(images, labels, strict=True))
    seen = [(first[row.tobytes()], label) for row, label in rows]
    assert len({file for file, _ in seen}) == len(seen) == 18
    assert all(file.label == label for file, label in seen)


def test_an_unreadable_image_is_replaced_by_the_next(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    images = images_of(copy, 3)
    before = [images.image(0, index) for index in range(20)]
    images.files[4].path.write_bytes(b"no image")
    after = [images.image(0, index) for index in range(20)]
    same = [np.array_equal(a[0], b[0]) for a, b in zip(after, before, strict=True)]
    assert same == [index != 4 for index in range(20)]
    assert after[4][1] == images.files[5].label
    for file in images.files:
        file.path.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of the training images"):
        next(images.epoch(0))


def test_split_takes_a_share_of_each_label_of_each_generator(tmp_path):
    labeled(tmp_path, 10, generator="a")
    labeled(tmp_path, 20, generator="b")
    files = find_images([tmp_path])
    rest, chosen = split(files, 0.2, seed=1)
    count = {(g, label): sum((f.generator, f.label) == (g, label) for f in chosen) for g in "ab" for label in (0, 1)}
    assert count == {("a", 0): 2, ("a", 1): 2, ("b", 0): 4, ("b", 1): 4}
    assert sorted((*rest, *chosen), key=lambda file: file.path) == list(files)
    assert split(files, 0.2, seed=1) == (rest, chosen) != split(files, 0.2, seed=2)


@pytest.mark.parametrize(
    ("count", "share", "chosen"), [(2, 0.1, 1), (4, 0.1, 1), (20, 0.1, 2), (2, 0.9, 1), (3, 0.99, 2)]
)
def test_split_of_few_images_leaves_some_on_both_sides(tmp_path, count, share, chosen):
    labeled(tmp_path, count)
    parts = split(find_images([tmp_path]), share)
    for label in (0, 1):
        assert [sum(file.label == label for file in part) for part in parts] == [count - chosen, chosen]


def test_split_of_too_few_images_says_what_to_do(tmp_path):
    labeled(tmp_path, 1)
    with pytest.raises(InputError, match=r"2 images are too few.*--validation DIR"):
        split(find_images([tmp_path]), 0.1)


def test_training_images_that_cannot_be_used_are_refused(folder):
    files = find_images([folder])
    with pytest.raises(InputError, match="20 training images do not fill a batch of 21"):
        images_of(folder, 21)
    with pytest.raises(InputError, match="no fake image among the 10 training images"):
        dataclasses.replace(images_of(folder), files=tuple(file for file in files if file.label == 0))
    with pytest.raises(InputError, match="1 of 21 training images have no label"):
        dataclasses.replace(images_of(folder), files=(*files, ImageFile(Path("x.png"))))


# Progress and states


def test_the_best_epoch_is_the_first_of_the_highest_accuracy_then_ap():
    progress = Progress(Plateau())
    for accuracy, ap in ((0.5, 0.5), (0.7, 0.6), (0.7, 0.8), (0.7, 0.8), (0.6, 0.9)):
        progress = progress.after_batch(2.0, 3).after_batch(1.0, 2)
        progress = progress.after_epoch(Validation(0.1, accuracy, ap, 0.5, 0.5), 4)
    assert [row.best for row in progress.history] == [True, True, True, False, False]
    assert progress.best.epoch == 3
    assert progress.history[0].loss == 1.5
    assert progress.history[0].accuracy == 5 / 8


def test_validation_by_hand():
    """Two real and two fake images; one of each on the wrong side."""
    probability = np.array([0.2, 0.6, 0.9, 0.4])
    logits = np.log(probability / (1 - probability))
    found = fit.validation_of(logits, np.array([0, 0, 1, 1]), cases.B0_SAME.random_model())
    assert found.accuracy == found.real == found.fake == 0.5
    np.testing.assert_allclose(found.loss, -np.log([0.8, 0.4, 0.9, 0.4]).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.ap, (1 / 1 + 2 / 3) / 2, rtol=1e-12)


def test_a_state_comes_back_bit_for_bit_and_alone(tmp_path):
    model = small_model()
    step = compiled_step(model, Recipe(batch_size=6), 1e-3)
    states, fresh = States(tmp_path / "states"), training.start(model)
    assert states.load(fresh) is None
    progress = Progress(Plateau(mark=0.1 + 0.2), batch=3, loss=1 / 3, history=(Epoch(1, *[0.1] * 8, True),))
    state = fresh
    for _ in range(2):
        state, *_ = step(state, *small_batch())
        states.save(state, progress)
    assert len(list((tmp_path / "states").iterdir())) == 1
    loaded, found = states.load(fresh)
    assert found == progress
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert checkpoint.digest(loaded) == checkpoint.digest(state)
    next((tmp_path / "states").glob("*/progress.json")).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        states.load(fresh)


# Whole trainings of EfficientNet-B0. The convention of torchvision: its running statistics settle in a few steps.


def start_model() -> Model:
    """Weights as at the beginning of a training, batch norms with a momentum of 0.9."""
    variables = training.from_scratch("efficientnet_b0").variables
    card = cases.B0_SYMMETRIC.card()
    return Model(cases.B0_SYMMETRIC.random_model().module, variables, card)


class Killed(Exception):
    """Stands in for whatever ends a process."""


def train_until(batches: int | None, folder: Path, data: Path) -> None:
    """Train for 2 epochs of 3 batches, or until so many batches of this call are done."""
    seen = 0

    def report(progress: Progress, waiting: str = "") -> None:
        nonlocal seen
        seen += progress.batch > 0
        if seen == batches:
            raise Killed

    folder.mkdir(exist_ok=True)
    recipe = Recipe(epochs=2, batch_size=BATCH, rate=1e-3, dropout=0.2)
    files = find_images([data])
    images = dataclasses.replace(images_of(data), files=files[4:30])
    fit.fit(start_model(), recipe, images, (*files[:4], *files[30:]), folder, report, save_seconds=0.0)


@pytest.mark.slow
def test_killed_and_resumed_is_not_killed(tmp_path, monkeypatch):
    """To the bit, with one epoch and a batch of the next saved, and a batch after that lost."""
    monkeypatch.setattr(fit, "SAVING_SHARE", float("inf"))
    data = labeled(tmp_path / "data", 17)
    train_until(None, tmp_path / "whole", data)
    with pytest.raises(Killed):
        train_until(5, tmp_path / "killed", data)
    (tmp_path / "killed" / ".checkpoint.tmp1").mkdir()
    train_until(None, tmp_path / "killed", data)
    for name in ("checkpoint", "last"):
        whole, killed = (checkpoint.load(tmp_path / run / name) for run in ("whole", "killed"))
        assert whole.card.weights_sha256 == killed.card.weights_sha256
    tables = [(tmp_path / run / "train.parquet").read_bytes() for run in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert (tmp_path / "killed" / "train.csv").read_bytes().count(b"\n") == 3
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        *("checkpoint", "last", "states", "train.csv", "train.parquet")
    }


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("init") / "checkpoint"
    checkpoint.save(start_model(), path)
    return path


@pytest.mark.slow
def test_three_epochs_learn_an_easy_difference(tmp_path, init):
    """A checkerboard of +-30 gray levels, through the command line; the weights come out as a PyTorch file."""
    data, validation = labeled(tmp_path / "data", 192, pattern=True), labeled(tmp_path / "other", 12, pattern=True)
    run = tmp_path / "run"
    options = ("--crop", SIDE, "--load-size", 0, "--batch-size", BATCH, "--rate", 3e-3, "--blur", 0.0, "--jpeg", 0.0)
    ended = done("train", data, "--validation", validation, "--init", init, "--out", run, "--epochs", 3, *options)
    history = read_table(run / "train").to_pylist()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = max(row["validation_accuracy"] for row in history)
    assert best >= 0.9
    assert f"{best:.1%}" in ended.out.splitlines()[-1]
    record = json.loads((run / "run.json").read_text())
    assert record["results"]["best"]["validation_accuracy"] == best
    assert record["results"]["weights_sha256"] == checkpoint.read_card(run / "checkpoint").weights_sha256
    assert {"checkpoint", "last", "train.csv", "curves.png", "curves.pdf"} <= {path.name for path in run.iterdir()}
    assert not (run / "states").exists()
    assert "is done already" in done("train", "--resume", run).out
    assert "was made with rate = 0.003, not 0.01" in refused("train", "--resume", run, "--rate", 0.01)
    assert "rank" not in refused("train", data, "--arch", "resnet50", "--out", run)
    done("convert", run / "checkpoint", tmp_path / "detector.pth", "--to", "torch")
    back = to_flax(read_state_dict(tmp_path / "detector.pth"))[0]
    assert checkpoint.digest(back) == record["results"]["weights_sha256"]


# Repeats


def test_the_spread_of_scores_by_hand():
    rows = [
        {"seed": seed, "generator": name, "num_real": 4, "num_fake": 6} | dict.fromkeys(repeats.MEASURED, value)
        for seed, values in enumerate([(0.5, 1.0), (0.7, 1.0), (0.9, 0.4)])
        for name, value in zip("ba", values, strict=True)
    ]
    first, second = repeats.spread_table(pa.Table.from_pylist(rows)).to_pylist()
    assert (first["generator"], first["repeats"], first["num_real"], first["num_fake"]) == ("b", 3, 4, 6)
    for name in repeats.MEASURED:
        found = [row[f"{name}_{of}"] for row in (first, second) for of in ("mean", "sd", "low", "high")]
        np.testing.assert_allclose(found, [0.7, 0.2, 0.5, 0.9, 0.8, np.sqrt(0.12), 0.4, 1.0], rtol=1e-12)
    alone = repeats.spread_table(pa.Table.from_pylist(rows[:1])).to_pylist()[0]
    assert alone["ap_mean"] == 0.5
    assert np.isnan(alone["ap_sd"])


@pytest.mark.extended
def test_repeats_are_refused_before_anything_is_written(folder, tmp_path):
    asked = ("train", folder, "--arch", "efficientnet_b0", "--out", tmp_path / "run", "--repeats", 2)
    assert "name those with --validation" in refused(*asked)
    assert "do not fill a batch of 64" in refused(*asked, "--validation", folder)
    assert not (tmp_path / "run").exists()
    ended = done(*asked, "--validation", folder, "--batch-size", 4, "--seed", 5, "--dry-run")
    assert all(f"seed-{seed}/train" in ended.out for seed in (5, 6))
    assert "score the 2 detectors" in ended.out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_repeats_are_single_trainings_and_go_on_where_they_were(folder, init, tmp_path):
    options = ("--init", init, "--epochs", 1, "--crop", SIDE, "--load-size", 0, "--batch-size", BATCH)
    given = ("train", folder, "--validation", folder, *options)
    done(*given, "--out", tmp_path / "run", "--repeats", 2, "--seed", 3)
    whole = (tmp_path / "run" / "repeats.parquet").read_bytes()
    done(*given, "--out", tmp_path / "one", "--seed", 4)
    shas = [
        checkpoint.read_card(path / "checkpoint").weights_sha256
        for path in (tmp_path / "one", *(tmp_path / "run" / f"seed-{seed}" / "train" for seed in (4, 3)))
    ]
    assert shas[0] == shas[1] != shas[2]
    scores = read_table(tmp_path / "run" / "seeds").to_pylist()
    assert [(row["seed"], row["generator"]) for row in scores] == [(3, "g"), (4, "g")]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for name in ("repeats.csv", "repeats.parquet", "seed-4"):  # as if it had been killed before the second seed
        delete(tmp_path / "run" / name)
    del record["results"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert "was made with repeats = 2, not 3" in refused("train", "--resume", tmp_path / "run", "--repeats", 3)
    assert "mean and standard deviation of 2 seeds" in done("train", "--resume", tmp_path / "run").out
    assert (tmp_path / "run" / "repeats.parquet").read_bytes() == whole


# The command line


@pytest.mark.extended
def test_the_command_says_what_is_missing(folder, tmp_path):
    out = ("--out", tmp_path / "run")
    start = ("--arch", "efficientnet_b0", *out)
    assert "give DATA and --out RUN" in refused("train")
    assert "give DATA and --out RUN" in refused("train", folder, "--arch", "resnet50")
    assert "--init, or from random weights with --arch" in refused("train", folder, *out)
    assert "--init, or from random weights with --arch" in refused("train", folder, *start, "--init", folder)
    assert "no such checkpoint" in refused("train", folder, "--init", tmp_path / "none", *out)
    assert "does nothing with --validation" in refused(
        "train", folder, *start, "--validation", folder, "--validation-share", 0.2
    )
    assert "40x40 pixels are smaller than --crop 48" in refused("train", folder, *start, "--load-size", 0, "--crop", 48)
    assert "cannot be cut" in refused("train", folder, *start, "--crop", 300)
    assert "do not fill a batch of 64" in refused("train", folder, *start)
    assert "leave --out and --overwrite away" in refused("train", "--resume", tmp_path, *out)
    save_image(tmp_path / "unlabeled" / "a.png", 0)
    assert "no label" in refused("train", tmp_path / "unlabeled", *start)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    assert "not written by tffjax" in refused("train", folder, *start)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_single_training_does_not_go_on_as_several(tmp_path):
    record = {
        "command": "train",
        "identity": {"arguments": {}},
        "paths": {"data": [], "validation": [], "weights": None},
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "was made with repeats = 1, not 3" in refused("train", "--resume", tmp_path, "--repeats", 3)


@pytest.mark.extended
def test_a_dry_run_changes_nothing(folder, init, tmp_path):
    ended = done("train", folder, "--init", init, "--out", tmp_path / "run", "--batch-size", 4, "--dry-run")
    assert "18 images (4 batches of 4 an epoch), validate on 2" in ended.out
    assert "with its own head" in ended.out
    assert not (tmp_path / "run").exists()

"""ProGAN: its layers, LRP against explicit matrices, conservation, the composite network, checkpoints."""

import dataclasses
import itertools
import json

import cases
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import tolerances
from small import SmallNet

import tffjax
from tffjax.errors import InputError
from tffjax.lrp import check_model
from tffjax.lrp.generated import INSIDE, detector_input, generated_relevance
from tffjax.nn import Model, checkpoint
from tffjax.nn.card import NORMALIZATIONS, Card
from tffjax.nn.generator import (
    Generator,
    GeneratorCard,
    draw_latents,
    generator_of,
    load_generator,
    pixels_of,
    save_generator,
)
from tffjax.nn.progan import ProGAN
from tffjax.nn.sites import sites_of

CARD = GeneratorCard(latent=3, widths=(3, 2, 2), name="small")


def random_generator(card: GeneratorCard = CARD, seed: int = 0, dtype=jnp.float32) -> Generator:
    """Weights of ordinary size, and biases that are not zero."""
    rng = np.random.default_rng(seed)

    def draw(leaf) -> np.ndarray:
        size = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.3
        return (size * rng.standard_normal(leaf.shape)).astype(np.float32)

    return generator_of(card, jax.tree.map(draw, card.shapes())).astype(dtype)


def small_detector(dtype=jnp.float32, normalization: str = "imagenet") -> Model:
    card = dataclasses.replace(cases.B0_SAME.card(), normalization=NORMALIZATIONS[normalization])
    return Model(SmallNet(outputs=1), cases.random_variables(SmallNet(outputs=1), seed=0), card).astype(dtype)


def latents_of(count: int = 3, card: GeneratorCard = CARD, dtype=jnp.float32) -> jax.Array:
    return jnp.asarray(draw_latents(0, range(count), card.latent), dtype)


# The network


def test_the_sites_of_the_bedroom_generator():
    """The sizes of the published one for 256 pixels, traced on shapes: 14 sites with 4,992 channels."""
    module = ProGAN((512, 512, 512, 512, 256, 128, 64))
    latent = jax.ShapeDtypeStruct((1, 1, 1, 512), jnp.float32)
    sites = sites_of(Model(module, jax.eval_shape(module.init, jax.random.key(0), latent)), (1, 1, 512))
    assert [site.name for site in sites[:4]] == ["4x4.dense", "4x4.conv", "8x8.conv0", "8x8.conv1"]
    assert sites[-1] == ("256x256.conv1", 64, 256, 256)
    assert (len(sites), sum(site.channels for site in sites)) == (14, 4992)
    assert sites[0].key(3) == "4x4.dense.#3(T=512)"


def test_every_size_has_twice_the_pixels_of_the_one_before():
    for scales, size in enumerate((4, 8, 16, 32, 64, 128, 256, 512, 1024), start=1):
        card = GeneratorCard(2, (1,) * scales)
        latent = jax.ShapeDtypeStruct((2, 1, 1, 2), jnp.float32)
        images, _ = jax.eval_shape(card.module.init_with_output, jax.random.key(0), latent)
        assert images.shape == (2, card.size, card.size, 3)
        assert card.size == size


# LRP, written slowly


def pixel_norm(x, epsilon=1e-8):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)


def leaky(x):
    return np.where(x >= 0, x, 0.2 * x)


class Slow:
    """The generator 4-8-16 by explicit matrices: every layer is one, and so is up-sampling."""

    def __init__(self, params, widths):
        self.steps, size = [], 1
        for scale in range(len(widths)):
            names = ("dense", "conv") if scale == 0 else ("conv0", "conv1")
            for place, name in enumerate(names):
                if scale and place == 0:
                    self.steps.append((None, self.up(size, widths[scale - 1]), None, size))
                    size *= 2
                own = f"{4 * 2**scale}x{4 * 2**scale}.{name}"
                kernel = np.asarray(params[own]["kernel"])
                if name == "dense":
                    matrix, _ = oracles.transposed_matrix((1, 1), kernel, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
                    size = 4
                else:
                    matrix, _ = oracles.convolution_matrix((size, size), kernel, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
                self.steps.append((own, matrix, np.asarray(params[own]["bias"]), size))
        self.rgb = oracles.convolution_matrix(
            (size, size), np.asarray(params["rgb"]["kernel"]), (1, 1), ((0, 0), (0, 0)), (1, 1), 1
        )[0]
        self.rgb_bias = np.asarray(params["rgb"]["bias"])

    @staticmethod
    def up(size, channels):
        matrix = np.zeros((2 * size, 2 * size, channels, size, size, channels))
        for y, x, c in np.ndindex(2 * size, 2 * size, channels):
            matrix[y, x, c, y // 2, x // 2, c] = 1
        return matrix.reshape(4 * size**2 * channels, size**2 * channels)

    def forward(self, z):
        x, self.inputs = pixel_norm(z), []
        for name, matrix, bias, size in self.steps:
            self.inputs.append(x.reshape(-1))
            y = matrix @ x.reshape(-1)
            if name is None:
                x = y.reshape(2 * size, 2 * size, -1)
            else:
                x = pixel_norm(leaky(y.reshape(size, size, -1) + bias))
        self.inputs.append(x.reshape(-1))
        return (self.rgb @ x.reshape(-1)).reshape(*x.shape[:2], 3) + self.rgb_bias

    def back(self, relevance):
        """Relevance at the output of every layer by name, and at the latent."""
        found = {}
        r = z_plus(self.rgb, self.inputs[-1], relevance.reshape(-1))
        for (name, matrix, _, _), x in zip(reversed(self.steps), reversed(self.inputs[:-1]), strict=True):
            if name is None:
                r = matrix.T @ r  # the sum of each square of four
            else:
                found[name] = r
                r = z_plus(matrix, x, r)
        return found, r


def z_plus(matrix, x, relevance):
    parts = np.maximum(matrix * x, 0)
    total = parts.sum(axis=1)
    share = np.divide(relevance, total, out=np.zeros_like(relevance), where=total > 0)
    return parts.T @ share


@pytest.mark.extended
@pytest.mark.usefixtures("x64")
def test_the_generator_against_explicit_matrices():
    generator = random_generator(dtype=jnp.float64)
    latents = latents_of(2, dtype=jnp.float64)
    slow = Slow(generator.model.variables["params"], CARD.widths)
    start = np.random.default_rng(4).standard_normal((2, 16, 16, 3))
    names = tuple(site.name for site in generator.sites)
    found = tffjax.relevance(
        generator.model, latents[:, None, None], target=jnp.asarray(start), composite=INSIDE, maps=names, sites=names
    )
    images = generator(latents)
    for row in range(2):
        np.testing.assert_allclose(images[row], slow.forward(np.asarray(latents[row])), rtol=0, atol=1e-12)
        expected, at_latent = slow.back(start[row])
        np.testing.assert_allclose(found.input[row].ravel(), at_latent, rtol=0, atol=1e-10)
        for name in names:
            own = expected[name].reshape(found.maps[name][row].shape)
            np.testing.assert_allclose(found.maps[name][row], own, rtol=0, atol=1e-10, err_msg=name)
            np.testing.assert_allclose(found.sites[name][row, 0], np.maximum(own, 0).sum((0, 1)), rtol=0, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_relevance_is_conserved_through_up_sampling_and_the_whole_generator():
    """Up-sampling, leaky ReLU and pixel norm hand on all; so do convolutions whose outputs all have a z+ part."""
    generator = random_generator(dtype=jnp.float64)
    latents = latents_of(4, dtype=jnp.float64)[:, None, None]
    start = jnp.asarray(np.random.default_rng(0).standard_normal((4, 16, 16, 3)))
    around = ("8x8.up", "4x4.conv.norm", "4x4.conv.lrelu")
    found = tffjax.relevance(generator.model, latents, target=start, composite=INSIDE, maps=around)
    sums = {name: np.asarray(found.maps[name].sum(axis=(1, 2, 3))) for name in around}
    for above, below in itertools.pairwise(around[:3]):
        np.testing.assert_allclose(sums[above], sums[below], rtol=0, atol=1e-12)
    squares = found.maps["8x8.up"].reshape(4, 4, 2, 4, 2, -1).sum(axis=(2, 4))
    np.testing.assert_allclose(found.maps["4x4.conv.norm"], squares, rtol=0, atol=1e-12)
    check = check_model(generator.model, latents, target=start, composite=INSIDE)
    assert check.ok, check.trouble
    assert check.outside < 1e-12
    assert all(abs(balance.entered - balance.left - balance.zero) < 1e-12 for balance in check.balances)


# The composite network


@pytest.mark.extended
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("normalization", ["imagenet", "caffe"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_composite_network_is_the_detector_then_the_generator(normalization, sign):
    generator, detector = random_generator(dtype=jnp.float64), small_detector(jnp.float64, normalization)
    latents = latents_of(3, dtype=jnp.float64)
    found = generated_relevance(detector, generator, latents, composite="beta0", sign=sign)
    images = generator(latents)
    assert (np.abs(images) > 1).any()  # so that the clamp is seen
    seen = detector_input(images, detector.card.normalization)
    alone = tffjax.relevance(detector, seen, composite="beta0", sign=sign)
    at_image = alone.input[..., ::-1] if normalization == "caffe" else alone.input
    np.testing.assert_allclose(found.logits, alone.logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.relevance, at_image, rtol=0, atol=1e-12)
    inside = tffjax.relevance(generator.model, latents[:, None, None], target=at_image, composite=INSIDE, sites=True)
    assert found.sites.keys() == inside.sites.keys()
    for name, sums in inside.sites.items():
        np.testing.assert_allclose(found.sites[name], sums, rtol=0, atol=1e-11)


@pytest.mark.extended
def test_a_prepared_pair_a_batch_and_single_images_give_the_same():
    generator, detector = random_generator(), small_detector()
    latents = latents_of(4)
    whole = generated_relevance(detector, generator, latents)
    prepared = dataclasses.replace(
        generator, model=tffjax.prepare(generator.model, INSIDE, size=generator.latent_shape)
    )
    again = generated_relevance(tffjax.prepare(detector, "beta0", size=(16, 16)), prepared, latents)
    single = [generated_relevance(detector, generator, latents[row : row + 1]) for row in range(4)]
    for name, sums in whole.sites.items():
        scale = np.abs(sums).max()
        rows = np.concatenate([one.sites[name] for one in single])
        np.testing.assert_allclose(again.sites[name], sums, rtol=0, atol=tolerances.F32_PROGRAM * scale)
        np.testing.assert_allclose(rows, sums, rtol=0, atol=tolerances.F32_PROGRAM * scale)


def test_the_detector_sees_saved_pixels_as_its_own_normalization_has_them():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = jnp.asarray(pixels / np.float32(127.5) - 1, jnp.float32)
    np.testing.assert_array_equal(pixels_of(images), pixels)
    expected = NORMALIZATIONS["imagenet"].table[np.arange(3), pixels]
    np.testing.assert_allclose(detector_input(images, NORMALIZATIONS["imagenet"]), expected, rtol=0, atol=1e-5)


# Checkpoints and latents


def test_a_checkpoint_comes_back(tmp_path):
    generator = random_generator()
    card = save_generator(generator, tmp_path / "g")
    loaded = load_generator(tmp_path / "g")
    assert loaded.card == card
    assert loaded.card.widths == CARD.widths
    np.testing.assert_array_equal(loaded(latents_of()), generator(latents_of()))
    with pytest.raises(InputError, match="exists already"):
        save_generator(generator, tmp_path / "g")


def test_generators_and_detectors_are_told_apart(tmp_path):
    save_generator(random_generator(), tmp_path / "g")
    with pytest.raises(InputError, match="this is a generator, and a detector is wanted"):
        checkpoint.load(tmp_path / "g")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "card.json").write_text(Card("resnet50", 1).to_json())
    with pytest.raises(InputError, match="this is a detector, and a generator is wanted"):
        load_generator(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "2.0"}, "format version 2.0"),
        ({"widths": [0]}, "damaged"),
        ({"more": 1}, "damaged"),
        (None, "damaged"),
    ],
)
def test_a_damaged_card(tmp_path, change, message):
    save_generator(random_generator(), tmp_path / "g")
    path = tmp_path / "g" / "card.json"
    path.write_text("[" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load_generator(tmp_path / "g")


def test_other_weights_than_the_card_says(tmp_path):
    save_generator(random_generator(), tmp_path / "g")
    path = tmp_path / "g" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latent": 4}))
    with pytest.raises(InputError, match="the weights are not a progan of 16 pixels"):
        load_generator(tmp_path / "g")


def test_a_latent_depends_on_its_seed_and_index_only():
    many = draw_latents(7, range(10), 5)
    np.testing.assert_array_equal(draw_latents(7, [3, 8], 5), many[[3, 8]])
    assert not np.array_equal(draw_latents(8, [3], 5), many[[3]])
    assert len({tuple(row) for row in many}) == 10

"""Generators of public PyTorch ports, converted and compared with their twins."""

from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from command import done, refused
from tffjax.conversion import progan, twin_progan
from tffjax.conversion.generator import read_generator
from tffjax.conversion.verify_generator import verify_generator
from torch import nn

from tffjax.errors import InputError
from tffjax.nn.generator import generator_of, load_generator, save_generator

WIDTHS = {8: (6, 4), 16: (6, 4, 3), 32: (6, 5, 4, 3)}
LATENT = 5


def blocks(layer, output, bias, **more):
    return lambda widths: twin_progan.Blocks(LATENT, widths, bias, (layer, output), **more)


def by_size(scales: int) -> str:
    return f"output_{2 * 2**scales}x{2 * 2**scales}"


PORTS = {
    "gandissect": blocks(lambda i: f"layer{i + 1}", by_size, "b"),
    "gandissect, old": blocks(lambda i: f"features.{i}", lambda scales: "output", "b"),
    "interfacegan, first": blocks(lambda i: f"layer{i + 1}", by_size, "bias"),
    "interfacegan": blocks(lambda i: f"layer{i}", lambda scales: f"output{scales - 1}", "bias", all_rgb=True),
    "interfacegan, fused": blocks(
        lambda i: f"layer{i}", lambda scales: f"output{scales - 1}", "bias", fused=True, all_rgb=True
    ),
    "genforce": lambda widths: twin_progan.Genforce(LATENT, widths),
    "genforce, fused": lambda widths: twin_progan.Genforce(LATENT, widths, fused=True),
    "gan-zoo": lambda widths: twin_progan.GanZoo(LATENT, widths),
    "akanimax": lambda widths: twin_progan.Akanimax(LATENT, widths),
}


def port(name: str, size: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return PORTS[name](WIDTHS[size]).double()


def arrays_of(net: nn.Module) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in net.state_dict().items()}


def latents(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, LATENT))


def by_torch(net: nn.Module, z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.tensor(z)).permute(0, 2, 3, 1).numpy()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("name", PORTS)
def test_a_converted_generator_makes_the_images_of_its_port(name, size):
    net = port(name, size)
    variables, card = progan.to_flax(arrays_of(net))
    assert (card.size, card.latent, card.widths) == (size, LATENT, WIDTHS[size])
    z = latents()
    expected = by_torch(net, z)
    with jax.disable_jit():
        images = generator_of(card, variables)(jnp.asarray(z))
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(by_torch(twin_progan.Plain(variables, card), z), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", PORTS)
def test_the_twin_of_a_file_is_found_by_its_keys(name):
    net = port(name)
    state_dict = {f"module.{key}": array for key, array in arrays_of(net).items() if key != "lod"}
    found = twin_progan.twin_of(state_dict)
    assert type(found) is type(net)
    np.testing.assert_array_equal(by_torch(found, latents()), by_torch(net, latents()))


def test_keys_of_gan_zoo_without_the_wrapper():
    arrays = arrays_of(port("gan-zoo"))
    short = {key.replace(".module.", "."): array for key, array in arrays.items()}
    assert short.keys() != arrays.keys()
    ours, theirs = (progan.to_flax(some)[0]["params"] for some in (short, arrays))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    twin_progan.twin_of(short)


def refusal(arrays) -> str:
    with pytest.raises(InputError) as error:
        progan.to_flax(arrays)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("from_rgb.0.0.weight", "a discriminator"),
        ("fromRGBLayers.0.weight", "a discriminator"),
        ("input0.weight", "a discriminator"),
        ("noise2feat.linear.weight_orig", "mmgeneration"),
        ("progression_4.0.conv.weight_orig", "rosinality"),
    ],
)
def test_other_networks_of_gans_are_refused_by_name(key, what):
    assert what in refusal({key: np.zeros(3)})


def test_what_else_is_refused():
    arrays = arrays_of(port("genforce"))
    assert "not the weights of a ProGAN of gandissect" in refusal({"conv1.weight": np.zeros(3)})
    assert "half-grown (lod 0.5)" in refusal({**arrays, "lod": np.array(0.5)})
    assert "missing keys (1): layer1.weight" in refusal({k: a for k, a in arrays.items() if k != "layer1.weight"})
    assert "the last scale is not whole: layer5" in refusal({**arrays, "layer4.bias": np.zeros(4)})
    assert "unexpected keys (1): more" in refusal({**arrays, "more": np.zeros(1)})
    assert "not finite (1): layer0.bias" in refusal({**arrays, "layer0.bias": np.full(6, np.nan)})
    assert "wrong shapes (1): layer1.weight" in refusal({**arrays, "layer1.weight": np.zeros((5, 6, 3, 3))})
    assert "colors" in refusal({**arrays, "output1.weight": np.zeros((1, 4, 1, 1))})
    one_width = arrays_of(twin_progan.Genforce(LATENT, (4, 4)))
    assert "do not tell whether up-sampling is fused" in refusal(one_width)
    conditional = arrays_of(twin_progan.Genforce(522, (6, 4)))
    assert "label-conditional" in refusal(conditional)


# Files and commands


def saved(tmp_path, payload):
    path = tmp_path / "generator.pth"
    torch.save(payload, path)
    return path


def float_tensors(net: nn.Module) -> dict[str, torch.Tensor]:
    return net.float().state_dict()


@pytest.mark.parametrize(
    "place",
    [
        lambda own, other: own,
        lambda own, other: {"state_dict": own},
        lambda own, other: {"generator": other, "generator_smooth": own},
        lambda own, other: {"shadow_generator": {"conf": {"use_eql": True}, "state_dict": own}, "generator": other},
    ],
    ids=["bare", "state_dict", "smooth", "shadow"],
)
def test_the_averaged_generator_of_a_file_is_taken(tmp_path, place):
    own = float_tensors(port("akanimax"))
    other = {key: torch.zeros_like(tensor) for key, tensor in own.items()}
    found = read_generator(saved(tmp_path, place(own, other)))
    expected, _ = progan.to_flax({key: tensor.numpy() for key, tensor in own.items()})
    jax.tree.map(np.testing.assert_array_equal, found.model.variables, expected)
    assert (found.card.name, found.card.source) == ("generator", "generator.pth")


def test_files_that_are_refused(tmp_path):
    own = float_tensors(port("akanimax"))
    unequalized = {"shadow_generator": {"conf": {"use_eql": False}, "state_dict": own}}
    with pytest.raises(InputError, match="without the equalized learning rate"):
        read_generator(saved(tmp_path, unequalized))
    zoo = {"config": Path("x"), "netG": own, "netD": own, "avgG": own}
    with pytest.raises(InputError, match=r"save the averaged generator alone: .*avgG"):
        read_generator(saved(tmp_path, zoo))
    with pytest.raises(InputError, match="could run code"):
        read_generator(saved(tmp_path, {"config": Path("x")}))
    assert read_generator(saved(tmp_path, {"conv1.weight": torch.zeros(1)})) is None


def test_convert_and_verify(tmp_path):
    source, out = saved(tmp_path, float_tensors(port("gandissect"))), tmp_path / "generator"
    assert "generator of 8 pixels" in done("convert", source, out).out
    generator = load_generator(out)
    assert generator.card.widths == WIDTHS[8]
    assert "makes the same images in JAX and PyTorch" in done("verify", out).out
    said = done("verify", source).out
    assert "image" in said
    assert "for a generator" in refused("verify", out, "--limit", "2", "--images", source)
    assert "for a generator" in refused("convert", source, tmp_path / "other", "--high-means", "real")


def test_verify_sees_another_generator(tmp_path):
    """A layout that is taken for another one: the same tensors, scaled otherwise."""
    variables, card = progan.to_flax(arrays_of(port("gan-zoo").float()))
    generator = generator_of(card, variables)
    save_generator(generator, tmp_path / "g")
    with mock.patch.object(twin_progan, "lrelu", torch.relu):
        assert not all(found.ok for found in verify_generator(tmp_path / "g"))
    assert all(found.ok for found in verify_generator(tmp_path / "g"))

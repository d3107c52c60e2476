"""The PyTorch twin against numbers worked by hand and against the golden outputs of the released code."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tffjax.conversion import names, twin, twin_lrp
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax
from torch.nn import functional as F

from tffjax.errors import InputError

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
EPSILON = float(np.float32(1e-6))  # the released code keeps its stabilizers in float32, in float64 runs too
NETWORKS = {"resnet50": 101, "efb0": 201}
SIZES = (224, 256, 356)


def golden(file: str) -> dict[str, np.ndarray]:
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here")
    with np.load(GOLDEN / file) as archive:
        return dict(archive)


def golden_images(size: int, count: int = 1) -> torch.Tensor:
    """The first `count` golden images, cropped and normalized in float32, as float64."""
    top = round((356 - size) / 2)
    pixels = golden("images.npz")["u8"][:count, top : top + size, top : top + size]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    x = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float64)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request) -> tuple[str, twin.Twin]:
    """Name of the golden folder, and the twin with the golden weights in float64."""
    calibration = golden(f"calib_{request.param}_{NETWORKS[request.param]}.npz")
    spec = importlib.util.spec_from_file_location("make_weights", GOLDEN / "make_weights.py")
    make_weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_weights)
    weights = make_weights.build(request.param, NETWORKS[request.param], calibration)
    variables, facts = to_flax(weights)
    return request.param, twin.twin_from_variables(
        variables, facts.architecture, assumed(facts.architecture, facts.convention)
    ).double()


def randomized(net: twin.Twin, seed: int = 0) -> twin.Twin:
    """Float64, with random BatchNorms whose scales are partly negative and partly zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(-0.5, 1.5, generator=generator)
                module.weight[::7] = 0
                module.bias.normal_(generator=generator)
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return net.double()


def random_images(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def make(architecture: str, padding: str, num_outputs: int = 3) -> twin.Twin:
    torch.manual_seed(0)
    if architecture == "resnet50":
        return randomized(twin.ResNet50(num_outputs))
    return randomized(twin.EfficientNetB0(num_outputs, padding, 1e-3 if padding == "same" else 1e-5))


CASES = [("resnet50", "symmetric"), ("efficientnet_b0", "same"), ("efficientnet_b0", "symmetric")]


# The network


@pytest.mark.parametrize(("architecture", "padding"), CASES)
def test_keys_and_shapes_are_those_of_the_libraries(architecture, padding):
    state_dict = make(architecture, padding).state_dict()
    wanted = names.tensor_shapes(architecture, "efficientnet_pytorch", 3)
    assert {key: tuple(tensor.shape) for key, tensor in state_dict.items()} == wanted
    assert list(state_dict) == list(wanted)


@pytest.mark.parametrize(
    ("padding", "expected"), [("same", [12, 11]), (4, [12, 11]), (3, [7, 15]), ("symmetric", [7, 15])]
)
def test_padding_of_a_strided_convolution_by_hand(padding, expected):
    # an even size: TensorFlow pads nothing before and 1 after, PyTorch 1 on both sides, as TensorFlow for 3 pixels
    conv = twin.Conv(1, 1, 3, stride=2, padding=padding).requires_grad_(False)
    conv.weight.fill_(0)
    conv.weight[0, 0, 1] = 1  # a horizontal sum
    row = torch.tensor([3.0, 4.0, 5.0, 6.0])
    y = conv(row.expand(1, 1, 4, 4))
    assert y[0, 0, 0].tolist() == expected


@pytest.mark.parametrize("size", [63, 64])
@pytest.mark.parametrize(("architecture", "padding"), CASES)
def test_site_outputs_halve_upwards(architecture, padding, size):
    logits, outputs = twin.site_outputs(make(architecture, padding), random_images(1, size))
    assert logits.shape == (1, 3)
    assert len(outputs) == {"resnet50": 53, "efficientnet_b0": 49}[architecture]
    assert next(iter(outputs.values())).shape[2:] == (32, 32)
    assert list(outputs.values())[-1].shape[2:] == (2, 2)


@pytest.mark.parametrize(("architecture", "padding"), CASES)
def test_canonize_is_the_identity_also_with_negative_and_zero_scales(architecture, padding):
    net, x = make(architecture, padding), random_images()
    folded = twin.canonize(net)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())


@pytest.mark.parity
@pytest.mark.parametrize("size", SIZES)
def test_golden_logits(network, size):
    name, net = network
    logits, x = golden(f"{name}/logits.npz"), golden_images(size)
    ordinary, outputs = twin.site_outputs(net, x)
    assert list(outputs) == golden(f"{name}/channels_224.npz")["layer_names"].tolist()
    with torch.no_grad():
        released = twin.canonize(net, keep_reset_bn=True)(x)
        exact = twin.canonize(net)(x)
    np.testing.assert_allclose(ordinary[0], logits[f"orig_f64_{size}"][:1], rtol=1e-9)
    np.testing.assert_allclose(released[0], logits[f"canon_f64_{size}"][:1], rtol=1e-9)
    np.testing.assert_allclose(exact[0], logits[f"orig_f64_{size}"][:1], rtol=1e-9)


# Relevance


def by_hand(rule, **parameters) -> list[float]:
    """What a 1x1 convolution with x = (1, -2, 2), w = (3, -1, -4), bias 4 makes of a relevance of 1."""
    conv = twin.Conv(3, 1, 1, bias=True).double().requires_grad_(False)
    conv.weight[:] = torch.tensor([3.0, -1, -4]).reshape(1, 3, 1, 1)
    conv.bias[:] = 4
    x = torch.tensor([1.0, -2, 2], dtype=torch.float64).reshape(1, 3, 1, 1)
    (relevance,) = rule(torch.ones(1, 1, 1, 1, dtype=torch.float64), conv(x), x, layer=conv, **parameters)
    return relevance.flatten().tolist()


@pytest.mark.parametrize(
    ("rule", "parameters", "expected"),
    [
        (twin_lrp.conv_beta, {"beta": 0.0}, [3 / 5, 2 / 5, 0]),  # positive contributions 3 and 2, negative one -8
        (twin_lrp.conv_beta, {"beta": 1.0}, [2 * 3 / 5, 2 * 2 / 5, -1]),
        (twin_lrp.conv_beta_adaptive, {}, [5.5 * 3 / 5, 5.5 * 2 / 5, -4.5]),  # -z- / y = 8 / 1, capped at 4.5
        (twin_lrp.affine_epsilon, {"epsilon": 0.5}, [3 / 1.5, 2 / 1.5, -8 / 1.5]),  # z = 3 + 2 - 8 + 4
        # z = -3 - (-3)(3) - 4(-1 - 4) = 26; contributions (1 + 3) 3, (-2 - 4)(-1), (2 - 4)(-4)
        (twin_lrp.conv_zb, {"bounds": (-3.0, 4.0), "epsilon": 0.0}, [12 / 26, 6 / 26, 8 / 26]),
    ],
)
def test_rules_by_hand(rule, parameters, expected):
    np.testing.assert_allclose(by_hand(rule, **parameters), expected, rtol=1e-14)


def test_sum_rule_by_hand():
    a, b = torch.tensor([[1.0, 2, 1, 0], [3, -4, -1, 0]], dtype=torch.float64)
    r_a, r_b = twin_lrp.sum_epsilon(torch.ones_like(a), a + b, a, b, epsilon=1.0)
    assert r_a.tolist() == pytest.approx([1 / 5, -2 / 3, 1, 0])  # a + b = 4, -2, 0, 0
    assert r_b.tolist() == pytest.approx([3 / 5, 4 / 3, -1, 0])


def test_no_relevance_where_nothing_contributes():
    conv = twin.Conv(2, 1, 1, bias=True).requires_grad_(False)
    x = torch.zeros(1, 2, 1, 1)
    for beta in (0.0, 1.0):
        assert twin_lrp.conv_beta(torch.ones(1, 1, 1, 1), conv(x), x, layer=conv, beta=beta)[0].tolist() == x.tolist()


def test_the_epsilon_composite_is_gradient_x_input_over_f_on_a_relu_network():
    net, x = make("resnet50", "symmetric"), random_images(1).requires_grad_()
    logits = net(x)
    (gradient,) = torch.autograd.grad(logits[0, 1], x)
    _, relevance, _ = twin_lrp.explain(net, x, "epsilon", output=1, epsilon=1e-14)
    expected = (x * gradient / logits[0, 1]).detach()
    torch.testing.assert_close(relevance, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parity
def test_composites_differ_only_where_they_should():
    net, x = make("resnet50", "symmetric"), random_images(1)
    _, box, sites = twin_lrp.explain(net, x, "beta0")
    _, plus, same_sites = twin_lrp.explain(net, x, "epsilon-plus")
    assert list(sites) == list(same_sites) == twin.sites(net)
    assert all(torch.equal(sites[site], same_sites[site]) for site in sites)
    assert not torch.allclose(box, plus)


@pytest.mark.parity
@pytest.mark.parametrize(("architecture", "padding"), CASES)
def test_sign_and_outputs(architecture, padding):
    net, x = make(architecture, padding), random_images()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    logits, relevance, _ = twin_lrp.explain(net, x, output=[2, 0])
    torch.testing.assert_close(logits, net(x).detach(), rtol=1e-11, atol=1e-11)
    for image, output in enumerate([2, 0]):
        _, alone, sites = twin_lrp.explain(net, x[image : image + 1], sign=-1, output=output)
        torch.testing.assert_close(alone[0], -relevance[image], rtol=1e-6, atol=1e-12)
        assert sites[twin.sites(net)[0]].shape[2:] == (32, 32)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_an_unknown_composite_is_refused():
    with pytest.raises(InputError, match="no composite 'zplus'; choose one of beta0, beta1"):
        twin_lrp.explain(twin.EfficientNetB0(1), torch.zeros(1, 3, 32, 32), "zplus")


def assert_equal_as_stored(ours: torch.Tensor, stored: np.ndarray) -> None:
    """Equal to an array that was computed in float64 and stored in float32."""
    np.testing.assert_allclose(ours, stored, rtol=1e-7, atol=1e-9 * np.abs(stored).max())


@pytest.mark.parity
@pytest.mark.parametrize("composite", ["beta0", "beta1", "beta-adaptive"])
def test_golden_relevance(network, composite):
    name, net = network
    stored = golden(f"{name}/relevance.npz") | golden(f"{name}/channels_224.npz")
    short = {"beta-adaptive": "betaada"}.get(composite, composite)
    if f"R_{short}_f64" not in stored:
        pytest.skip(f"no golden {composite} for {name}")
    _, relevance, sites = twin_lrp.explain(net, golden_images(224), composite, keep_reset_bn=True, epsilon=EPSILON)

    assert_equal_as_stored(relevance[0], stored[f"R_{short}_f64"][0])
    np.testing.assert_allclose(relevance.sum(), stored[f"R_{short}_sum_f64"][0], rtol=1e-9)
    np.testing.assert_allclose(relevance.abs().sum(), stored[f"R_{short}_abs_f64"][0], rtol=1e-9)
    suffix = "f64" if composite == "beta0" else f"{short}_f64"
    assert list(sites) == stored["layer_names"].tolist()
    np.testing.assert_allclose([r.abs().sum() for r in sites.values()], stored[f"layer_abs_{suffix}"][0], rtol=1e-9)
    np.testing.assert_allclose([r.sum() for r in sites.values()], stored[f"layer_net_{suffix}"][0], rtol=1e-9)
    if composite == "beta0":
        channels = torch.cat([r[0].clamp(min=0).sum((1, 2)) for r in sites.values()])
        assert_equal_as_stored(channels, stored["chan_pos_f64"][0])
        maps = [key for key in stored if key.startswith("map_f64__")]
        assert len(maps) == 3
        for key in maps:
            assert_equal_as_stored(sites[key.removeprefix("map_f64__")][0], stored[key])


def reached_by_ties(net: twin.Twin, x: torch.Tensor) -> torch.Tensor:
    """Pixels of one image, (H, W), that lie under a max-pool window of ResNet-50 with two equal positive maxima.

    Flat image regions make such ties exact on paper, so rounding picks the winner, and the relevance lands up to two
    rows or columns of conv1's output away: no two implementations need to agree there.
    """
    folded = twin.canonize(net, keep_reset_bn=True)
    with torch.no_grad():
        y = F.relu(folded.bn1(folded.conv1(x)))
    windows = F.unfold(F.pad(y, [1] * 4), 3, stride=2).reshape(y.shape[1], 9, -1)
    best = windows.max(1).values
    tied = ((windows >= (1 - 1e-12) * best[:, None]).sum(1) > 1) & (best > 0)
    side = round(tied.shape[1] ** 0.5)
    tied = tied.any(0).double().reshape(1, 1, side, side)
    reach = F.conv_transpose2d(tied, torch.ones(1, 1, 11, 11, dtype=x.dtype), stride=4)[0, 0, 5:, 5:]
    return reach[: x.shape[2], : x.shape[3]] > 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 356])
@pytest.mark.exhaustive
def test_golden_relevance_of_other_sizes(network, size):
    name, net = network
    x, stored = golden_images(size), golden(f"{name}/relevance.npz")
    _, relevance, sites = twin_lrp.explain(net, x, keep_reset_bn=True, epsilon=EPSILON)
    ours, theirs = relevance[0].sum(0), stored[f"R{size}_beta0_rgbsum_f64"][0]
    np.testing.assert_allclose(ours.sum(), stored[f"R{size}_beta0_sum_f64"][0], rtol=1e-9)
    layers = golden(f"{name}/channels_{size}.npz")["layer_abs_f64"][0]
    sums = [r.abs().sum() for r in sites.values()]
    np.testing.assert_allclose(sums[1:], layers[1:], rtol=1e-9)

    free = ~reached_by_ties(net, x) if name == "resnet50" else torch.ones_like(ours, dtype=torch.bool)
    assert free.all() or size == 356
    assert free.double().mean() > 0.5
    np.testing.assert_allclose(sums[0], layers[0], rtol=1e-9 if free.all() else 1e-7)
    np.testing.assert_allclose(ours[free], theirs[free.numpy()], rtol=1e-7, atol=1e-9 * np.abs(theirs).max())

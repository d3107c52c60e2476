"""tffjax's composites beside those of zennit and captum: the largest relative difference, as a Markdown table.

    python scripts/peers.py             docs/peers.md's table, in some ten minutes on two cores
    python scripts/peers.py --small     the two small networks only, in half a minute

Needs `pip install '.[benchmark]'` for zennit, and captum (`pip install captum`); a peer that is not there is left out.
All is float64, and every rule of a composite is translated with its own constants: the same stabilizers, the same
treatment of biases. A dash is a composite that the peer cannot express for the network.
"""

import argparse
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from gpu.contenders import stand_in_for_torchvision
from tffjax.conversion import twin
from tffjax.conversion.graphs import assumed
from tffjax.conversion.variables import to_flax

import tffjax
from tffjax.lrp import COMPOSITES, Composite, Rule, rule, rules
from tffjax.nn import Card, Conv, Dense, Geometry, Model, module_of, ops

TINY = 1e-300
"""Stabilizes a zero denominator, all contributions to which are zero, and changes no other."""

WITH_BIAS = {"bias": True, "epsilon": 1e-6}
VARIANTS = (
    COMPOSITES["epsilon-plus"].replace(name="epsilon-plus as zennit's", conv=rule(rules.z_plus, **WITH_BIAS)),
    COMPOSITES["epsilon-alpha2-beta1"].replace(
        name="epsilon-alpha2-beta1 as zennit's", conv=rule(rules.alpha_beta, **WITH_BIAS)
    ),
    COMPOSITES["epsilon-gamma-box"].replace(
        name="w^2 with bias, gamma 1", conv=rule(rules.gamma, gamma=1.0), first=rule(rules.w_square, **WITH_BIAS)
    ),
)


class Network(NamedTuple):
    """The same network twice, and images (n, h, w, 3) for it.

    Attributes:
        model: ours.
        torch: makes PyTorch's, canonized, given a class for residual sums.
        first: name of the convolution that reads the image.
    """

    title: str
    model: Model
    torch: Callable[[type[torch.nn.Module]], torch.nn.Module]
    first: str
    images: np.ndarray


# Small networks, written twice


class VGG(nn.Module):
    """Convolutions, max pools and dense layers."""

    @nn.compact
    def __call__(self, x: jax.Array, ops: ops.Plain = ops.Plain(), tap: ops.Tap = ops.no_tap) -> jax.Array:
        """Compute the logits."""
        for number, width in enumerate((16, 16, 32, 32), 1):
            x = ops.relu(Conv(width, 3, padding=1, name=f"conv{number}")(x, ops, tap), f"relu{number}")
            if number % 2 == 0:
                x = ops.max_pool(x, (2, 2), Geometry(stride=(2, 2)), f"pool{number}")
        x = ops.relu(Dense(24, name="hidden")(ops.mean_pool(x, "mean"), ops), "relu")
        return Dense(5, name="fc")(x, ops)


class TorchVGG(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, add: type[torch.nn.Module]) -> None:
        super().__init__()
        for number, (i, o) in enumerate(((3, 16), (16, 16), (16, 32), (32, 32)), 1):
            self.add_module(f"conv{number}", torch.nn.Conv2d(i, o, 3, padding=1))
            self.add_module(f"relu{number}", torch.nn.ReLU())
        self.pool2, self.pool4, self.mean = (*(torch.nn.MaxPool2d(2) for _ in range(2)), torch.nn.AdaptiveAvgPool2d(1))
        self.hidden, self.relu, self.fc = torch.nn.Linear(32, 24), torch.nn.ReLU(), torch.nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        x = self.pool2(self.relu2(self.conv2(self.relu1(self.conv1(x)))))
        x = self.pool4(self.relu4(self.conv4(self.relu3(self.conv3(x)))))
        return self.fc(self.relu(self.hidden(self.mean(x).flatten(1))))


class Residual(nn.Module):
    """Two residual blocks, one with a projection."""

    @nn.compact
    def __call__(self, x: jax.Array, ops: ops.Plain = ops.Plain(), tap: ops.Tap = ops.no_tap) -> jax.Array:
        """Compute the logits."""
        x = ops.relu(Conv(16, 3, stride=2, padding=1, name="stem")(x, ops, tap), "relu0")
        y = ops.relu(Conv(16, 3, padding=1, name="conv1")(x, ops, tap), "relu1")
        x = ops.relu(ops.add(Conv(16, 3, padding=1, name="conv2")(y, ops, tap), x, "sum1"), "relu2")
        y = ops.relu(Conv(32, 3, stride=2, padding=1, name="conv3")(x, ops, tap), "relu3")
        x = Conv(32, 1, stride=2, name="project")(x, ops, tap)
        x = ops.relu(ops.add(Conv(32, 3, padding=1, name="conv4")(y, ops, tap), x, "sum2"), "relu4")
        return Dense(5, name="fc")(ops.mean_pool(x, "mean"), ops)


class TorchResidual(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, add: type[torch.nn.Module]) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.conv1, self.conv2 = (torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.conv3, self.conv4 = torch.nn.Conv2d(16, 32, 3, 2, padding=1), torch.nn.Conv2d(32, 32, 3, padding=1)
        self.project, self.fc = torch.nn.Conv2d(16, 32, 1, stride=2), torch.nn.Linear(32, 5)
        self.relu0, self.relu1, self.relu2, self.relu3, self.relu4 = (torch.nn.ReLU() for _ in range(5))
        self.sum1, self.sum2, self.mean = add(), add(), torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        x = self.relu0(self.stem(x))
        x = self.relu2(self.sum1(self.conv2(self.relu1(self.conv1(x))), x))
        x = self.relu4(self.sum2(self.conv4(self.relu3(self.conv3(x))), self.project(x)))
        return self.fc(self.mean(x).flatten(1))


def small_network(title: str, module: nn.Module, torch_class: type[torch.nn.Module], first: str) -> Network:
    """Random weights and biases of ordinary size, the same in both."""
    torch.manual_seed(0)
    weights = {
        name: torch.randn(p.shape).double() * (0.2 if p.ndim == 1 else (2 / p[0].numel()) ** 0.5)
        for name, p in torch_class(twin.Sum).named_parameters()
    }
    params: dict[str, dict[str, jax.Array]] = {}
    for key, array in weights.items():
        layer, kind = key.rsplit(".", 1)
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
        params.setdefault(layer, {})["kernel" if kind == "weight" else "bias"] = jnp.asarray(
            array.permute(axes).numpy()
        )

    def made(add: type[torch.nn.Module]) -> torch.nn.Module:
        net = torch_class(add).double().eval()
        net.load_state_dict(weights)
        return net

    return Network(title, Model(module, {"params": params}), made, first, images(32))


def large_network(title: str, torch_class: type[twin.Twin], first: str) -> Network:
    """Random weights, batch norms calibrated on noise, so that activations keep an ordinary size."""
    torch.manual_seed(0)
    net = torch_class(1).train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        net(as_torch(images(64, count=8)).float())
    variables, facts = to_flax({name: array.numpy() for name, array in net.eval().state_dict().items()})
    card = Card(facts.architecture, facts.num_outputs, assumed(facts.architecture, facts.convention))
    model = Model(module_of(card), jax.tree.map(jnp.asarray, variables), card).astype("float64")

    def made(add: type[torch.nn.Module]) -> torch.nn.Module:
        return replaced(twin.canonize(net.double()), twin.Sum, add)

    return Network(title, model, made, first, images(64))


def networks(small: bool) -> Iterator[Network]:
    yield small_network("VGG-like", VGG(), TorchVGG, "conv1")
    yield small_network("residual", Residual(), TorchResidual, "stem")
    if not small:
        yield large_network("ResNet-50", twin.ResNet50, "conv1")
        yield large_network("EfficientNet-B0", twin.EfficientNetB0, "_conv_stem")


def images(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, size, size, 3))


def as_torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def replaced(net: torch.nn.Module, old: type[torch.nn.Module], new: type[torch.nn.Module]) -> torch.nn.Module:
    """The network with modules of another class; they have no parameters."""
    for name, module in list(net.named_modules()):
        if isinstance(module, old):
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, new())
    return net


# The peers


class Stacked(torch.nn.Module):
    """A residual sum as zennit knows it: over an axis of one array."""

    def __init__(self) -> None:
        from zennit.layer import Sum

        super().__init__()
        self.sum = Sum(dim=-1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Add."""
        return self.sum(torch.stack([a, b], dim=-1))


class HandingThrough(twin.Gate):
    """A gate whose gradient goes to the features, unchanged."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Scale."""
        return super().forward(x, gate).detach() + (x - x.detach())


def constants_of(found: Rule) -> dict[str, Any]:
    """All constants of a rule, defaults too."""
    known = inspect.signature(found.function).parameters.values()
    return {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY} | dict(found.parameters)


def zennit_rule(found: Rule | None) -> Any:
    """A rule of ours as zennit's with the same constants; None for the gradient.

    Raises:
        KeyError: zennit has no such rule.
    """
    from zennit import rules as theirs

    if found is None:
        return None
    constants = constants_of(found)
    how = {"stabilizer": constants.pop("epsilon", 0.0) or TINY}
    if not constants.pop("bias", True):
        how["zero_params"] = ["bias"]
    made = {
        rules.epsilon: lambda **how: theirs.Epsilon(how["stabilizer"]),
        rules.z_plus: theirs.ZPlus,
        rules.alpha_beta: theirs.AlphaBeta,
        rules.gamma: theirs.Gamma,
        rules.z_box: theirs.ZBox,
        rules.w_square: theirs.WSquare,
        rules.flat: theirs.Flat,
    }
    return made[found.function](**how, **constants)


def zennit(network: Network, composite: Composite, x: torch.Tensor) -> torch.Tensor:
    """Relevance by zennit.

    Raises:
        KeyError: zennit has no such composite.
    """
    from zennit import layer as layers
    from zennit import rules as theirs
    from zennit.attribution import Gradient
    from zennit.composites import NameMapComposite

    net = network.torch(Stacked)
    if composite.gate == "identity":
        net = replaced(net, twin.Gate, HandingThrough)
    if composite.activation in ("guided", "deconvnet") and any(isinstance(m, torch.nn.SiLU) for m in net.modules()):
        raise KeyError("zennit's are for ReLU")

    def hook(name: str, module: torch.nn.Module) -> Any:
        if isinstance(module, torch.nn.Conv2d):
            return zennit_rule((composite.first or composite.conv) if name == network.first else composite.conv)
        if isinstance(module, torch.nn.Linear):
            return zennit_rule(composite.dense)
        if isinstance(module, twin.AveragePool | torch.nn.AdaptiveAvgPool2d | layers.Sum):
            found = composite.add if isinstance(module, layers.Sum) else composite.average_pool
            return None if found is None else theirs.Norm(constants_of(found)["epsilon"])
        if isinstance(module, torch.nn.ReLU | torch.nn.SiLU):
            kinds = {"identity": theirs.Pass, "guided": theirs.ReLUGuidedBackprop, "deconvnet": theirs.ReLUDeconvNet}
            return kinds[composite.activation]() if composite.activation in kinds else None
        return None

    hooks = ((name, hook(name, module)) for name, module in net.named_modules())
    chosen = NameMapComposite([([name], found) for name, found in hooks if found is not None])
    with Gradient(model=net, composite=chosen) as attributor:
        start = torch.eye(net(x).shape[1], dtype=x.dtype)[[0] * len(x)]
        relevance = attributor(x.clone().requires_grad_(), start)[1]
    return relevance * x if composite.times_input else relevance


def captum(network: Network, composite: Composite, x: torch.Tensor) -> torch.Tensor:
    """Relevance by captum, which starts with the output's value, over that value.

    Raises:
        KeyError: captum has no such composite.
    """
    from captum import attr
    from captum.attr._utils import lrp_rules as theirs
    from captum.attr._utils.custom_modules import Addition_Module

    net, x = network.torch(Addition_Module), x.clone().requires_grad_()
    gradients = {"gradient": attr.InputXGradient, "guided": attr.GuidedBackprop, "deconvnet": attr.Deconvolution}
    if not composite.redistributes:
        return gradients[composite.activation](net).attribute(x, target=0).detach()

    def made(found: Rule) -> Any:
        constants = constants_of(found)
        if found.function is rules.epsilon:
            return theirs.EpsilonRule(constants["epsilon"])
        if found.function is not rules.z_plus or constants["bias"]:
            raise KeyError(found.name)
        z_plus = theirs.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        z_plus.STABILITY_FACTOR = constants["epsilon"] or TINY
        return z_plus

    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.rule = made((composite.first or composite.conv) if name == network.first else composite.conv)
        elif isinstance(module, torch.nn.Linear):
            module.rule = made(composite.dense)
        elif isinstance(module, torch.nn.AdaptiveAvgPool2d):
            module.rule = made(composite.average_pool)
        elif isinstance(module, Addition_Module):
            module.rule = made(composite.add)
        elif isinstance(module, torch.nn.MaxPool2d):
            module.rule = theirs.EpsilonRule(TINY)
    relevance = attr.LRP(net).attribute(x, target=0)
    return (relevance / net(x)[:, 0, None, None, None]).detach()


# Both


def difference(network: Network, composite: Composite, peer: Callable[..., torch.Tensor]) -> float | None:
    """max |ours - theirs| / max |theirs|; None where the peer has no such composite."""
    # captum's z+ takes all inputs for positive
    x = np.abs(network.images) if peer is captum else network.images
    try:
        theirs = peer(network, composite, as_torch(x)).numpy().transpose(0, 2, 3, 1)
    except KeyError:
        return None
    ours = np.asarray(tffjax.relevance(network.model, jnp.asarray(x), target=0, composite=composite).input)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def compared(small: bool) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Title of each column and its differences by composite."""
    for network in networks(small):
        for peer in (zennit, captum):
            is_here = importlib.util.find_spec(peer.__name__) is not None
            if is_here and (peer is zennit or network.title in ("VGG-like", "residual")):
                column = functools.partial(difference, network, peer=peer)
                composites = (*COMPOSITES.values(), *VARIANTS)
                yield f"{peer.__name__}, {network.title}", {c.name: column(c) for c in composites}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the two small networks only")
    small = parser.parse_args().small
    jax.config.update("jax_enable_x64", True)
    stand_in_for_torchvision()
    columns = {}
    for title, column in compared(small):
        columns[title] = column
        print(f"{title}: done", file=sys.stderr)
    print(f"| composite | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for name in next(iter(columns.values()), {}):
        cells = ("-" if column[name] is None else f"{column[name]:.0e}" for column in columns.values())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

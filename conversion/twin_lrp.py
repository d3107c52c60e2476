"""Layer-wise relevance propagation (LRP) in the PyTorch twin, written to be compared with, not to be fast.

The forward pass of the canonized network is the ordinary one. Every module with a rule hands its output on through an
autograd function whose backward pass is the rule, so that differentiating the network *is* the explanation.

Notation: x is a layer's input, R the relevance at its output, x+ = max(x, 0), x- = min(x, 0), and

    sdiv(a, z; e0, e) = a / (z + e0 * [z == 0] + e * sign(z)).

Sources: Bach et al. 2015 (epsilon and alpha-beta), Montavon et al. 2019 (zB, which rule where), Chandrasegaran et al.
2022 (the composite beta0) with its released code (the stabilizers and the adaptive beta).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from tffjax.conversion.twin import AveragePool, Conv, Gate, Sum, Twin, canonize, sites
from torch import nn

from tffjax.errors import InputError
from tffjax.nn.card import Normalization

Part = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]
Rule = Callable[..., tuple[torch.Tensor, ...]]

COMPOSITES = ("beta0", "beta1", "beta-adaptive", "epsilon", "epsilon-plus")
BETA_MAX = 4.5


def explain(
    net: Twin,
    x: torch.Tensor,
    composite: str = "beta0",
    sign: int = 1,
    output: int | Sequence[int] = 0,
    keep_reset_bn: bool = False,
    bounds: tuple[float, float] = Normalization().bounds,
    epsilon: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Explain one logit of every image by LRP.

    Dense layers, the average pool and residual sums follow the epsilon rule, max pools give all to the winner (their
    ordinary gradient), activations pass relevance on, squeeze-excite products give all to the features. Convolutions:

    | composite | convolutions | first convolution of a ResNet |
    |---|---|---|
    | `beta0` | beta rule, beta = 0 | zB |
    | `beta1` | beta rule, beta = 1 | zB |
    | `beta-adaptive` | beta rule, a beta for every output | zB |
    | `epsilon` | epsilon rule | epsilon rule |
    | `epsilon-plus` | beta rule, beta = 0 | beta rule, beta = 0 |

    Args:
        net: a twin with its BatchNorms; a canonized copy is explained.
        x: images, (N, 3, H, W), in the precision of `net`.
        composite: a name from the table.
        sign: 1 to explain f, -1 to explain -f. The relevance at the logit is this number, not the logit.
        output: which logit, for all images or one for each.
        keep_reset_bn: as in `twin.canonize`, for comparison with the released code.
        bounds: smallest and largest value of the input, L and H of the zB rule; the default is that of ImageNet's mean
            and standard deviation.
        epsilon: the stabilizer of the epsilon and zB rules.

    Returns:
        logits: (N, outputs), of the canonized network.
        relevance: of the input, (N, 3, H, W).
        relevances: site -> relevance at the output of that convolution, (N, C, h, w); in module order.

    Raises:
        InputError: no such composite.
    """
    net, relevances = with_rules(net, composite, keep_reset_bn, bounds, epsilon)
    x = x.detach().clone().requires_grad_()
    logits = net(x)
    index = torch.as_tensor(output, device=x.device).expand(len(x))[:, None]
    (relevance,) = torch.autograd.grad(sign * logits.gather(1, index).sum(), x)
    return logits.detach(), relevance, {site: relevances[site] for site in sites(net)}


def explain_maximum(
    net: Twin, x: torch.Tensor, site: str, channel: int, position: tuple[int, int] | None = None
) -> torch.Tensor:
    """Explain the largest activation of a channel, one image at a time as the released code does (SPEC 5).

    Args:
        net: from `with_rules`.
        x: one image, (1, 3, H, W).
        site: a convolution.
        channel: of its output.
        position: explain the activation at this row and column instead. Where pixels repeat, many are the largest but
            for rounding, and each network takes another.

    Returns:
        Relevance of the input, (1, 3, H, W); zero if the activation is <= 0.
    """
    kept: list[torch.Tensor] = []
    hook = net.get_submodule(site).register_forward_hook(lambda module, inputs, output: kept.append(output))
    x = x.detach().clone().requires_grad_()
    net(x)
    hook.remove()
    activations = kept[0][0, channel]
    largest = activations.max() if position is None else activations[position]
    return torch.autograd.grad(largest, x)[0] if largest > 0 else torch.zeros_like(x)


def with_rules(
    net: Twin,
    composite: str = "beta0",
    keep_reset_bn: bool = False,
    bounds: tuple[float, float] = Normalization().bounds,
    epsilon: float = 1e-6,
) -> tuple[Twin, dict[str, torch.Tensor]]:
    """A canonized copy of the network whose backward pass is LRP; arguments as of `explain`.

    Returns:
        The network, and a dictionary that receives the relevance at every site in each backward pass.
    """
    if composite not in COMPOSITES:
        raise InputError(f"there is no composite {composite!r}; choose one of {', '.join(COMPOSITES)}")
    net = canonize(net, keep_reset_bn)  # a copy: the hooks go with it
    relevances: dict[str, torch.Tensor] = {}
    for site in sites(net):
        first = site == "conv1"  # only ResNets have a site of that name
        rule = _conv_rule(net.get_submodule(site), composite, first, bounds, epsilon)
        net.get_submodule(site).register_forward_hook(partial(_hand_on, partial(_record, rule, site, relevances)))
    for module in net.modules():
        if rule := _rule(module, epsilon):
            module.register_forward_hook(partial(_hand_on, rule))
    return net, relevances


class Redistribute(torch.autograd.Function):
    """A layer's output on the way forward, a rule on the way back.

    A rule takes the relevance at the output, the output, and the inputs; it returns the relevance of each input.
    """

    @staticmethod
    def forward(ctx, rule: Rule, output: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """Pass `output` on unchanged."""
        ctx.rule = rule
        ctx.save_for_backward(output, *inputs)
        return output.clone()

    @staticmethod
    def backward(ctx, relevance: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Redistribute the relevance of the output over the inputs."""
        return None, None, *ctx.rule(relevance, *ctx.saved_tensors)


def sdiv(a: torch.Tensor, z: torch.Tensor, at_zero: float, epsilon: float) -> torch.Tensor:
    """a / (z + at_zero * [z == 0] + epsilon * sign(z)), with sign(0) = 0."""
    return a / (z + at_zero * (z == 0) + epsilon * torch.sign(z))


def redistribute(relevance: torch.Tensor, parts: Sequence[Part], at_zero: float, epsilon: float) -> list[torch.Tensor]:
    """The step that all rules share: relevance in proportion to contributions.

    For inputs x_i and (affine) maps f_i: z = sum_i f_i(x_i); S = sdiv(R, z; at_zero, epsilon); R_i = x_i * f_i^T(S).
    """
    inputs = [x.detach().requires_grad_() for x, _ in parts]
    with torch.enable_grad():
        z = sum(f(x) for x, (_, f) in zip(inputs, parts, strict=True))
    gradients = torch.autograd.grad(z, inputs, sdiv(relevance, z.detach(), at_zero, epsilon))
    return [x.detach() * gradient for x, gradient in zip(inputs, gradients, strict=True)]


def affine_epsilon(
    relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, *, layer: nn.Module, epsilon: float
) -> tuple[torch.Tensor]:
    """Epsilon rule of a dense, convolution or average-pool layer (Bach et al. 2015, eq. 58), its bias included.

    z = f(x), and R_in = x * f^T(sdiv(R, z; epsilon, epsilon)).
    """
    return (redistribute(relevance, [(x, layer.forward)], epsilon, epsilon)[0],)


def sum_epsilon(
    relevance: torch.Tensor, output: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, epsilon: float
) -> tuple[torch.Tensor, ...]:
    """Epsilon rule of the residual sum: S = sdiv(R, a + b; epsilon, epsilon); R_a = a * S, R_b = b * S."""
    same = torch.Tensor.clone
    return tuple(redistribute(relevance, [(a, same), (b, same)], epsilon, epsilon))


def conv_beta(
    relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, *, layer: Conv, beta: float
) -> tuple[torch.Tensor]:
    """Beta rule of a convolution (Bach et al. 2015, eq. 60): R_in = (1 + beta) * R+ - beta * R-, without bias.

    R+ redistributes over the positive contributions, z = conv(x+, w+) + conv(x-, w-), and R- over the negative ones,
    z = conv(x-, w+) + conv(x+, w-). beta = 0 is the z+ rule, the paper's.
    """
    positive = _positive(relevance, x, layer)
    if beta == 0:
        return (positive,)
    return ((1 + beta) * positive - beta * _negative(relevance, x, layer, at_zero=-1e-12),)


def conv_beta_adaptive(
    relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, *, layer: Conv
) -> tuple[torch.Tensor]:
    """Beta rule with a beta for every output: R_in = R+(R * (1 + beta)) - R-(R * beta).

    beta = min(-z- / y, 4.5) where the output y (bias included) is positive, else 0; z- = conv(x-, w+) + conv(x+, w-).
    """
    negative = sum(f(part) for part, f in _halves(x, layer, inverted=True))
    beta = torch.where(output > 0, (-negative / output).clamp(max=BETA_MAX), 0)
    positive = _positive(relevance * (1 + beta), x, layer)
    return (positive - _negative(relevance * beta, x, layer, at_zero=1e-12),)


def conv_zb(
    relevance: torch.Tensor,
    output: torch.Tensor,
    x: torch.Tensor,
    *,
    layer: Conv,
    bounds: tuple[float, float],
    epsilon: float,
) -> tuple[torch.Tensor]:
    """Box rule zB of the first convolution (Montavon et al. 2019): inputs lie between L and H, without bias.

    z = conv(x, w) - conv(L, w+) - conv(H, w-); S = sdiv(R, z; epsilon, epsilon);
    R_in = x * conv^T(S, w) - L * conv^T(S, w+) - H * conv^T(S, w-). L, H: constant images, zero-padded as x.
    """
    low, high = (torch.full_like(x, bound) for bound in bounds)
    parts: list[Part] = [
        (x, lambda t: layer.convolve(t, layer.weight)),
        (low, lambda t: -layer.convolve(t, layer.weight.clamp(min=0))),
        (high, lambda t: -layer.convolve(t, layer.weight.clamp(max=0))),
    ]
    return (sum(redistribute(relevance, parts, epsilon, epsilon)),)


def identity(relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor]:
    """All relevance stays where it is: activations and a reset BatchNorm."""
    return (relevance,)


def gate(
    relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, gate: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """Squeeze-excite product: all relevance to x, none to the gate."""
    return relevance, None


def _halves(x: torch.Tensor, layer: Conv, inverted: bool) -> list[Part]:
    """The contributions of one sign: x+ with w+ and x- with w-, or, inverted, x- with w+ and x+ with w-."""
    w_positive, w_negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    if inverted:
        w_positive, w_negative = w_negative, w_positive
    return [
        (x.clamp(min=0), partial(layer.convolve, weight=w_positive)),
        (x.clamp(max=0), partial(layer.convolve, weight=w_negative)),
    ]


def _positive(relevance: torch.Tensor, x: torch.Tensor, layer: Conv) -> torch.Tensor:
    return sum(redistribute(relevance, _halves(x, layer, inverted=False), 1e-12, 0.0))


def _negative(relevance: torch.Tensor, x: torch.Tensor, layer: Conv, at_zero: float) -> torch.Tensor:
    return sum(redistribute(relevance, _halves(x, layer, inverted=True), at_zero, 0.0))


def _conv_rule(layer: Conv, composite: str, first: bool, bounds: tuple[float, float], epsilon: float) -> Rule:
    if composite == "epsilon":
        return partial(affine_epsilon, layer=layer, epsilon=epsilon)
    if first and composite != "epsilon-plus":
        return partial(conv_zb, layer=layer, bounds=bounds, epsilon=epsilon)
    if composite == "beta-adaptive":
        return partial(conv_beta_adaptive, layer=layer)
    return partial(conv_beta, layer=layer, beta=1.0 if composite == "beta1" else 0.0)


def _rule(module: nn.Module, epsilon: float) -> Rule | None:
    match module:
        case nn.Linear() | AveragePool():
            return partial(affine_epsilon, layer=module, epsilon=epsilon)
        case Sum():
            return partial(sum_epsilon, epsilon=epsilon)
        case Gate():
            return gate
        case nn.ReLU() | nn.SiLU() | nn.BatchNorm2d():
            return identity
        case _:
            return None


def _hand_on(rule: Rule, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return Redistribute.apply(rule, output.detach(), *inputs)


def _record(
    rule: Rule, site: str, relevances: dict[str, torch.Tensor], relevance: torch.Tensor, *tensors: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    relevances[site] = relevance
    return rule(relevance, *tensors)

"""Composites: which rule for which kind of layer.

A composite is immutable and hashable. Make your own from a preset in one line:

    BETA0.replace(conv=rule(rules.gamma, gamma=0.1))          by kind
    BETA0.replace(first=None)                                 the first convolution like the others
    BETA0.at("layer4.*", rule(rules.epsilon))                 by name, shell patterns allowed
    BETA0.at(first_layers(3), rule(rules.flat))               by place
    BETA0.at(last_layer, rule(rules.z_plus))

The composites named after the paper are Chandrasegaran et al. 2022's; `docs/peers.md` compares the others with those of
other tools.
"""

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable
from typing import Any

from tffjax.errors import InputError
from tffjax.lrp import redistribution, rules
from tffjax.lrp.redistribution import Linear
from tffjax.nn.card import Normalization
from tffjax.nn.graph import Layer
from tffjax.nn.model import Model, record_of
from tffjax.nn.names import layer_of, near


@dataclasses.dataclass(frozen=True, repr=False)
class Rule:
    """A function of `tffjax.lrp.rules`, or your own with the same signature, with its constants; `rule` makes one."""

    function: Callable[..., tuple[Any, ...]]
    parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no function, constants that it does not take, that are missing, not hashable or senseless."""
        if not callable(self.function):
            raise InputError(
                f"{self.function!r} is not a function of a layer and relevance: rule(rules.gamma, gamma=0.1)"
            )
        known = inspect.signature(self.function).parameters.values()
        constants = {p.name: p for p in known if p.kind is p.KEYWORD_ONLY}
        given = dict(self.parameters)
        takes = f"it takes {', '.join(constants)}" if constants else "it takes none"
        if wrong := [name for name in given if name not in constants]:
            raise InputError(f"the rule {self.name} has no constant {wrong[0]!r}; {takes}")
        if missing := [name for name, p in constants.items() if p.default is p.empty and name not in given]:
            raise InputError(f"the rule {self.name} needs {missing[0]!r}; {takes}")
        for name, value in given.items():
            try:
                hash(value)
            except TypeError:
                raise InputError(f"{name} of the rule {self.name} must be hashable: a tuple, not a list") from None
        getattr(self.function, "check", lambda **constants: None)(**given)

    def prepare(self, layer: Linear) -> tuple[Any, ...]:
        """What the rule makes of the weights of a layer, whose input and output need not be known yet."""
        made = getattr(self.function, "prepare", lambda layer, **constants: ())(layer, **dict(self.parameters))
        is_kernel = [array is not None and array.ndim > 1 for array in made]  # the others are biases
        return tuple(layer.map.prepare(a) if prepare else a for a, prepare in zip(made, is_kernel, strict=True))

    def __call__(self, layer: Any, *arrays: Any) -> tuple[Any, ...]:
        """Apply the rule: the relevance at each input, then what was lost."""
        if isinstance(layer, Linear) and layer.kernels is None:
            layer = layer._replace(kernels=self.prepare(layer))
        return self.function(layer, *arrays, **dict(self.parameters))

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers that it is for."""
        return redistribution.kinds_of(self.function)

    def __str__(self) -> str:
        return self.name + "".join(f" {name}={_short(value)}" for name, value in self.parameters)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.parameters)})"


def rule(function: Callable[..., tuple[Any, ...]], **parameters: Any) -> Rule:
    """A rule with constants, e.g. `rule(rules.epsilon, epsilon=0.01)`.

    Raises:
        InputError: a constant is unknown, missing, not hashable or makes no sense.
    """
    return Rule(function, tuple(sorted(parameters.items())))


Where = str | Callable[[Layer], bool]
"""A shell pattern for names, or a function that says of a layer whether it is meant; hashable."""


@dataclasses.dataclass(frozen=True)
class FirstLayers:
    """Says of a layer whether it is one of the first `count`; `first_layers` makes one."""

    count: int

    def __call__(self, layer: Layer) -> bool:
        """Whether it is."""
        return 1 <= layer.number <= self.count


def first_layers(count: int) -> FirstLayers:
    """For `Composite.at`: the first layers with weights, in the order in which the network computes them.

    Raises:
        InputError: `count` is not positive.
    """
    if count < 1:
        raise InputError(f"first_layers({count}) is no layer; count from 1")
    return FirstLayers(count)


def last_layer(layer: Layer) -> bool:
    """For `Composite.at`: the last layer with weights, in the order in which the network computes them."""
    return layer.last


@dataclasses.dataclass(frozen=True, repr=False)
class Composite:
    """Which rule for which kind of layer. `None` is the ordinary gradient.

    Max pools always give everything to the winner, and what only moves values (nearest up-sampling, concatenation,
    flattening) hands each output's relevance to its source: both are their gradients.

    Attributes:
        name: for people.
        conv: rule of convolutions, transposed ones too.
        dense: rule of dense layers.
        average_pool: rule of average pools and of bilinear up-sampling.
        first: rule of the convolution that reads the image; None takes `conv`'s.
        add: rule of residual sums.
        activation: `identity` hands relevance through; `gradient`; `guided` is the gradient where input and relevance
            are positive (guided backpropagation); `deconvnet` hands max(relevance, 0) through, whatever the input.
            Norms hand it through, or take the gradient.
        gate: `identity` gives everything to the features and nothing to the gate of squeeze-excite; `gradient`.
        times_input: multiply by the input at the end, and by a site's output at each site (gradient x input).
        overrides: (where, rule) pairs, the last one that means a layer and fits its kind wins. A shell pattern matches
            all uses of a layer, and `name@2` the second only.
    """

    name: str
    conv: Rule | None = None
    first: Rule | None = None
    dense: Rule | None = None
    average_pool: Rule | None = None
    add: Rule | None = None
    activation: str = "identity"
    gate: str = "identity"
    times_input: bool = False
    overrides: tuple[tuple[Where, Rule], ...] = ()

    def __post_init__(self) -> None:
        """Refuse rules that do not fit their kind, and unknown words."""
        for field, kind in _KINDS.items():
            found = getattr(self, field)
            if found is None:
                continue
            _check_rule(found, f"{self.name}: {field}")
            if kind not in found.kinds:
                raise InputError(
                    f"{self.name}: the rule {found.name} is not for {field} layers, but for {', '.join(found.kinds)}; "
                    f"for {kind} there are {', '.join(_rules_for(kind))}"
                )
        for where, found in self.overrides:
            _check_rule(found, f"{self.name}: an override")
            if not isinstance(where, str) and not callable(where):
                raise InputError(f"{self.name}: {where!r} says of no layer whether it is meant; see Composite.at")
        for field, words in _WORDS.items():
            if getattr(self, field) not in words:
                raise InputError(
                    f"{self.name}: there is no {field} {getattr(self, field)!r}; choose one of {', '.join(words)}"
                )

    def __repr__(self) -> str:
        said = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)[1:]]
        defaults = [field.default for field in dataclasses.fields(self)[1:]]
        changed = [f"{n}={value!r}" for (n, value), default in zip(said, defaults, strict=True) if value != default]
        return f"Composite({', '.join([repr(self.name), *changed])})"

    def replace(self, **changes: Any) -> "Composite":
        """A variant with other rules."""
        return dataclasses.replace(self, **{"name": f"{self.name}, changed", **changes})

    def at(self, where: Where, rule: Rule) -> "Composite":
        """A variant with another rule for some layers, if it is for their kind.

        Args:
            where: a shell pattern for names, `first_layers(n)`, `last_layer`, or a function of one's own of a `Layer`.
            rule: for them.
        """
        return self.replace(overrides=(*self.overrides, (where, rule)))

    @property
    def redistributes(self) -> bool:
        """Whether any layer has a rule; else it is a kind of gradient."""
        return any(getattr(self, field) is not None for field in _KINDS) or bool(self.overrides)

    @property
    def linear(self) -> bool:
        """Whether explanations are linear in the relevance that starts, if its rules are."""
        return self.activation in ("identity", "gradient")

    def rule_of(self, layer: Layer) -> Rule | str | None:
        """The rule that a layer gets, a word for those whose rule cannot be chosen; None is the gradient."""
        if layer.kind in ("activation", "gate"):
            return getattr(self, layer.kind)
        if layer.kind in _NORMS:
            return "identity" if self.activation == "identity" else "gradient"
        if layer.kind in _MOVES:
            return _MOVES[layer.kind]
        matching = [rule for where, rule in self.overrides if _reaches(where, rule, layer)]
        if matching:
            return matching[-1]
        return self.first if layer.first and self.first is not None else getattr(self, field_of(layer))

    def unreached(self, layers: tuple[Layer, ...]) -> tuple[str, ...]:
        """The overrides that are for none of these layers, each in a line that says why."""
        return tuple(
            f"at({where!r}, {rule!r}) reaches no layer: {_why_not(where, rule, layers)}"
            for where, rule in self.overrides
            if not any(_reaches(where, rule, layer) for layer in layers)
        )

    def table(self, layers: tuple[Layer, ...]) -> str:
        """`site | layer kind | rule | parameters`, a line for each layer and for each override that reaches none."""
        rows = [("site", "layer kind", "rule", "parameters")]
        for layer in layers:
            found = self.rule_of(layer)
            name, parameters = (found.name, found.parameters) if isinstance(found, Rule) else (found or "gradient", ())
            rows.append((layer.name, layer.kind, name, ", ".join(f"{k}={_short(v)}" for k, v in parameters)))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [" | ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
        return "\n".join([*lines, *self.unreached(layers)])


_KINDS = {"conv": "conv", "first": "conv", "dense": "dense", "average_pool": "average_pool", "add": "add"}
_MOVES = {
    "max_pool": "winner takes all",
    **dict.fromkeys(("upsample_nearest", "concatenate", "flatten"), "to its source"),
}
_NORMS = ("pixel_norm", "layer_norm", "group_norm")
_LIKE = {"conv_transpose": "conv", "upsample_bilinear": "average_pool", **dict.fromkeys(_NORMS, "activation")}
_WORDS = {"activation": ("identity", "gradient", "guided", "deconvnet"), "gate": ("identity", "gradient")}


def field_of(layer: Layer) -> str:
    """The field of a composite that says what a layer does."""
    return _LIKE.get(layer.kind, layer.kind)


def _reaches(where: Where, rule: Rule, layer: Layer) -> bool:
    return field_of(layer) in rule.kinds and _means(where, layer)


def _means(where: Where, layer: Layer) -> bool:
    if not isinstance(where, str):
        return where(layer)
    return any(fnmatch.fnmatchcase(name, where) for name in (layer.name, layer_of(layer.name)))


def _why_not(where: Where, rule: Rule, layers: tuple[Layer, ...]) -> str:
    if meant := [f"{layer.name}, {layer.kind}" for layer in layers if _means(where, layer)]:
        return f"{rule.name} is for {', '.join(rule.kinds)}, not for {meant[0]}"
    return near(where, [layer.name for layer in layers]) if isinstance(where, str) else "it means none of them"


def _check_rule(found: Any, where: str) -> None:
    if not isinstance(found, Rule):
        raise InputError(f"{where}: {found!r} is not a rule; make one with rule(function, constants...)")


def _rules_for(kind: str) -> list[str]:
    presets = (
        rules.epsilon,
        rules.z_plus,
        rules.alpha_beta,
        rules.beta_adaptive,
        rules.z_box,
        rules.gamma,
        rules.w_square,
        rules.flat,
    )
    return [preset.__name__ for preset in presets if kind in redistribution.kinds_of(preset)]


_EPSILON, _Z_PLUS, _FLAT = rule(rules.epsilon), rule(rules.z_plus), rule(rules.flat)
_ALPHA2_BETA1 = rule(rules.alpha_beta, alpha=2.0, beta=1.0)
_EPSILON_ELSEWHERE = {"dense": _EPSILON, "average_pool": _EPSILON, "add": _EPSILON}
_LOW, _HIGH = Normalization().bounds
_BOX = rule(rules.z_box, low=_LOW, high=_HIGH)

BETA0 = Composite("beta0", conv=_Z_PLUS, first=_BOX, **_EPSILON_ELSEWHERE)
BETA1 = Composite("beta1", conv=_ALPHA2_BETA1, first=_BOX, **_EPSILON_ELSEWHERE)
BETA_ADAPTIVE = Composite("beta-adaptive", conv=rule(rules.beta_adaptive), first=_BOX, **_EPSILON_ELSEWHERE)
EPSILON = Composite("epsilon", conv=_EPSILON, **_EPSILON_ELSEWHERE)
EPSILON_PLUS = Composite("epsilon-plus", conv=_Z_PLUS, **_EPSILON_ELSEWHERE)
EPSILON_PLUS_FLAT = EPSILON_PLUS.replace(name="epsilon-plus-flat", first=_FLAT)
EPSILON_ALPHA2_BETA1 = EPSILON_PLUS.replace(name="epsilon-alpha2-beta1", conv=_ALPHA2_BETA1)
EPSILON_ALPHA2_BETA1_FLAT = EPSILON_ALPHA2_BETA1.replace(name="epsilon-alpha2-beta1-flat", first=_FLAT)
EPSILON_GAMMA_BOX = Composite("epsilon-gamma-box", conv=rule(rules.gamma), first=_BOX, **_EPSILON_ELSEWHERE)
EXCITATION_BACKPROP = EPSILON_PLUS.replace(name="excitation-backprop", dense=_Z_PLUS)
GRADIENT_X_INPUT = Composite("gradient-x-input", activation="gradient", gate="gradient", times_input=True)
GUIDED_BACKPROP = Composite("guided-backprop", activation="guided", gate="gradient")
DECONVNET = Composite("deconvnet", activation="deconvnet", gate="gradient")

COMPOSITES = {
    composite.name: composite
    for composite in (
        BETA0,
        BETA1,
        BETA_ADAPTIVE,
        EPSILON,
        EPSILON_PLUS,
        EPSILON_PLUS_FLAT,
        EPSILON_ALPHA2_BETA1,
        EPSILON_ALPHA2_BETA1_FLAT,
        EPSILON_GAMMA_BOX,
        EXCITATION_BACKPROP,
        GRADIENT_X_INPUT,
        GUIDED_BACKPROP,
        DECONVNET,
    )
}


def composite_of(name: str, model: Model) -> Composite:
    """A preset by name, as it applies to a network.

    The box of the zB rule takes the bounds of the network's normalization. The paper's composites (beta0, beta1,
    beta-adaptive) use zB on networks whose record says so (ResNets); on others the first convolution is like the rest.

    Raises:
        InputError: there is no such composite.
    """
    if name not in COMPOSITES:
        raise InputError(f"there is no composite {name!r}; choose one of {', '.join(COMPOSITES)}")
    composite = COMPOSITES[name]
    if composite.first != _BOX:
        return composite
    network = record_of(model)
    if name.startswith("beta") and (network is None or network.first_rule is None):
        return dataclasses.replace(composite, first=None)
    if model.card is None:
        return composite
    low, high = model.card.normalization.bounds
    return dataclasses.replace(composite, first=rule(rules.z_box, low=low, high=high))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

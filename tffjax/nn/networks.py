"""Networks as records: all that the product knows of a network by the name that a card gives it.

A network of your own is one record, `register(Network(...))`, or an entry point of the group `tffjax.networks`: its
name is the network's, its object a `Network` or a function of nothing that returns one. It is imported when a card
first names it.
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Iterable
from typing import Any, Literal

import flax.linen as nn

from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.nn.efficientnet import EfficientNet
from tffjax.nn.graph_options import GraphOptions
from tffjax.nn.resnet import ResNet

GROUP = "tffjax.networks"

_OF_A_CHECKPOINT = ("num_outputs", "epsilon", "batch_norm")  # of modules: differ from weights to weights


@dataclasses.dataclass(frozen=True)
class Network:
    """What is known of a network.

    Attributes:
        name: the `architecture` of cards.
        constructor: of the linen module that a card describes, as trained (batch norms not folded). The module's
            `__call__` takes `(images, ops, tap)`.
        head: name of the dense layer that gives the outputs.
        conventions: graph options of the libraries that publish its weights; the first one is that of training from
            scratch.
        options: names of graph options in which its weights may differ from all conventions.
        cam_layer: whose output Grad-CAM takes: a convolution or an activation.
        first_rule: what the paper's composites (beta0, beta1, beta-adaptive) do with the convolution that reads the
            image: `z_box`, or None to treat it like the others.
        paper_k: how many top channels the paper takes; None for a network that is not in the paper.
        paper_ks: the numbers of channels of the paper's dropout curve.
        published: the detector's name in the published tables.
        dropout: of the pooled features in training.
        image_size: height and width of images that it takes, the only ones for a network with a dense layer behind
            `flatten`: layers are traced at it where no images are at hand.
    """

    name: str
    constructor: Callable[[Card], nn.Module]
    head: str
    conventions: tuple[GraphOptions, ...] = (GraphOptions(),)
    options: tuple[str, ...] = ("epsilon",)
    cam_layer: str | None = None
    first_rule: Literal["z_box"] | None = None
    paper_k: int | None = None
    paper_ks: tuple[int, ...] = ()
    published: str | None = None
    dropout: float = 0.0
    image_size: tuple[int, int] = (64, 64)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.name or not self.conventions or not 0 <= self.dropout < 1:
            raise InputError("a network needs a name, at least one convention, and a dropout of at least 0 and below 1")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise InputError(f"image_size is (height, width), not {self.image_size}")

    def module(self, card: Card) -> nn.Module:
        """The module that a card describes.

        Raises:
            InputError: the card has a graph option that this network does not know.
        """
        for field in dataclasses.fields(GraphOptions):
            value = getattr(card.graph, field.name)
            known = {getattr(convention, field.name) for convention in self.conventions}
            if field.name not in self.options and value not in known:
                raise InputError(f"{self.name} has no {field.name.replace('_', ' ')} {value}")
        return self.constructor(card)

    def makes(self, module: nn.Module) -> bool:
        """Whether a module is this network, whatever its outputs, convention and state of batch norms."""
        try:
            own = self.constructor(Card(self.name, 1, self.conventions[0]))
        except Exception:  # a user's, which may want another card: it says so when a card names the network
            return False
        if type(own) is not type(module):
            return False
        fields = {field.name for field in dataclasses.fields(module)}
        free = {*_OF_A_CHECKPOINT, *self.options, "padding"} & fields
        return own.clone(**{name: getattr(module, name) for name in free}) == module


_BASIC = ("epsilon", "stem_stride", "pool_stride", "pool_padding", "ceil_mode")
_BOTTLENECK = (*_BASIC, "stride_in", "dilated_stages")


def _resnet(name: str, block: Literal["basic", "bottleneck"], stages: tuple[int, ...], **of_the_paper: Any) -> Network:
    names = _BASIC if block == "basic" else _BOTTLENECK

    def constructor(card: Card) -> nn.Module:
        options = {name: getattr(card.graph, name) for name in names}
        return ResNet(block, stages, num_outputs=card.num_outputs, **options)

    cam_layer = f"layer4.{stages[-1] - 1}.relu{2 if block == 'basic' else 3}"
    return Network(name, constructor, "fc", options=names, cam_layer=cam_layer, first_rule="z_box", **of_the_paper)


def _efficientnet(
    name: str, width: float, depth: float, dropout: float, torchvision_epsilon: float = 1e-5, **of_the_paper: Any
) -> Network:
    def constructor(card: Card) -> nn.Module:
        return EfficientNet(width, depth, card.num_outputs, card.graph.padding, card.graph.epsilon)

    conventions = (GraphOptions("same", 1e-3), GraphOptions("symmetric", torchvision_epsilon))
    options = ("padding", "epsilon")
    return Network(
        name, constructor, "_fc", conventions, options, cam_layer="_conv_head", dropout=dropout, **of_the_paper
    )


_BUILT_IN = (
    _resnet("resnet18", "basic", (2, 2, 2, 2)),
    _resnet("resnet34", "basic", (3, 4, 6, 3)),
    _resnet("resnet50", "bottleneck", (3, 4, 6, 3), paper_k=114, paper_ks=(29, 57, 114, 228), published="ResNet-50"),
    _resnet("resnet101", "bottleneck", (3, 4, 23, 3)),
    _resnet("resnet152", "bottleneck", (3, 8, 36, 3)),
    _efficientnet("efficientnet_b0", 1.0, 1.0, 0.2, paper_k=27, paper_ks=(5, 27, 49), published="EfficientNet-B0"),
    _efficientnet("efficientnet_b1", 1.0, 1.1, 0.2),
    _efficientnet("efficientnet_b2", 1.1, 1.2, 0.3),
    _efficientnet("efficientnet_b3", 1.2, 1.4, 0.3),
    _efficientnet("efficientnet_b4", 1.4, 1.8, 0.4),
    _efficientnet("efficientnet_b5", 1.6, 2.2, 0.4, torchvision_epsilon=1e-3),
    _efficientnet("efficientnet_b6", 1.8, 2.6, 0.5, torchvision_epsilon=1e-3),
    _efficientnet("efficientnet_b7", 2.0, 3.1, 0.5, torchvision_epsilon=1e-3),
)
_known = {network.name: network for network in _BUILT_IN}


def register(network: Network) -> None:
    """Make a network known to this program. One that was registered under the same name before is replaced.

    Raises:
        InputError: it has the name of a network of tffjax.
    """
    if network.name in {built_in.name for built_in in _BUILT_IN}:
        raise InputError(f"{network.name} is a network of tffjax; give yours another name")
    _known[network.name] = network


@functools.cache
def installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    """The networks that other packages announce."""
    return tuple(importlib.metadata.entry_points(group=GROUP))


def names(entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]] = installed) -> tuple[str, ...]:
    """All known names: tffjax's own, those registered, those of other packages. Imports none of them."""
    return tuple(dict.fromkeys((*_known, *(point.name for point in entry_points()))))


def network_of(
    card_or_name: Card | str, entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]] = installed
) -> Network:
    """The record of the network that a card describes, or that has a name.

    Args:
        card_or_name: a card, or its `architecture`.
        entry_points: of other packages; asked only for a name that is not tffjax's own and not registered.

    Raises:
        InputError: there is no such network, or the package that announces it does not deliver it.
    """
    name = card_or_name.architecture if isinstance(card_or_name, Card) else card_or_name
    if name in _known:
        return _known[name]
    point = next((point for point in entry_points() if point.name == name), None)
    if point is None:
        raise InputError(f"there is no network {name!r}; known are {', '.join(names(entry_points))}")
    return _loaded(point)


def network_making(module: nn.Module) -> Network | None:
    """The record of the network that a module is, for models without a card; None where there is none.

    Entry points are not asked: a module at hand says nothing about which packages to import.
    """
    return next((network for network in _known.values() if network.makes(module)), None)


def _loaded(point: importlib.metadata.EntryPoint) -> Network:
    try:
        found: Any = point.load()
        network = found() if callable(found) else found
    except Exception as error:  # whatever the other package does
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"the network {point.name!r} of {point.value} cannot be loaded ({reason})") from error
    if not isinstance(network, Network) or network.name != point.name:
        raise InputError(f"{point.value} is announced as the network {point.name!r}, but it is not that record")
    return network

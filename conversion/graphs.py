"""Graphs under the names of the libraries and papers that use them, and which of them the keys of a file allow."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from tffjax.conversion import names

from tffjax.errors import InputError
from tffjax.nn.graph_options import GraphOptions


class Preset(NamedTuple):
    """A graph by name: of which networks, what it is, its options, and the conventions of keys that have it."""

    name: str
    family: str  # resnet or efficientnet
    about: str
    options: GraphOptions
    conventions: tuple[names.Convention, ...]


PRESETS = (
    Preset("cnndetection", "resnet", "v1.5, as Wang et al. 2020 and torchvision", GraphOptions(), ("torchvision",)),
    Preset("torchvision", "resnet", "v1.5", GraphOptions(), ("torchvision",)),
    Preset("timm", "resnet", "v1.5", GraphOptions(), ("torchvision",)),
    Preset(
        "grip-nodown",
        "resnet",
        "no down-sampling in the stem, as Gragnaniello et al. 2021",
        GraphOptions(stem_stride=1, pool_stride=1),
        ("torchvision",),
    ),
    Preset(
        "resnet-v1",
        "resnet",
        "stride in the first 1x1 convolution, as He et al. 2016, Caffe, Keras",
        GraphOptions(stride_in="1x1"),
        ("torchvision",),
    ),
    Preset(
        "efficientnet-pytorch",
        "efficientnet",
        '"same" padding from the input',
        GraphOptions("same", 1e-3),
        ("efficientnet_pytorch",),
    ),
    Preset(
        "efficientnet-pytorch-224",
        "efficientnet",
        "padding as for 224 pixels, whatever comes in: the library's default for B0",
        GraphOptions(224, 1e-3),
        ("efficientnet_pytorch",),
    ),
    Preset("torchvision", "efficientnet", "symmetric padding", GraphOptions("symmetric", 1e-5), ("torchvision",)),
    Preset("timm", "efficientnet", "symmetric padding", GraphOptions("symmetric", 1e-5), ("timm",)),
    Preset("timm-tf", "efficientnet", 'tf_efficientnet: "same" padding', GraphOptions("same", 1e-3), ("timm",)),
)
NAMES = tuple(dict.fromkeys(preset.name for preset in PRESETS))

_WIDE_OF_TORCHVISION = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")  # epsilon 1e-3
_RESOLUTIONS = dict(zip(names.EFFICIENTNETS, (224, 240, 260, 300, 380, 456, 528, 600), strict=True))


def preset(name: str, architecture: names.Architecture) -> GraphOptions:
    """The options that a name stands for.

    Raises:
        InputError: there is none of that name, or not for that network.
    """
    family, bottlenecks = _family(architecture), _has_bottlenecks(architecture)
    for known in PRESETS:
        if known.name == name and known.family == family and (bottlenecks or known.name != "resnet-v1"):
            return _of(known, architecture)
    fitting = dict.fromkeys(p.name for p in PRESETS if p.family == family and (bottlenecks or p.name != "resnet-v1"))
    raise InputError(f"--graph {name} is not for a {architecture}; choose one of {', '.join(fitting)}")


def candidates(architecture: names.Architecture, convention: names.Convention) -> list[Preset]:
    """The different graphs that files with these keys are known to have, that of the published ones first."""
    found: dict[GraphOptions, Preset] = {}
    for known in PRESETS:
        fits = known.family == _family(architecture) and convention in known.conventions
        if fits and (known.name != "resnet-v1" or _has_bottlenecks(architecture)):
            options = _of(known, architecture)
            found.setdefault(options, known._replace(options=options))
    return list(found.values())


def assumed(architecture: names.Architecture, convention: names.Convention) -> GraphOptions:
    """The graph of the published detectors with these keys."""
    return candidates(architecture, convention)[0].options


def variants(architecture: names.Architecture, convention: names.Convention) -> Iterator[GraphOptions]:
    """All graphs worth a try for a file with these keys, the likeliest first; ResNets with up to two changes."""
    known = [candidate.options for candidate in candidates(architecture, convention)]
    yield from known
    for options in _combinations(architecture, convention):
        changes = len(options.changes) - (options.ceil_mode and options.pool_padding == 0)  # go together in Caffe
        if options not in known and (options.padding != "symmetric" or changes <= 2):
            yield options


def _combinations(architecture: names.Architecture, convention: names.Convention) -> Iterator[GraphOptions]:
    if _family(architecture) == "efficientnet":
        # of the multiples of 32 one is enough: their padding is the same in every layer
        fixed = dict.fromkeys((224, 299, 380, _RESOLUTIONS[architecture]))
        paddings = ("same", "symmetric") if convention == "torchvision" else ("same", "symmetric", *fixed)
        yield from (GraphOptions(*pair) for pair in itertools.product(paddings, (1e-3, 1e-5)))
        return
    bottlenecks = _has_bottlenecks(architecture)
    for stem, pool, stride_in, dilated, (padding, ceil_mode), epsilon in itertools.product(
        (2, 1),
        (2, 1),
        ("3x3", "1x1") if bottlenecks else ("3x3",),
        ((), (4,), (3, 4)) if bottlenecks else ((),),
        ((1, False), (1, True), (0, True)),
        (1e-5, 1e-3),
    ):
        yield GraphOptions("symmetric", epsilon, stem, pool, stride_in, dilated, padding, ceil_mode)


def _of(known: Preset, architecture: names.Architecture) -> GraphOptions:
    if known.name == "torchvision" and architecture in _WIDE_OF_TORCHVISION:
        return GraphOptions("symmetric", 1e-3)
    return known.options


def _family(architecture: names.Architecture) -> str:
    return "resnet" if architecture in names.RESNETS else "efficientnet"


def _has_bottlenecks(architecture: names.Architecture) -> bool:
    return names.RESNETS.get(architecture, ("",))[0] == "bottleneck"

"""The language that networks are written in, and the networks themselves, written once over `(ops, tap)`."""

from tffjax.doors import door

_PUBLIC = {
    "BatchNorm": "tffjax.nn.layers",
    "Card": "tffjax.nn.card",
    "Conv": "tffjax.nn.layers",
    "Dense": "tffjax.nn.layers",
    "EfficientNetB0": "tffjax.nn.efficientnet_b0",
    "Geometry": "tffjax.kernels.convolution",
    "Layer": "tffjax.nn.graph",
    "Model": "tffjax.nn.model",
    "Normalization": "tffjax.nn.card",
    "Plain": "tffjax.nn.ops",
    "ResNet50": "tffjax.nn.resnet50",
    "Site": "tffjax.nn.sites",
    "Tap": "tffjax.nn.ops",
    "canonize": "tffjax.nn.canonization",
    "layers_of": "tffjax.nn.graph",
    "module_of": "tffjax.nn.model",
    "no_tap": "tffjax.nn.ops",
    "same_padding": "tffjax.kernels.convolution",
    "sites_of": "tffjax.nn.sites",
}

__all__, __getattr__, __dir__ = door(__name__, _PUBLIC)

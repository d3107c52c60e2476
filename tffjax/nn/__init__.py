"""The language that networks are written in, and the networks themselves, written once over `(ops, tap)`."""

from tffjax.doors import door

_PUBLIC = {
    "BatchNorm": "tffjax.nn.layers",
    "Card": "tffjax.nn.card",
    "Conv": "tffjax.nn.layers",
    "ConvTranspose": "tffjax.nn.layers",
    "GraphOptions": "tffjax.nn.graph_options",
    "Dense": "tffjax.nn.layers",
    "EfficientNet": "tffjax.nn.efficientnet",
    "EfficientNetB0": "tffjax.nn.efficientnet",
    "Generator": "tffjax.nn.generator",
    "GeneratorCard": "tffjax.nn.generator",
    "Geometry": "tffjax.kernels.convolution",
    "GroupNorm": "tffjax.nn.layers",
    "Layer": "tffjax.nn.graph",
    "LayerNorm": "tffjax.nn.layers",
    "Model": "tffjax.nn.model",
    "Network": "tffjax.nn.networks",
    "Normalization": "tffjax.nn.card",
    "Plain": "tffjax.nn.ops",
    "ProGAN": "tffjax.nn.progan",
    "ResNet": "tffjax.nn.resnet",
    "ResNet50": "tffjax.nn.resnet",
    "Site": "tffjax.nn.sites",
    "Tap": "tffjax.nn.ops",
    "canonize": "tffjax.nn.canonization",
    "layers_of": "tffjax.nn.graph",
    "module_of": "tffjax.nn.model",
    "network_of": "tffjax.nn.networks",
    "no_tap": "tffjax.nn.ops",
    "register": "tffjax.nn.networks",
    "same_padding": "tffjax.kernels.convolution",
    "sites_of": "tffjax.nn.sites",
}

__all__, __getattr__, __dir__ = door(__name__, _PUBLIC)

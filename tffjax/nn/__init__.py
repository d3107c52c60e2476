"""The language that networks are written in, and the networks themselves, written once over `(ops, tap)`."""

from tffjax.kernels.convolution import Geometry, same_padding
from tffjax.nn.canonization import canonize
from tffjax.nn.card import Card, Normalization
from tffjax.nn.efficientnet import EfficientNet, EfficientNetB0
from tffjax.nn.graph import Layer, layers_of
from tffjax.nn.layers import BatchNorm, Conv, Dense
from tffjax.nn.model import Model, module_of
from tffjax.nn.networks import Convention, Network, network_of, register
from tffjax.nn.ops import Plain, Tap, no_tap
from tffjax.nn.resnet import ResNet, ResNet50
from tffjax.nn.sites import Site, sites_of

__all__ = [
    "BatchNorm",
    "Card",
    "Conv",
    "Convention",
    "Dense",
    "EfficientNet",
    "EfficientNetB0",
    "Geometry",
    "Layer",
    "Model",
    "Network",
    "Normalization",
    "Plain",
    "ResNet",
    "ResNet50",
    "Site",
    "Tap",
    "canonize",
    "layers_of",
    "module_of",
    "network_of",
    "no_tap",
    "register",
    "same_padding",
    "sites_of",
]

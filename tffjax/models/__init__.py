"""The networks: ResNet-50 and EfficientNet-B0, written once over `(ops, tap)`."""

from tffjax.models.canonize import canonize
from tffjax.models.efficientnet_b0 import EfficientNetB0
from tffjax.models.layers import BatchNorm, Conv, Dense
from tffjax.models.model import Model, module_of
from tffjax.models.resnet50 import ResNet50

__all__ = ["BatchNorm", "Conv", "Dense", "EfficientNetB0", "Model", "ResNet50", "canonize", "module_of"]

"""What a state dict is that is none of ours: one line in place of a list of its keys."""

from collections.abc import Callable, Mapping

import numpy as np

State = Mapping[str, np.ndarray]


def what_is(state: State) -> str | None:
    """The network that these tensors belong to, where its names give it away; None if they do not."""
    return next((what for what, found in _KINDS if found(state)), None)


def _has(*parts: str) -> Callable[[State], bool]:
    return lambda state: any(part in f".{key}" for key in state for part in parts)


def _shape(state: State, end: str) -> tuple[int, ...]:
    return next((array.shape for key, array in state.items() if f".{key}".endswith(f".{end}")), ())


def _is_npr(state: State) -> bool:
    return _shape(state, "fc1.weight")[-1:] == (512,) and _shape(state, "conv1.weight")[1:] == (3, 3, 3)


def _is_clip_head(state: State) -> bool:
    shapes = [array.shape for array in state.values() if array.ndim == 2]
    return len(state) <= 2 and shapes in ([(1, 768)], [(1, 1024)], [(2, 768)])


def _is_resnext(state: State) -> bool:
    inner, outer = _shape(state, "layer1.0.conv2.weight"), _shape(state, "layer1.0.conv1.weight")
    return len(inner) == 4 and bool(outer) and inner[1] != outer[0]


def _is_wide(state: State) -> bool:
    return _shape(state, "layer1.0.conv3.weight")[:1] == (256,) and _shape(state, "layer1.0.conv1.weight")[:1] != (64,)


_KINDS: tuple[tuple[str, Callable[[State], bool]], ...] = (
    ("NPR (a small ResNet on the residue of up-sampling)", _is_npr),
    ("an antialiased network (its strides are blur filters, .filt)", lambda s: any(k.endswith(".filt") for k in s)),
    ("a linear head on CLIP's features (as UnivFD)", _is_clip_head),
    ("a CLIP network", _has(".visual.transformer.", ".vision_model.", ".visual.ln_")),
    ("a vision transformer", _has(".attn.qkv.", ".self_attention.", ".attention.query.")),
    ("a Swin transformer", _has(".relative_position_bias_table")),
    ("an Xception network", _has(".block1.rep.", ".blocks.0.stack.")),
    ("a ConvNeXt network", _has(".dwconv.", ".layer_scale", ".downsample_layers.")),
    ("a DenseNet", _has(".denseblock1.")),
    ("an Inception network", _has(".Mixed_5b.", ".inception3a.")),
    ("a MobileNet", _has(".features.1.conv.0.0.")),
    ("an EfficientNet V2", lambda s: _shape(s, "features.1.0.block.0.0.weight")[1:3] == (24, 3)),
    ("a squeeze-excite ResNet", _has(".layer1.0.se_module.", ".layer1.0.se.")),
    ("a ResNet with a deep stem (ResNet-D)", _has(".conv1.0.weight")),
    ("a ResNeXt", _is_resnext),
    ("a wide ResNet", _is_wide),
    ("a VGG", lambda s: _shape(s, "classifier.6.weight")[1:] == (4096,)),
)

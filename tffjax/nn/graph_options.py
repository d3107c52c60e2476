"""What names and shapes of weights do not say: two networks with the same weights may compute different functions."""

import dataclasses
from typing import Any, Literal

from tffjax.errors import InputError

Padding = Literal["symmetric", "same"] | int
"""Of convolutions: k // 2 pixels on each side, or TensorFlow's rule: max((ceil(n / s) - 1) s + k - n, 0) pixels along
each axis, the smaller half before. `same` takes n from the layer's own input; a number fixes the padding as `same`
would have it for images of that size, whatever comes in."""


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Options of a network that its weights do not show.

    Attributes:
        padding: of convolutions, see `Padding`.
        epsilon: of batch norms, added to the variance.
        stem_stride, pool_stride: of a ResNet's first convolution and of the max pool behind it; 1 and 1 is the network
            without down-sampling of Gragnaniello et al. 2021.
        stride_in: which convolution of a bottleneck has the stride: the `3x3` one (v1.5, torchvision) or the first
            `1x1` one (v1, He et al. 2016; Caffe, Keras).
        dilated_stages: stages of a ResNet (2 to 4) that have a dilation in place of their stride (torchvision's
            `replace_stride_with_dilation`).
        pool_padding: of a ResNet's max pool, 1, or 0 as in Caffe.
        ceil_mode: whether the max pool has a last window that sticks out of the image, if it begins inside.
    """

    padding: Padding = "symmetric"
    epsilon: float = 1e-5
    stem_stride: int = 2
    pool_stride: int = 2
    stride_in: Literal["3x3", "1x1"] = "3x3"
    dilated_stages: tuple[int, ...] = ()
    pool_padding: int = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: a value out of range.
        """
        fits = {
            "padding": self.padding in ("symmetric", "same") or (_is_integer(self.padding) and self.padding > 0),
            "epsilon": isinstance(self.epsilon, float) and 0 < self.epsilon < 1,
            "stem_stride": self.stem_stride in (1, 2),
            "pool_stride": self.pool_stride in (1, 2),
            "stride_in": self.stride_in in ("3x3", "1x1"),
            "dilated_stages": isinstance(self.dilated_stages, tuple) and set(self.dilated_stages) <= {2, 3, 4},
            "pool_padding": self.pool_padding in (0, 1),
            "ceil_mode": isinstance(self.ceil_mode, bool),
        }
        for name, is_right in fits.items():
            if not is_right:
                raise InputError(f"{name} cannot be {getattr(self, name)!r}")

    @property
    def changes(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def __str__(self) -> str:
        told = {"padding": self.padding, "epsilon": self.epsilon} | self.changes
        return ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in told.items())


def from_fields(fields: Any) -> GraphOptions:
    """Options as JSON gives them.

    Raises:
        InputError: not a dictionary, unknown or missing names, or values out of range.
    """
    if not isinstance(fields, dict):
        raise InputError(f"its graph options are {fields!r}")
    known = {field.name for field in dataclasses.fields(GraphOptions)}
    if fields.keys() != known:
        raise InputError(f"its graph options differ by {', '.join(sorted(fields.keys() ^ known))}")
    return GraphOptions(**fields | {"dilated_stages": tuple(fields["dilated_stages"])})


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return format(value, "g") if isinstance(value, float) else str(value)

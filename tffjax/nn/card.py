"""The card of a checkpoint: what the network is, what it eats and what its output means."""

import dataclasses
import functools
import json
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int

from tffjax.errors import InputError
from tffjax.files import from_json
from tffjax.nn.class_names import output_text
from tffjax.nn.graph_options import GraphOptions, from_fields

VERSION = "2.0"


@dataclasses.dataclass(frozen=True)
class Normalization:
    """How pixels become network input: `x[..., c] = (p[..., order[c]] / 255 - mean[c]) / std[c]`.

    `p` is uint8 RGB, NHWC. `order` says which of R, G, B each input channel takes; `mean` and `std` are given in the
    order of the *input channels*, on the [0, 1] scale.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    order: Literal["rgb", "bgr"] = "rgb"

    @functools.cached_property
    def table(self) -> Float32[np.ndarray, "3 256"]:
        """What each of the 256 levels becomes in each input channel, every step in float32."""
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        return (levels - np.float32(self.mean)[:, None]) / np.float32(self.std)[:, None]

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that any input channel can take, in float32: the box of the zB rule (SPEC 3)."""
        return float(self.table.min()), float(self.table.max())


NORMALIZATIONS = {
    "imagenet": Normalization(),
    "caffe": Normalization(
        mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255, 1 / 255, 1 / 255), order="bgr"
    ),
    "inception": Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "unit": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "imagenet-bgr": Normalization(mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229), order="bgr"),
}
"""imagenet: RGB, mean and deviation of ImageNet. imagenet-bgr: the same in BGR. caffe: BGR in [0, 255] minus means.
inception: RGB in [-1, 1]. unit: RGB in [0, 1]."""

GRAPH_SOURCES = ("keys", "assumed", "chosen", "proven")


@dataclasses.dataclass(frozen=True)
class Card:
    """What stands beside the weights of a checkpoint.

    Attributes:
        architecture: name of the network's record (`tffjax.nn.networks`), such as `resnet50`.
        num_outputs: 1 for a detector (a logit), 1000 for an ImageNet network.
        graph: what the weights do not say.
        normalization: from pixels to network input.
        high_means: which label a high logit of a one-output network speaks for, `fake` or `real`.
        graph_source: how the graph is known: the `keys` of the file leave no choice; `assumed` among several; `chosen`
            by the user, or by the program that made the weights; `proven` on outputs of the original network.
        proof: of a proven graph, in words.
        fake_output: of a network with two outputs, real and fake, the one that means fake. Its head was made one logit,
            fake minus real, whose sigmoid is the softmax of the two; so `num_outputs` is 1. None for all others.
        source, source_sha256: name and SHA-256 of the file that the weights came from.
        weights_sha256: hash of the weights themselves (`tffjax.nn.checkpoint.digest`), checked on loading.
        class_names: of the outputs of a network with several, where they are known.
        published: name in the paper's tables, such as `ResNet-50`, where it is known to be that very detector.
        version: of this format, `major.minor`.
    """

    architecture: str
    num_outputs: int
    graph: GraphOptions = GraphOptions()
    normalization: Normalization = Normalization()
    high_means: Literal["fake", "real"] = "fake"
    source: str = ""
    source_sha256: str = ""
    weights_sha256: str = ""
    graph_source: Literal["keys", "assumed", "chosen", "proven"] = "chosen"
    proof: str = ""
    fake_output: Literal[0, 1] | None = None
    class_names: tuple[str, ...] | None = None
    published: str | None = None
    version: str = VERSION

    @property
    def doubt(self) -> str | None:
        """What nobody has settled about this network, in a line; None if nothing is open."""
        if self.graph_source != "assumed":
            return None
        return (
            f"{self.source or 'the checkpoint'} may be another network than {self.architecture} with {self.graph}: its "
            "keys do not say, so that was assumed; settle it with tffjax convert --graph or --expect"
        )

    @property
    def network(self) -> str:
        """Which network this is, in a line: architecture, graph and normalization."""
        known = (name for name, normalization in NORMALIZATIONS.items() if normalization == self.normalization)
        return f"{self.architecture}, {self.graph}, {next(known, 'own')} normalization"

    def output_text(self, index: int) -> str:
        """What people call an output: `output 285`, or `output 285 (Egyptian cat)`."""
        return output_text(index, self.class_names)

    def names_of(self, outputs: Int[np.ndarray, " n"]) -> list[str]:
        """The names of outputs, of a card that has them."""
        return [self.class_names[index] for index in outputs]

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read a card.

        Raises:
            InputError: not a card, a card with unknown or missing fields or of an unknown network, or a card of another
                major version.
        """
        from tffjax.nn.networks import names  # here, for records import cards: their constructors take one

        try:
            fields: dict[str, Any] = from_json(text)
            kind, version = fields.get("kind"), str(fields["version"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the card is damaged ({error}); convert the checkpoint again") from None
        if kind == "generator":
            raise InputError("this is a generator, and a detector is wanted")
        if version.split(".")[0] != VERSION.split(".")[0]:
            raise InputError(
                f"the card has format version {version}, this tffjax reads {VERSION}; convert the checkpoint again"
            )
        try:
            fields = {"published": None, "class_names": None} | fields
            norm = fields.pop("normalization")
            norm = Normalization(mean=_three(norm["mean"]), std=_three(norm["std"]), order=norm["order"])
            graph = from_fields(fields.pop("graph"))
            expected = {field.name for field in dataclasses.fields(cls)} - {"normalization", "graph"}
            if fields.keys() != expected:
                raise ValueError(f"its fields differ by {', '.join(sorted(fields.keys() ^ expected))}")
            for value, allowed in (
                (fields["architecture"], names()),
                (fields["graph_source"], GRAPH_SOURCES),
                (fields["fake_output"], (None, 0, 1)),
                (fields["high_means"], ("fake", "real")),
                (norm.order, ("rgb", "bgr")),
            ):
                if value not in allowed:
                    raise ValueError(f"{value!r} is not one of {', '.join(map(str, allowed))}")
            if not isinstance(fields["num_outputs"], int) or fields["num_outputs"] < 1:
                raise ValueError(f"{fields['num_outputs']!r} is no number of outputs")
            classes = fields.pop("class_names")
            classes = None if classes is None else tuple(str(name) for name in classes)
            if classes is not None and len(classes) != fields["num_outputs"]:
                raise ValueError("its names of classes are not those of its outputs")
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise InputError(f"the card is damaged ({error}); convert the checkpoint again") from None
        return cls(**fields, graph=graph, normalization=norm, class_names=classes)


def _three(numbers: Any) -> tuple[float, float, float]:
    r, g, b = (float(number) for number in numbers)
    return r, g, b

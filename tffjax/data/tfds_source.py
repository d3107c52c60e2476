"""TensorFlow Datasets: `tfds:NAME/SPLIT`, read without TensorFlow."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from tffjax.data.image_file import ImageFile
from tffjax.data.preprocessing import Transform
from tffjax.errors import InputError

PREFIX = "tfds:"
FEATURES = ("image", "label", "generator", "category", "name")
OPTIONS = (*FEATURES, "data_dir", "only")


class Address(NamedTuple):
    """`tfds:NAME/SPLIT?OPTION=VALUE&...`.

    Attributes:
        name: of the data set, perhaps with configuration and version, as `tfds.builder` takes it.
        split: as TFDS writes it, such as `test` or `biggan+stylegan`.
        options: which features are `image`, `label`, ..., where they have other names; `data_dir`; `only` the examples
            of this generator.
    """

    name: str
    split: str
    options: dict[str, str]


def parse_address(text: str) -> Address:
    """The parts of an address.

    Raises:
        InputError: it is not of that form.
    """
    location, _, query = text.removeprefix(PREFIX).partition("?")
    name, _, split = location.rpartition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not name or not split or not options.keys() <= set(OPTIONS) or (query and not all(options.values())):
        raise InputError(
            f"{text}: write tfds:NAME/SPLIT, such as tfds:forensynths/stylegan, perhaps with "
            f"?image=FEATURE&label=FEATURE ({', '.join(OPTIONS)})"
        )
    return Address(name, split, options)


def only(path: Path, generator: str) -> Path:
    """The address of the examples of one generator."""
    return Path(f"{path}{'&' if '?' in str(path) else '?'}{urlencode({'only': generator}, quote_via=quote)}")


@dataclasses.dataclass(frozen=True, slots=True)
class StoredExample:
    """As `tffjax.data.image_file.Stored`."""

    examples: Sequence[Mapping[str, Any]]
    index: int
    feature: str
    num_bytes: int
    size: tuple[int, int] | None
    sha256: str
    pixels: Transform | None = None

    def read(self) -> bytes:
        """As `tffjax.data.image_file.Stored`."""
        return bytes(self.examples[self.index][self.feature])


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """The images of a split that TFDS prepared as ArrayRecord, by their own bytes.

    Every example is read once to learn names, labels, sizes and hashes.

    Attributes:
        path: the address.
        labels: further names of labels.
    """

    path: Path
    labels: Mapping[str, Literal[0, 1]]
    kind: ClassVar[str] = "tfds"

    def find(self) -> dict[str, ImageFile]:
        """As `tffjax.data.sources.Source`."""
        address = parse_address(str(self.path))
        builder, examples = _open(self.path, address)
        present = dict(builder.info.features.items())
        features = _features(self.path, address, present)
        names = getattr(present.get(features.get("label")), "names", None)
        found: dict[str, ImageFile] = {}
        base = Path(str(self.path).partition("?only=")[0].partition("&only=")[0])  # names are those among all examples
        for index in range(len(examples)):
            example = examples[index]
            text = {what: _text(example[features[what]]) for what in FEATURES[2:] if what in features}
            if address.options.get("only", text.get("generator")) != text.get("generator"):
                continue
            label = example[features["label"]] if "label" in features else None
            if label is not None:
                label = names[int(label)] if names else _text(label)
            name = text.get("name") or f"{index:08d}"
            size = (int(example["height"]), int(example["width"])) if {"height", "width"} <= example.keys() else None
            image = example[features["image"]]
            digest = hashlib.sha256(image).hexdigest()
            stored = StoredExample(examples, index, features["image"], len(image), size, digest)
            path = base / name
            known = self._label(label, address)
            found[str(path)] = ImageFile(path, known, text.get("generator", ""), text.get("category", ""), stored)
        if not found:
            raise InputError(f"{self.path}: the split has no such examples")
        return found

    def _label(self, label: str | None, address: Address) -> Literal[0, 1] | None:
        known = {"real": 0, "fake": 1, **self.labels}
        if label in known:
            return known[label]
        if label is not None and "label" in address.options:
            raise InputError(f"{self.path}: an example has the label {label}; say --labels real=NAME,fake=NAME")
        return None


def _open(path: Path, address: Address) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """The builder and the examples, with their images as bytes."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(f"{path}: reading TFDS needs pip install 'tffjax[tfds]'") from None
    try:
        builder = tfds.builder(address.name, data_dir=address.options.get("data_dir"))
    except (tfds.core.DatasetNotFoundError, FileNotFoundError) as error:
        where = address.options.get("data_dir", "TFDS's folder (TFDS_DATA_DIR)")
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not prepared in {where} ({line}); see docs/data.md") from None
    if address.split not in builder.info.splits and not set(address.split) & set("+[]"):
        raise InputError(f"{path}: there is no such split; there are {', '.join(builder.info.splits) or 'none'}")
    image = address.options.get("image", "image")
    if image not in builder.info.features:
        raise InputError(
            f"{path}: there is no feature {image} among {', '.join(builder.info.features)}; say ?image=NAME"
        )
    try:
        examples = builder.as_data_source(address.split, decoders={image: tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise InputError(
            f"{path}: prepared as {builder.info.file_format.value}, which cannot be read at random; convert it: tfds "
            f"convert_format --dataset_dir={builder.data_dir} --out_file_format=array_record --out_path=FOLDER"
        ) from None
    return builder, examples


def _features(path: Path, address: Address, present: Mapping[str, Any]) -> dict[str, str]:
    """Which feature is which; those that have the usual names need not be said."""
    features = {what: address.options.get(what, what) for what in FEATURES}
    missing = [name for what, name in features.items() if what in address.options and name not in present]
    if missing:
        raise InputError(f"{path}: there is no feature {missing[0]} among {', '.join(present)}")
    return {what: name for what, name in features.items() if name in present}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

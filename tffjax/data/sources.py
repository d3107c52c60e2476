"""Data sets, wherever their images are: folders, lists, packed records, TFDS."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

from tffjax.data.folders import LABEL_FOLDERS, FolderSource, label_hint, left_out, parse_labels
from tffjax.data.image_file import ImageFile, by_name
from tffjax.data.tfds_source import PREFIX, TfdsSource, only
from tffjax.errors import InputError


@runtime_checkable
class Source(Protocol):
    """Where images come from.

    Attributes:
        kind: in a word, for the record.
    """

    kind: ClassVar[str]

    def find(self) -> Mapping[str, ImageFile]:
        """All images by where they really are, so that one that is met twice counts once.

        Raises:
            InputError: there are none, or they cannot be listed.
        """


@dataclasses.dataclass(frozen=True)
class Found:
    """The images of some DATA.

    Attributes:
        files: each once; in the order of the DATA and then of the names.
        kinds: of the sources of the DATA.
        warnings: lines that a person should read before a study.
    """

    files: tuple[ImageFile, ...]
    kinds: tuple[str, ...]
    warnings: tuple[str, ...]


def find(paths: Iterable[str | os.PathLike[str]], labels: str | None = None) -> Found:
    """The images of folders, lists, packed records and TFDS.

    Args:
        paths: see `source_of`.
        labels: names of the folders of the labels, `real=NAME,fake=NAME`; None is `real=0_real,fake=1_fake`.

    Raises:
        InputError: as the sources and `parse_labels`.
    """
    names = LABEL_FOLDERS if labels is None else parse_labels(labels)
    data = [Path(path) for path in paths]
    sources = [source_of(path, names) for path in data]
    every: dict[str, ImageFile] = {}
    of_each: list[list[ImageFile]] = []
    for source in sources:
        found = source.find()
        of_each.append(list(found.values()))
        for place in sorted(found, key=lambda place: by_name(found[place])):
            every.setdefault(place, found[place])
    files = tuple(every.values())
    walked = [source.path for source in sources if isinstance(source, FolderSource)]
    warnings = left_out(walked)
    if hint := label_hint(files):
        warnings.append(f"the folders look like labels: give --labels {hint}")
    warnings += _merged_generators(data, of_each)
    return Found(files, tuple(source.kind for source in sources), tuple(warnings))


def find_images(paths: Iterable[str | os.PathLike[str]], labels: str | None = None) -> tuple[ImageFile, ...]:
    """The images that `find` finds."""
    return find(paths, labels).files


def source_of(path: Path, labels: Mapping[str, Literal[0, 1]] = LABEL_FOLDERS) -> Source:
    """What a path given as DATA is: TFDS (`tfds:NAME/SPLIT`), packed records, a list (`.csv`, `.parquet`), or images.

    A list may be followed by a generator, `list.csv/progan`: its rows.

    Raises:
        InputError: records that are not all there; a list that is no regular file.
    """
    from tffjax.data.lists import list_source  # here, for images alone need neither Arrow nor ArrayRecord
    from tffjax.data.records import record_source

    if str(path).startswith(PREFIX):
        return TfdsSource(path, labels)
    if packed := record_source(path):
        return packed
    return list_source(path, labels) or FolderSource(path, labels)


def of_generator(path: Path, generator: str, labels: str | None = None) -> Path | None:
    """DATA with the images of one generator in some DATA; None if there are none.

    They are in its folder, of files or among packed records; the rows of a list; or the examples of TFDS: then it is
    `FOLDER/GENERATOR`, `list.csv/GENERATOR`, or `tfds:...?only=GENERATOR`. DATA that holds no other generator is that
    itself.
    """
    part = _part(path, generator, LABEL_FOLDERS if labels is None else parse_labels(labels))
    if part is None and {file.generator for file in find_images([path], labels)} == {generator}:
        return path
    return part


def is_there(path: Path) -> bool:
    """Whether a path given as DATA names something: a file, a folder, part of either, or a data set of TFDS."""
    return path.exists() or not isinstance(source_of(path), FolderSource)


def _part(path: Path, generator: str, names: Mapping[str, Literal[0, 1]]) -> Path | None:
    """The part of DATA that is a generator's."""
    given = only(path, generator) if str(path).startswith(PREFIX) else path / generator
    source = source_of(given, names)
    if isinstance(source, FolderSource):
        return given if given.is_dir() else None
    try:
        return given if source.find() else None
    except InputError:
        return None


def address(path: Path) -> str:
    """A path given as DATA, for use from another folder."""
    return str(path if str(path).startswith(PREFIX) else path.absolute())


def _merged_generators(data: Sequence[Path], of_each: Sequence[Sequence[ImageFile]]) -> list[str]:
    """A line for each generator whose images lie in folders of its name that different DATA hold."""
    places: dict[str, dict[str, Path]] = {}
    for given, files in zip(data, of_each, strict=True):
        mine = {name: _place(name, folder) or str(given) for name, folder in
                {(file.generator, file.path.parent) for file in files if file.generator}}  # fmt: skip
        for name, place in mine.items():
            places.setdefault(name, {}).setdefault(place, given)
    return [
        f"generator {name} is in {' and in '.join(map(str, places[name].values()))}: its images are counted together; "
        "to keep them apart give a list with two names (tffjax predict --help)"
        for name in sorted(places)
        if len(set(places[name].values())) > 1
    ]


def _place(generator: str, folder: Path) -> str | None:
    """The folder of a generator around a folder of its images."""
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100  as in `FolderSource.find`
    return next((str(place) for place in (absolute, *absolute.parents) if place.name == generator), None)

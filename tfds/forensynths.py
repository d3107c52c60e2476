"""ForenSynths (Wang et al., CVPR 2020) as a TensorFlow data set: `forensynths`.

    import tensorflow_datasets as tfds
    import tffjax.tfds.forensynths

    builder = tfds.builder("forensynths", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir="dataset"))

Then `tfds:forensynths/stylegan` is DATA for every command of tffjax.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tffjax.data import LABELS, find_images
from tffjax.data.preprocessing import image_size
from tffjax.errors import InputError

CITATION = """@inproceedings{wang2020cnn,
  title={CNN-generated images are surprisingly easy to spot... for now},
  author={Wang, Sheng-Yu and Wang, Oliver and Zhang, Richard and Owens, Andrew and Efros, Alexei A},
  booktitle={CVPR},
  year={2020}
}"""


class Forensynths(tfds.core.GeneratorBasedBuilder):
    """Real and CNN-generated images; a split for each generator of the test set, and train and val of ProGAN."""

    pkg_dir_path = epath.Path(__file__).parent  # TFDS would look for it below tffjax/, where a checkout has it beside
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Files as they were published, in the order of their names."}  # noqa: RUF012  TFDS's form
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download the training set (a 7z archive in seven parts, progan_train.7z.001 and on: extract the first), the
    validation set and the test set as https://github.com/PeterWang512/CNNDetection describes, and arrange them as
      manual_dir/train/progan/<class>/{0_real,1_fake}/*.png
      manual_dir/val/progan/<class>/{0_real,1_fake}/*.png
      manual_dir/test/<generator>/[<class>/]{0_real,1_fake}/*.png
    Any of train, val and test may be missing.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images of eleven kinds of generators beside real images (ForenSynths).",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(doc="The file as it is."),
                    "label": tfds.features.ClassLabel(names=LABELS),
                    "generator": tfds.features.Text(),
                    "category": tfds.features.Text(doc="Object class, empty if there is none."),
                    "name": tfds.features.Text(doc="Path below train, val or test."),
                    "height": np.int32,
                    "width": np.int32,
                }
            ),
            homepage="https://github.com/PeterWang512/CNNDetection",
            citation=CITATION,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir)
        splits = {name: (root / name, root / name) for name in ("train", "val") if (root / name).is_dir()}
        tests = sorted(path for path in (root / "test").iterdir() if path.is_dir()) if (root / "test").is_dir() else ()
        splits |= {path.name: (root / "test", path) for path in tests}
        if not splits:
            raise InputError(f"{root} holds none of train, val and test;{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return {name: self._generate_examples(base, folder) for name, (base, folder) in splits.items()}

    def _generate_examples(self, base: Path, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        prefix = f"{folder.relative_to(base)}/" if folder != base else ""
        for number, file in enumerate(find_images([base])):
            name = file.path.relative_to(base).as_posix()
            if not name.startswith(prefix):
                continue
            height, width = image_size(file.path)
            yield (
                number,
                {
                    "image": str(file.path),
                    "label": LABELS[file.label],
                    "generator": file.generator,
                    "category": file.category,
                    "name": name,
                    "height": height,
                    "width": width,
                },
            )

"""Lines about images that resizing enlarges or that cropping fills up."""

import numpy as np
import pytest
from PIL import Image

from tffjax.data import find_images
from tffjax.data.preprocessing import Transform
from tffjax.data.sizes import size_warnings


@pytest.fixture
def files(tmp_path):
    for name, size in (("a", (30, 50)), ("b", (40, 60)), ("c", (64, 64))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"")
    return find_images([tmp_path])


@pytest.mark.parametrize(
    ("transform", "enlarged", "padded"),
    [
        (Transform(), None, None),
        (Transform(crop=30), None, None),
        (Transform(30), None, None),
        (Transform(32), "1 of 3 looked at, the smallest one 30x50", None),
        (Transform((32, 32)), "1 of 3 looked at, the smallest one 30x50", None),
        (Transform(64, 64), "2 of 3 looked at, the smallest one 30x50", None),
        (Transform(crop=41), None, "2 of 3 looked at, the smallest one 30x50"),
        (Transform(20, 24), None, "3 of 3 looked at, the smallest one 30x50"),
        (Transform(crop=41, random_crop=0), None, None),
    ],
)
def test_images_are_counted(transform, enlarged, padded, files):
    lines = size_warnings(files, transform)
    found = [line for line in lines if "enlarges" in line], [line for line in lines if "filled up" in line]
    for given, wanted in zip(found, (enlarged, padded), strict=True):
        assert len(given) == (wanted is not None)
        assert not given or wanted in given[0]

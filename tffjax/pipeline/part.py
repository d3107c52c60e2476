"""What one shard has found in a pass."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """Its sums as arrays, and the folder with its files."""

    sums: dict[str, np.ndarray]
    folder: Path

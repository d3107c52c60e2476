"""The programs of `scripts/gpu_visit.py`, which run in a checkout that is not installed."""

from pathlib import Path

import tffjax

tffjax.__path__.append(str(Path(__file__).resolve().parents[2]))  # where conversion/ lies

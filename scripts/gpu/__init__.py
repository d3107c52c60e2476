"""The programs of `scripts/gpu_visit.py`, which run in a checkout that is not installed."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import tffjax  # noqa: E402  found in the checkout

tffjax.__path__.append(str(ROOT))  # where conversion/ lies

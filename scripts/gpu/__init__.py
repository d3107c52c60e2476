"""The programs of `scripts/gpu_visit.py`."""

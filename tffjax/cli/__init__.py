"""The command line."""

import os

# XLA reports compiles and foldings that take long as errors to be filed; the commands say themselves that they compile.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

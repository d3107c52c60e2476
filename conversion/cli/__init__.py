"""The commands that need PyTorch: `tffjax convert` and `tffjax verify`."""

import importlib.util

from tffjax.errors import InputError


def require_torch() -> None:
    """Raise a clear InputError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("this command needs PyTorch: pip install 'tffjax[torch]'")

"""Explaining CNN forgery detectors at scale, in JAX: layer-wise relevance propagation as custom_vjp rules.

The public names are loaded on first use, so that `import tffjax` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Card": "tffjax.card",
    "InputError": "tffjax.errors",
    "Model": "tffjax.models",
    "Normalization": "tffjax.card",
    "canonize": "tffjax.models",
    "check_model": "tffjax.check",
    "Neuron": "tffjax.explain",
    "Relevance": "tffjax.explain",
    "load": "tffjax.checkpoint",
    "lrp_max": "tffjax.lrpmax",
    "relevance": "tffjax.explain",
    "save": "tffjax.checkpoint",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tffjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

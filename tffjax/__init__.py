"""Explaining CNN forgery detectors at scale, in JAX: layer-wise relevance propagation as custom_vjp rules.

The public names are loaded on first use, so that `import tffjax` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Card": "tffjax.nn.card",
    "InputError": "tffjax.errors",
    "Model": "tffjax.nn",
    "Normalization": "tffjax.nn.card",
    "canonize": "tffjax.nn",
    "check_model": "tffjax.lrp.conservation",
    "Neuron": "tffjax.lrp.explain",
    "Relevance": "tffjax.lrp.explain",
    "load": "tffjax.nn.checkpoint",
    "lrp_max": "tffjax.lrpmax",
    "relevance": "tffjax.lrp.explain",
    "save": "tffjax.nn.checkpoint",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tffjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Layer-wise relevance propagation: rules, composites, explanations."""

from tffjax.doors import door

_PUBLIC = {
    "Balance": "tffjax.lrp.conservation",
    "COMPOSITES": "tffjax.lrp.composites",
    "Check": "tffjax.lrp.conservation",
    "Composite": "tffjax.lrp.composites",
    "Linear": "tffjax.lrp.redistribution",
    "LinearMap": "tffjax.lrp.redistribution",
    "Lost": "tffjax.lrp.redistribution",
    "LrpOps": "tffjax.lrp.operations",
    "Neuron": "tffjax.lrp.targets",
    "Relevance": "tffjax.lrp.explain",
    "Rule": "tffjax.lrp.composites",
    "Stabilizer": "tffjax.lrp.redistribution",
    "check_model": "tffjax.lrp.conservation",
    "composite_of": "tffjax.lrp.composites",
    "first_layers": "tffjax.lrp.composites",
    "for_kinds": "tffjax.lrp.redistribution",
    "generated_relevance": "tffjax.lrp.generated",
    "integrated_gradients": "tffjax.lrp.gradients",
    "near_jumps": "tffjax.lrp.stability",
    "last_layer": "tffjax.lrp.composites",
    "prepare": "tffjax.lrp.prepare",
    "redistribute": "tffjax.lrp.redistribution",
    "relevance": "tffjax.lrp.explain",
    "rule": "tffjax.lrp.composites",
    "rules": "tffjax.lrp.rules",
    "smooth_grad": "tffjax.lrp.gradients",
}

__all__, __getattr__, __dir__ = door(__name__, _PUBLIC)

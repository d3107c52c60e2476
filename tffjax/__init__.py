"""Explaining CNN forgery detectors at scale, in JAX: layer-wise relevance propagation as custom_vjp rules.

The public names are loaded on first use, so that `import tffjax` costs nothing.
"""

from tffjax.doors import door

__version__ = "0.1.0"

_PUBLIC = {
    "Card": "tffjax.nn.card",
    "across": "tffjax.studies.color.across",
    "InputError": "tffjax.errors",
    "Model": "tffjax.nn",
    "Normalization": "tffjax.nn.card",
    "audit": "tffjax.report.audit",
    "canonize": "tffjax.nn",
    "check_model": "tffjax.lrp.conservation",
    "Neuron": "tffjax.lrp.targets",
    "Relevance": "tffjax.lrp.explain",
    "collage": "tffjax.studies.figures",
    "compare_rankings": "tffjax.studies.comparison",
    "density_grid": "tffjax.studies.figures",
    "dropout_logits": "tffjax.studies.dropout.logits",
    "dropped_medians": "tffjax.studies.figures",
    "ffrs": "tffjax.studies.ffrs.arrays",
    "Generator": "tffjax.nn.generator",
    "find_k": "tffjax.studies.dropout.find_k",
    "generate": "tffjax.studies.generator.generate",
    "load": "tffjax.nn.checkpoint",
    "load_generator": "tffjax.nn.generator",
    "lrp_max": "tffjax.studies.lrpmax.neurons",
    "max_activations": "tffjax.studies.color.activations",
    "paper": "tffjax.supplement.run",
    "predict": "tffjax.studies.predict",
    "prepare": "tffjax.lrp.prepare",
    "rank": "tffjax.studies.ffrs.run",
    "relevance": "tffjax.lrp.explain",
    "run_color": "tffjax.studies.color.run",
    "run_dropout": "tffjax.studies.dropout.run",
    "run_generator": "tffjax.studies.generator.run",
    "run_lrp_max": "tffjax.studies.lrpmax.run",
    "heatmaps": "tffjax.studies.heatmaps.run",
    "save": "tffjax.nn.checkpoint",
    "study": "tffjax.whole.run",
    "train": "tffjax.training.train",
    "write_comparison": "tffjax.studies.comparison",
    "write_report": "tffjax.report.write",
}

__all__, __getattr__, __dir__ = door(__name__, _PUBLIC)
__all__ += ["__version__"]

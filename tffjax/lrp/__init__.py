"""Layer-wise relevance propagation: rules, composites, explanations."""

from tffjax.lrp import rules
from tffjax.lrp.composites import COMPOSITES, Composite, LrpOps, Rule, rule
from tffjax.lrp.conservation import Balance, Check, check_model
from tffjax.lrp.explain import Neuron, Relevance, composite_of, relevance
from tffjax.lrp.rules import Lost, Stabilizer, redistribute

__all__ = [
    "COMPOSITES",
    "Balance",
    "Check",
    "Composite",
    "Lost",
    "LrpOps",
    "Neuron",
    "Relevance",
    "Rule",
    "Stabilizer",
    "check_model",
    "composite_of",
    "redistribute",
    "relevance",
    "rule",
    "rules",
]

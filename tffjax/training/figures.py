"""Pictures of a training: loss, validation scores and learning rate by epoch."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tffjax.results.style import BLACK, COLORS, WIDTH, label_axes
from tffjax.training.state import Epoch


def training_curves(history: Sequence[Epoch]) -> Figure:
    """Loss of training and validation, validation accuracy and AP, and the learning rate, one below the other.

    The best epoch is marked by a dashed line.
    """
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    losses, scores, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
    epochs = [row.epoch for row in history]
    line = {"linewidth": 1.2, "marker": "o", "markersize": 2.5}
    losses.plot(epochs, [row.loss for row in history], color=COLORS[0], label="training (augmented)", **line)
    losses.plot(epochs, [row.validation_loss for row in history], color=COLORS[1], label="validation", **line)
    losses.set_yscale("log")
    label_axes(losses, "", "loss")
    scores.plot(epochs, [100 * row.accuracy for row in history], color=COLORS[0], label="training accuracy", **line)
    scores.plot(
        epochs, [100 * row.validation_accuracy for row in history], color=COLORS[1], label="validation accuracy", **line
    )
    scores.plot(epochs, [100 * row.validation_ap for row in history], color=COLORS[2], label="validation AP", **line)
    label_axes(scores, "", "%")
    rates.step(epochs, [row.rate for row in history], where="mid", color=COLORS[0], linewidth=1.2)
    rates.set_yscale("log")
    label_axes(rates, "epoch", "learning rate")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    best = max(row.epoch for row in history if row.best)
    for axes in (losses, scores, rates):
        axes.axvline(best, color=BLACK, linestyle="--", linewidth=0.8, label=f"best: epoch {best}")
    for axes in (losses, scores):
        axes.legend(fontsize=7, framealpha=1, edgecolor="none")
    return figure

"""What becomes of the correct class of a network with several outputs, for the sections on colors and dropout."""

from typing import Any

from tffjax.report.markup import Table, percent


def classes_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `tffjax.studies.classes.class_table`."""
    what, share = next(iter(rows[0])), "agreement" if "agreement" in rows[0] else "accuracy"
    names = ("median_probability", "drop", share)
    shown = [{**row, **{name: percent(row[name]) for name in names}} for row in rows]
    columns = {what: what, "num": "images", "median_probability": "median probability", "drop": "drop", share: share}
    correct = "correct class" if share == "accuracy" else "network's own top-1 on the original images"
    return Table(f"Probability of the {correct} ({rows[0]['network']})", columns, shown)

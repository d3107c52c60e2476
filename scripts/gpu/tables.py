"""What a visit found as Markdown, with each pass's distance from the floor."""

from typing import Any

TITLES = {
    "environment": "Machine and versions",
    "floor": "Measured ceilings",
    "correctness": "Errors against the golden numbers",
    "exactness": "Exactness",
    "speed": "Speed",
    "time": "Where the time goes",
    "kernels": "Ways of computing one operation",
    "lrpmax": "LRP-max in other batches",
    "compiling": "Compiling",
    "pipeline": "From files to statistics",
    "decoding": "Decoding alone",
    "commands": "Commands",
    "missing": "Not run",
}


def markdown(found: dict[str, list[dict[str, Any]]], missing: list[dict[str, Any]]) -> str:
    """The tables, one section each."""
    found = found | ({"speed": with_floor(found["speed"], found.get("floor", []))} if "speed" in found else {})
    sections = [f"### {title}\n\n{table(found[name])}" for name, title in TITLES.items() if found.get(name)]
    if missing:
        sections.append(f"### {TITLES['missing']}\n\n{table(missing)}")
    return "\n\n".join(sections) + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; the columns are the keys of all rows, in their order."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_floor(rows: list[dict[str, Any]], ceilings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `of the floor`: the time that products or memory need at the measured rates, over the time taken.

    A row's GFLOP and GB are of one image; they are replaced by that share.
    """
    rates = {row["what"]: row["rate"] for row in ceilings}
    finished = []
    for row in rows:
        row = dict(row)
        gflop, gigabytes = row.pop("GFLOP", None), row.pop("GB", None)
        compute, copy = rates.get(f"products, {row.get('precision')}"), rates.get("copy")
        if gflop and compute and copy and row.get("images/s"):
            seconds = max(gflop / (1e3 * compute), gigabytes / copy)
            bound = "products" if gflop / (1e3 * compute) >= gigabytes / copy else "memory"
            row["of the floor"] = f"{100 * seconds * row['images/s']:.0f} % ({bound})"
        finished.append(row)
    return finished


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")

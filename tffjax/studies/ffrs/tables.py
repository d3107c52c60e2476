"""What FF-RS says, as tables; see `statistic` for the numbers and `bootstrap` for how sure they are."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tffjax.results.generators import ALL
from tffjax.studies.ffrs.bootstrap import Intervals, intervals, near_cut, topk_overlap
from tffjax.studies.ffrs.statistic import Design, Totals, omega, order, standard_error
from tffjax.studies.rankings import Channel, Ranking


def ranking(totals: Totals, design: Design, channels: Sequence[Channel], label: int) -> Ranking:
    """The channels by omega; sites that no relevance reaches come last with 0."""
    values = omega(totals, design, label)[0]
    best = order(values)
    return Ranking(tuple(channels[index] for index in best), np.nan_to_num(values[best]))


def statistics(totals: Totals, design: Design, channels: Sequence[Channel], label: int, k: int) -> pa.Table:
    """One row a channel, by rank.

    rank, key, site, channel, omega, standard_error, images (kept, with relevance at this site), and from the bootstrap
    (null without one) the 95 % intervals low to high of omega, rank_low to rank_high of the rank, and the probability
    in_top to be in the top-k.
    """
    values = omega(totals, design, label)[0]
    best = order(values)
    columns = {
        "label": [design.labels[label]] * len(best),
        "rank": np.arange(1, len(best) + 1),
        "key": [channels[index].key for index in best],
        "site": [channels[index].site for index in best],
        "channel": [channels[index].index for index in best],
        "omega": values[best],
        "standard_error": standard_error(totals, design, label)[best],
        "images": np.repeat(totals.counts[label, 0], design.site_channels).astype(np.int64)[best],
    }
    replicates = omega(totals, design, label, design.parts[2])
    if design.replicates and not np.isnan(replicates).all():
        found = intervals(replicates, k)
        columns |= {name: values[best] for name, values in found._asdict().items()}
        columns["near_cut"] = near_cut(values, found.in_top, k)[best]
    else:
        for name in Intervals._fields:
            columns[name] = pa.nulls(len(best), pa.int64() if name.startswith("rank") else pa.float64())
        columns["near_cut"] = pa.nulls(len(best), pa.bool_())
    return pa.table(columns)


def breakdown(totals: Totals, design: Design, channels: Sequence[Channel]) -> pa.Table:
    """omega of every channel in every group of images: label, generator, category ("" for all), key, omega, images."""
    keys = [channel.key for channel in channels]
    tables = []
    for label, name in enumerate(design.labels):
        values = omega(totals, design, label, design.parts[0])
        counts = np.repeat(totals.counts[label, design.parts[0]], design.site_channels, axis=1).astype(np.int64)
        for (generator, category), row, count in zip(design.groups, values, counts, strict=True):
            if count.any():
                fixed = {"label": name, "generator": generator, "category": category}
                columns = {key: pa.array([value] * len(keys)).dictionary_encode() for key, value in fixed.items()}
                tables.append(pa.table({**columns, "key": keys, "omega": row, "images": count}))
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def stability(totals: Totals, design: Design, label: int, k: int) -> pa.Table:
    """Share of the final top-k that nested random subsets of the images find: images, overlap; smallest first."""
    counts = totals.counts[label, design.parts[1]].max(axis=1).astype(np.int64)
    overlap = topk_overlap(omega(totals, design, label, design.parts[1]), k)
    used = counts > 0
    label_column = [design.labels[label]] * int(used.sum())
    return pa.table({"label": label_column, "images": counts[used][::-1], "overlap": overlap[used][::-1]})


def image_counts(totals: Totals, design: Design) -> pa.Table:
    """Images kept and dropped by the confidence filter: label, generator, category, kept, dropped; then over all."""
    rows = [
        {"label": name, "generator": generator, "category": category, "kept": int(kept), "dropped": int(dropped)}
        for label, name in enumerate(design.labels)
        for (generator, category), (kept, dropped) in zip(
            (*design.groups, (ALL, "")), np.roll(totals.images[label], -1, axis=0), strict=True
        )
        if kept + dropped
    ]
    return pa.Table.from_pylist(rows)


def unreached(totals: Totals, design: Design, sites: Sequence[str]) -> dict[str, int]:
    """Site -> how many of the kept images have no relevance there, so that they are left out of its mean."""
    missing = (totals.images[:, 0, 0, None] - totals.counts[:, 0]).sum(axis=0)
    return {site: int(count) for site, count in zip(sites, missing, strict=True) if count}

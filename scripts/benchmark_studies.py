"""Compare the studies with PyTorch side by side in one process: rank, dropout, lrpmax, color.

    python scripts/benchmark_studies.py --ranking R50.csv                       all of them, ResNet-50
    python scripts/benchmark_studies.py --only lrpmax --arch efficientnet_b0 --ranking B0.csv

As in `benchmark.py`, contenders take turns and the median of several rounds counts; weights are random. The ranking has
the channels that dropout, lrpmax and color work on (the first 114 or 27).
"""

import argparse
import functools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmark import measure, random_model
from PIL import Image
from tffjax.conversion import twin, twin_lrp

import tffjax
from tffjax.compile.logits import logits_of
from tffjax.compile.passes import Pass, micro_batch_of
from tffjax.data import Batch, find_images, plan
from tffjax.data.preprocessing import Transform
from tffjax.lrp.explain import relevance
from tffjax.nn import Model, network_of
from tffjax.nn.card import Card, Normalization
from tffjax.nn.normalization import normalized
from tffjax.nn.sites import sites_of
from tffjax.pipeline.streaming import stream
from tffjax.studies.color.activations import max_activations
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.ffrs.statistic import Design, relevance_shares
from tffjax.studies.ffrs.sums import FFRSSums
from tffjax.studies.lrpmax.neurons import Neurons, neuron_maps
from tffjax.studies.lrpmax.plan import plan as plan_neurons
from tffjax.studies.lrpmax.search import maxima
from tffjax.studies.rankings import Channel, Ranking, all_channels, read_ranking

BATCH = 16
SIDE = 224
MANY = 10**6  # images: the price of compiling does not count
DEEP = {"resnet50": "layer4", "efficientnet_b0": "_blocks.12"}


def rank(arch: str, model: Model, net: torch.nn.Module, ranking: Ranking, rounds: int) -> None:
    """The whole pipeline over image files, against LRP alone and a plain forward + backward in PyTorch."""
    count = 3 * BATCH
    model = tffjax.prepare(model, "beta0")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, SIDE, SIDE, 3)), jnp.float32)
    signs = np.ones(BATCH, np.int32)
    shares = functools.partial(
        Pass(relevance_shares, static_argnames=("micro_batch",)), micro_batch=micro_batch_of(model, images)
    )
    x = torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).contiguous()
    folded = twin.canonize(net)
    last = twin.canonize(net).to(memory_format=torch.channels_last)
    last_x = x.contiguous(memory_format=torch.channels_last)

    def gradient(net: torch.nn.Module, x: torch.Tensor) -> None:
        x = x.detach().requires_grad_()
        torch.autograd.grad(net(x).sum(), x)

    def times(run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: [run() for _ in range(count // BATCH)] and None

    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "rank: the whole pipeline, from JPEG files": pipeline(Path(folder), model, shares, signs, count),
            "rank: LRP and statistics": times(lambda: jax.block_until_ready(shares(model, images, signs))),
            "LRP alone": times(lambda: relevance(model, images).input.block_until_ready()),
            "torch forward+backward (no LRP)": times(lambda: gradient(folded, x)),
            "torch channels-last forward+backward (no LRP)": times(lambda: gradient(last, last_x)),
        }
        report(f"{arch}, batch {BATCH}, {SIDE}x{SIDE}, s an image", measure(runs, rounds), count)


def pipeline(folder: Path, model: Model, shares: Any, signs: np.ndarray, count: int) -> Callable[[], None]:
    """What `tffjax rank` does for `count` photograph-like JPEG files of 256x256, but for writing results."""
    rng = np.random.default_rng(0)
    (folder / "g" / "1_fake").mkdir(parents=True)
    for i in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((256, 256))
        smooth.save(folder / "g" / "1_fake" / f"{i}.jpg", quality=90)
    files = find_images([folder])
    transform = Transform(SIDE, SIDE)
    work = plan(files, transform, BATCH)
    design = Design(tuple(site.channels for site in sites_of(model)), (("g", ""),), 12, 200, 0)
    sites = [site.name for site in sites_of(model)]
    names = [str(file.path) for file in files]
    card = Card("resnet50", 1)

    def run() -> None:
        sums = FFRSSums(design, sites, files, names, [1] * count, card, confidence=0.0)

        def step(batch: Batch) -> Any:
            return shares(model, normalized(jnp.asarray(batch.images), Normalization()), signs)

        for done in stream(step, work, files, transform, BATCH):
            sums.add(done.batch, done.outputs)

    return run


def dropout(arch: str, model: Model, net: torch.nn.Module, ranking: Ranking, rounds: int) -> None:
    """16 settings at once, from anywhere and from the last stage, against one plain forward pass each."""
    rng = np.random.default_rng(0)
    channels = all_channels(model)
    starts = [index for index, channel in enumerate(channels) if channel.site.startswith(DEEP[arch])]
    k = network_of(arch).paper_k

    def draw(first: int) -> list[Setting]:
        picks = [rng.choice(np.arange(first, len(channels)), k, replace=False) for _ in range(16)]
        return [Setting(f"s{i}", tuple(channels[j] for j in sorted(pick))) for i, pick in enumerate(picks)]

    anywhere = [Setting(s.name, (channels[0], *s.channels[1:])) for s in draw(0)]  # all begin at the first site
    deep = draw(starts[0])
    images = jnp.asarray(rng.normal(size=(BATCH, SIDE, SIDE, 3)), jnp.float32)
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    plain, last = x.contiguous(), x.contiguous(memory_format=torch.channels_last)
    hooked = with_hooks(net, anywhere[0].channels)

    def torch_masked(x: torch.Tensor, form: torch.memory_format) -> None:
        with torch.no_grad():
            hooked.to(memory_format=form)(x)

    runs = {
        "dropout: 16 settings from the first site": lambda: masked_logits(model, images, anywhere),
        f"dropout: 16 settings from {DEEP[arch]}": lambda: masked_logits(model, images, deep),
        "our plain forward": lambda: logits_of(model, images).block_until_ready(),
        "torch forward with masking hooks": lambda: torch_masked(plain, torch.contiguous_format),
        "torch channels-last forward with masking hooks": lambda: torch_masked(last, torch.channels_last),
    }
    times = measure(runs, rounds)
    settings = {name: 16 if name.startswith("dropout") else 1 for name in times}
    report(
        f"{arch}, batch {BATCH}, {SIDE}x{SIDE}, s a setting and image",
        {name: [value / settings[name] for value in values] for name, values in times.items()},
        BATCH,
    )


def with_hooks(net: torch.nn.Module, channels: tuple[Channel, ...]) -> torch.nn.Module:
    """The network with one hook for each masked channel, as the released code masks."""
    for channel in channels:
        mask = torch.ones(1, channel.channels, 1, 1)
        mask[0, channel.index] = 0
        net.get_submodule(channel.site).register_forward_hook(lambda module, inputs, y, mask=mask: y * mask)
    return net


def lrpmax(arch: str, model: Model, net: torch.nn.Module, ranking: Ranking, rounds: int) -> None:
    """The whole list, and parts of it, against PyTorch explaining one (image, channel) pair at a time. 256x256.

    All channels are explained in all images: "explaining" when the positions of the maxima are known, "with search"
    with the forward pass that finds them, which all channels of a row share. Early sites get 32 images, so that their
    batches of crops are filled as those of a real run over thousands of images are; deep ones and the list get 8.
    """
    side = 256
    model = tffjax.prepare(model, "beta0")
    images = np.asarray(np.random.default_rng(0).normal(size=(32, side, side, 3)), np.float32)
    hooked, _ = twin_lrp.with_rules(net)
    x = torch.from_numpy(images[:1]).permute(0, 3, 1, 2).contiguous()
    groups: dict[str, list[Channel]] = {"the whole list": list(ranking.channels[: network_of(arch).paper_k])}
    for channel in ranking.channels[: network_of(arch).paper_k]:
        groups.setdefault(stage(channel.site), []).append(channel)
    slow: dict[str, float] = {}
    print("milliseconds per (image, channel)")
    print(f"{'':24}{'channels':>8}{'images':>8}{'explaining':>12}{'with search':>12}{'torch':>8}{'ratios':>16}")
    for name, channels in groups.items():
        known, search = explain_all(model, images, channels)
        deep = any(channel.site.startswith(("layer3", "layer4")) for channel in channels)
        count = 8 if deep else len(images)
        runs = {"known": functools.partial(known, count), "search": functools.partial(search, count)}
        times = measure(runs, rounds)
        for channel in channels:
            if channel.site not in slow:
                one = functools.partial(twin_lrp.explain_maximum, hooked, x, channel.site, channel.index)
                one()
                slow[channel.site] = statistics.median(timed(one) for _ in range(3))
        theirs = sum(slow[channel.site] for channel in channels) / len(channels)
        explaining = statistics.median(times["known"]) / count / len(channels)
        both = statistics.median(map(sum, zip(*times.values(), strict=True))) / count / len(channels)
        print(f"{name:24}{len(channels):8}{count:8}{1e3 * explaining:12.3f}{1e3 * both:12.3f}{1e3 * theirs:8.1f}"
              f"{theirs / explaining:8.1f}{theirs / both:8.1f}")  # fmt: skip


def explain_all(
    model: Model, images: np.ndarray, channels: list[Channel]
) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """What explains these channels in the first images, their positions known, and the search for them."""
    sites = [channel.site for channel in channels]
    how = plan_neurons(model, images.shape[1:3], {site: sites.count(site) for site in sites}, MANY)
    found = jax.tree.map(np.asarray, maxima(model, jnp.asarray(images), channels))

    def explain(count: int) -> Any:
        rows, columns = (a.ravel() for a in np.indices((count, len(channels))))
        neurons = Neurons(rows, [channels[column] for column in columns], found.positions[rows, columns])
        return neuron_maps(model, how, images[:count], neurons, found.gates)

    return explain, lambda count: jax.tree.map(np.asarray, maxima(model, jnp.asarray(images[:count]), channels))


def color(arch: str, model: Model, net: torch.nn.Module, ranking: Ranking, rounds: int) -> None:
    """One pass over images and their grayscale versions, for all channels of the list and for one."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 2, SIDE, SIDE, 3)), jnp.float32)
    many, one = ranking.channels[: network_of(arch).paper_k], ranking.channels[:1]
    runs = {
        f"color: {len(many)} channels": lambda: jax.block_until_ready(max_activations(model, images, many)),
        "color: 1 channel": lambda: jax.block_until_ready(max_activations(model, images, one)),
        "our plain forward, twice": lambda: jax.block_until_ready([logits_of(model, images[:, v]) for v in (0, 1)]),
    }
    report(f"{arch}, batch {BATCH}, {SIDE}x{SIDE}, s an image (RGB and grayscale)", measure(runs, rounds), BATCH)


def stage(site: str) -> str:
    """The part of the network that a site is in."""
    parts = site.split(".")
    return ".".join(parts[:2]) if parts[0] == "_blocks" else parts[0]


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def report(title: str, times: dict[str, list[float]], count: int) -> None:
    """Seconds of each contender for one of `count`, and the first one's ratio to each, paired round by round."""
    first = next(iter(times))
    print(f"\n{title}")
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[first], values, strict=True))
        print(f"{name:52}{statistics.median(values) / count:9.4f}   first / this {ratio:6.2f}")


STUDIES = {"rank": rank, "dropout": dropout, "lrpmax": lrpmax, "color": color}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=list(DEEP), default="resnet50")
    parser.add_argument("--only", choices=list(STUDIES), action="append", help="default: all")
    parser.add_argument("--ranking", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {jax.devices()}, torch threads {torch.get_num_threads()}, "
          f"jax {jax.__version__}, torch {torch.__version__}")  # fmt: skip
    for name in options.only or STUDIES:
        model, net = random_model(options.arch)
        STUDIES[name](options.arch, model, net, read_ranking(options.ranking), options.rounds)


if __name__ == "__main__":
    main()

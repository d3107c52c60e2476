"""The study of a generator: images, masks, tables, the command, resuming, shards."""

import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import studies
from command import done, refused
from PIL import Image
from test_progan import latents_of, random_generator, small_detector

import tffjax
from tffjax.data import find_images
from tffjax.errors import InputError
from tffjax.nn.generator import GeneratorCard, draw_latents, pixels_of, save_generator
from tffjax.nn.normalization import normalized
from tffjax.studies.dropout.settings import family
from tffjax.studies.generator.generate import generate
from tffjax.studies.generator.passes import explain, masked
from tffjax.studies.generator.settings import count_of, masks_of, parse_percent, settings_of
from tffjax.studies.generator.tables import layer_table, masking_table
from tffjax.studies.rankings import Channel, Ranking, read_ranking

pytestmark = pytest.mark.extended

CARD = GeneratorCard(latent=3, widths=(10, 8), name="small")
CHANNELS = tuple(
    Channel(site, i, width)
    for site, width in (("4x4.dense", 10), ("4x4.conv", 10), ("8x8.conv0", 8), ("8x8.conv1", 8))
    for i in range(width)
)
RANKING = Ranking(CHANNELS[::-1], np.linspace(1, 0, len(CHANNELS)))


# Images


def test_images_depend_on_their_number_only():
    generator = random_generator(CARD)
    whole = generate(generator, seed=3, n=7, batch_size=4)
    part = generate(generator, seed=3, n=2, first=5, batch_size=4)
    np.testing.assert_array_equal(part.latents, whole.latents[5:])
    np.testing.assert_array_equal(part.pixels, whole.pixels[5:])
    expected = pixels_of(generator(jnp.asarray(whole.latents)))
    assert np.abs(whole.pixels.astype(int) - expected).max() <= 1  # another program rounds otherwise
    with pytest.raises(InputError, match="must be positive"):
        generate(generator, n=0)


def test_the_command_writes_images_that_are_read_as_fakes(tmp_path):
    save_generator(random_generator(CARD), tmp_path / "g")
    for out in ("a", "b"):
        done("generate", tmp_path / "g", "--n", 5, "--seed", 1, "--batch-size", 2, "--out", tmp_path / out)
    files = find_images([tmp_path / "a"])
    assert [(file.generator, file.label) for file in files] == [("small", 1)] * 5
    assert [file.path.read_bytes() for file in files] == [
        file.path.read_bytes() for file in find_images([tmp_path / "b"])
    ]
    made = generate(tmp_path / "g", seed=1, n=5, batch_size=2)
    np.testing.assert_array_equal(np.stack([np.asarray(Image.open(file.path)) for file in files]), made.pixels)
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "latents.npy"), made.latents)
    assert (tmp_path / "a" / "images.csv").read_text().splitlines()[1] == "small/1_fake/000000.png,1,0"
    assert "not empty" in refused("generate", tmp_path / "g", "--out", tmp_path / "a")


# Which channels are masked


def test_percentages():
    assert [count_of(percent, 4992) for percent in (1.0, 2.0, 5.0, 10.0, 0.001)] == [50, 100, 250, 500, 1]
    assert [parse_percent(text) for text in ("5%", "2.5", " 10 % ")] == [5.0, 2.5, 10.0]
    for text in ("0%", "51%", "-1", "five"):
        with pytest.raises(InputError, match="give a percentage"):
            parse_percent(text)


def test_the_sets_of_channels():
    found = settings_of(RANKING, 10.0, draws=5, seed=0)  # 4 of 36; 1, 1, 2 and 4 for 1, 2, 5 and 10 %
    counts = {}
    for setting in found:
        counts.setdefault(family(setting.name), []).append(len(setting.channels))
    assert counts == {
        "baseline": [0],
        **{f"{kind}-{k}": [k] * (many if kind == "random" else 1)
           for k, many in ((1, 2), (2, 2), (4, 5)) for kind in ("top", "low", "random")},
        "scale 8": [4],
    }  # fmt: skip
    by_name = {setting.name: set(setting.channels) for setting in found}
    assert by_name["top-4"] == set(CHANNELS[-4:])
    assert all(not by_name["top-4"] & by_name[f"random-4/{draw}"] for draw in range(5))
    masks = masks_of(found, CHANNELS)
    assert [mask.sum() for mask in masks] == [len(setting.channels) for setting in found]
    assert masks[1].tolist() == [channel in by_name["top-1"] for channel in CHANNELS]


def test_tables_by_hand():
    settings = settings_of(RANKING, 10.0, draws=2, seed=0)
    names = [setting.name for setting in settings]
    probability = np.full((3, len(settings)), 0.9)
    probability[:, names.index("top-4")] = [0.1, 0.2, 0.6]
    probability[:, names.index("random-4/0")] = 0.7
    measures = {name: np.ones((3, len(settings))) for name in ("logit", "psnr", "color", "detail")}
    rows = {
        row["setting"]: row for row in masking_table(settings, 36, {"probability": probability, **measures}).to_pylist()
    }
    top, random = rows["top-4"], rows["random-4"]
    assert (top["k"], top["draws"], top["median"], top["detected"]) == (4, 1, 0.2, 1 / 3)
    assert top["drop"] == pytest.approx(0.7)
    assert top["percent"] == pytest.approx(100 / 9)
    assert (random["draws"], random["median"], random["median_low"], random["median_high"]) == (2, 0.8, 0.7, 0.9)
    layers = layer_table(CHANNELS, CHANNELS[-9:], np.array([[1.0, 0.5, 0.25, 1.0], [0.0, 0.5, 0.75, 1.0]])).to_pylist()
    assert [row["top"] for row in layers] == [0, 0, 1, 8]
    assert [row["relevance"] for row in layers] == [0.5, 0.5, 0.5, 1.0]
    assert layers[2]["share"] == 1 / 8


# One batch


@pytest.fixture(scope="module")
def pair():
    generator, detector = random_generator(CARD), small_detector()
    return tffjax.prepare(detector, "beta0", size=(8, 8)), generator


@pytest.mark.extended
def test_masking_sets_channels_to_zero(pair):
    """Against the generator with the kernel's and the bias's columns of the channel set to zero."""
    detector, generator = pair
    latents = latents_of(3, CARD)
    masks = np.zeros((3, 36), bool)
    masks[1, [2, 21]] = True  # 4x4.dense #2, 8x8.conv0 #1
    masks[2] = True
    found = masked(detector, generator, latents, jnp.asarray(masks))
    params = {name: dict(layer) for name, layer in generator.model.variables["params"].items()}
    for name, index in (("4x4.dense", 2), ("8x8.conv0", 1)):
        params[name] = {key: array.at[..., index].set(0) for key, array in params[name].items()}
    changed = type(generator.model)(generator.model.module, {"params": params})
    before, after = (saved(make(latents[:, None, None])) for make in (generator.model, changed))
    logits = [detector(normalized(pixels, detector.card.normalization))[:, 0] for pixels in (before, after)]
    np.testing.assert_allclose(found.logits[:, :2], np.stack(logits, axis=1), rtol=0, atol=1e-4)
    error = np.square((before.astype(float) - after) / 255).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.psnr[:, 1], -10 * np.log10(error), rtol=1e-3)
    shift = (before.astype(float) - after).mean(axis=(1, 2))
    np.testing.assert_allclose(found.color[:, 1], np.sqrt(np.square(shift).mean(axis=1)), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.psnr[:, 0], np.full(3, 100.0, np.float32))
    np.testing.assert_array_equal(found.detail[:, 0], np.ones(3, np.float32))
    assert np.asarray(found.detail[:, 2]).max() < 1e-9  # of the color that the last bias alone makes


def saved(images):
    return pixels_of(np.asarray(images))


@pytest.mark.extended
def test_what_a_batch_says(pair):
    detector, generator = pair
    latents = latents_of(3, CARD)
    found = jax.jit(explain)(detector, generator, latents)
    images = np.asarray(generator(latents))
    np.testing.assert_allclose(found.clamped, (np.abs(images) > 1).mean(axis=(1, 2, 3)), rtol=1e-6)
    assert found.shares.shares.shape == (3, 36)
    assert found.net.shape == (3, 4)
    np.testing.assert_allclose(
        found.saved, detector(normalized(saved(images), detector.card.normalization))[:, 0], atol=1e-4
    )
    sure = np.abs(images).max(axis=(1, 2, 3)) <= 1
    np.testing.assert_allclose(found.unclamped[sure], found.shares.logits[sure, 0], atol=1e-4)
    backwards = jax.jit(explain, static_argnames="sign")(detector, generator, latents, sign=-1)
    np.testing.assert_allclose(backwards.net, -found.net, rtol=0, atol=1e-6)


# The whole study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of the command on small networks, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("generator")
    save_generator(random_generator(CARD), folder / "g")
    with studies.networks_by_name():
        done(*words(folder, "run"))
    return folder


def words(folder, out, *more):
    return ("generator", folder / "detector", folder / "g", "--n", 7, "--draws", 2, "--batch-size", 2, "--bootstrap", 5,
            "--out", folder / out, *more)  # fmt: skip


NAMES = ("masking.csv", "layers.csv", "ranking_generator.csv", "statistics.parquet", "per_image.parquet")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_the_command_writes_tables_and_figures(made):
    ranking = read_ranking(made / "run" / "ranking_generator.csv")
    assert set(ranking.channels) == set(CHANNELS)
    rows = studies.read(made / "run" / "masking.csv")
    assert [row["setting"] for row in rows][:2] == ["baseline", "top-1"]
    for figure in ("figure-m1", "masking", "layers", "omega", "images"):
        assert (made / "run" / f"{figure}.png").stat().st_size > 1000
    results = json.loads((made / "run" / "run.json").read_text())["results"]
    assert (results["images"], results["channels"], results["k"]) == (7, 36, 2)
    assert len(studies.read(made / "run" / "per_image.parquet")) == 7
    assert draw_latents(0, [6], 3).shape == (1, 3)


@pytest.mark.extended
@pytest.mark.parametrize("batches", [5, studies.slow(1), studies.slow(7)])  # two passes of four
def test_an_interrupted_run_goes_on_to_the_same_bytes(made, batches, monkeypatch):
    monkeypatch.setattr("tffjax.pipeline.passes.SAVE_SECONDS", 0.0)
    out = made / f"interrupted{batches}"
    with studies.networks_by_name():
        studies.interrupt(batches, *words(made, out.name))
        done("generator", "--resume", out)
    assert contents(out) == contents(made / "run")


@pytest.mark.extended
def test_shards_give_the_same_bytes(made):
    with studies.networks_by_name():
        for _, index in itertools.product(range(2), range(3)):  # two passes
            done(*words(made, "sharded", "--shard", f"{index}/3"))
            if index == 2:
                done("merge", made / "sharded")
    assert contents(made / "sharded") == contents(made / "run")


def test_the_report_has_its_part(made, tmp_path):
    done("report", made / "run", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'id="generator"' in page
    assert page.count('data-name="generator ') == 4
    assert "is what masking the top 2 of its channels makes of the median probability" in page


def test_what_is_refused(made, tmp_path):
    with studies.networks_by_name():
        assert "give a percentage" in refused(*words(made, "no", "--top", "80%"))
        assert "needs a detector with one output" in refused(
            "generator", made / "classifier", made / "g", "--out", tmp_path / "x"
        )
        shutil.copytree(made / "g", tmp_path / "damaged")
        (tmp_path / "damaged" / "files.json").unlink()
        assert "damaged" in refused("generator", made / "detector", tmp_path / "damaged", "--out", tmp_path / "x")
        assert "would rank 36 channels" in done(*words(made, "dry", "--dry-run")).out
    assert not (tmp_path / "x").exists()

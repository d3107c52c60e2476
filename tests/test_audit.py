"""The audit on made data: clean, with each trap alone, with duplicates."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import studies
from command import done, refused, tffjax_command
from PIL import Image

from tffjax.data import find_images
from tffjax.data.duplicates import DISTANCE, duplicate_groups
from tffjax.data.facts import Facts, all_facts, block_grid, header_facts, jpeg_quality, perceptual_hash
from tffjax.data.preprocessing import Transform
from tffjax.data.traps import TRAPS, facts_of, measure, tree_accuracy, warning_of
from tffjax.errors import InputError
from tffjax.pipeline.packing import Packing, pack
from tffjax.pipeline.reporter import Silent
from tffjax.report.audit import ALL, audit, findings

COUNT = 24
"""Images a label: enough that an accuracy of 1 is seven standard errors above chance."""


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth colors under some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), int)
    return np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)


def coded(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    with io.BytesIO() as stream:
        Image.fromarray(pixels).save(stream, form, **options)
        return stream.getvalue()


def from_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(coded(pixels, "JPEG", quality=quality))))


def exif(seed: int) -> bytes:
    pixels = Image.Exif()
    pixels[0x010F] = "camera"
    return coded(picture(seed), exif=pixels)


def opaque(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


Make = Callable[[int], bytes]

MADE: dict[str, tuple[Make, Make]] = {
    "format": (lambda seed: coded(picture(seed)), lambda seed: coded(picture(seed), "WEBP", lossless=True)),
    "size": (lambda seed: coded(picture(seed)), lambda seed: coded(picture(seed, 72, 72))),
    "aspect": (lambda seed: coded(picture(seed, 48, 80)), lambda seed: coded(picture(seed, 80, 48))),
    "JPEG quality": (
        lambda seed: coded(picture(seed), "JPEG", quality=95),
        lambda seed: coded(picture(seed), "JPEG", quality=94),
    ),
    "JPEG sampling": (
        lambda seed: coded(picture(seed), "JPEG", quality=99, subsampling=0),
        lambda seed: coded(picture(seed), "JPEG", quality=99, subsampling=2),
    ),
    "metadata": (lambda seed: coded(picture(seed)), exif),
    "bit depth": (lambda seed: coded(picture(seed)), lambda seed: coded(opaque(picture(seed)))),
    "JPEG grid": (lambda seed: coded(picture(seed)), lambda seed: coded(from_jpeg(picture(seed), 40))),
    "mean color": (
        lambda seed: coded(picture(seed)),
        lambda seed: coded(np.clip(picture(seed) + np.array([25, 0, 0]), 0, 255).astype(np.uint8)),
    ),
}
"""How a real and a fake image are made such that one trap tells them apart, and no other."""


def make(folder: Path, real: Make, fake: Make, count: int = COUNT, generator: str = "gan") -> Path:
    for i in range(count):
        for label, maker, seed in (("0_real", real, i), ("1_fake", fake, 1000 + i)):
            path = folder / generator / label / f"{i:02}.img.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(maker(seed))
    return folder


def found_in(folder: Path) -> list[str]:
    files = find_images([folder])
    seen = findings(files, facts_of(files, all_facts), [""] * len(files))
    assert seen.groups == ()
    return [trap.name for generator, trap in seen.found if generator == ALL]


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_alone_is_found(trap, tmp_path):
    assert found_in(make(tmp_path, *MADE[trap])) == [trap]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "mixed"])
def test_clean_data_have_no_trap(kind, tmp_path):
    """Of mixed formats, sizes and qualities, as long as they do not depend on the label."""

    def image(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        if kind == "PNG":
            return coded(picture(seed))
        if kind == "JPEG":
            return coded(picture(seed), "JPEG", quality=int(rng.integers(60, 96)))
        height, width = rng.integers(60, 90, 2).tolist()
        return coded(picture(seed, height, width), *rng.choice(["PNG", "JPEG", "WEBP"], 1).tolist())

    folder = make(tmp_path, image, image)
    assert found_in(folder) == []
    assert warning_of(find_images([folder])) is None


def test_a_trap_of_one_generator_among_many(tmp_path):
    for generator in ("a", "b", "c", "d"):
        clean = MADE["format"][0]
        make(tmp_path, clean, MADE["format"][generator == "c"], generator=generator)
    files = find_images([tmp_path])
    facts = facts_of(files, header_facts)
    traps = {
        name: measure("format", [facts[i] for i in members], np.array([files[i].label == 1 for i in members]))
        for name in "abc"
        if (members := [i for i, file in enumerate(files) if file.generator == name])
    }
    assert [trap.gives_away for trap in traps.values()] == [False, False, True]
    assert (traps["c"].accuracy, traps["c"].real, traps["c"].fake) == (1.0, "PNG 100%", "WEBP 100%")
    assert warning_of(files).startswith("format alone tells real from fake images of c: 100% right (real: PNG 100%; ")


def test_few_images_prove_nothing(tmp_path):
    """Three of each are all told apart, and that happens by chance as well."""
    files = find_images([make(tmp_path, *MADE["format"], count=3)])
    trap = measure("format", facts_of(files, header_facts), np.array([file.label == 1 for file in files]))
    assert trap.accuracy == 1.0
    assert not trap.gives_away
    assert np.isnan(measure("JPEG quality", facts_of(files, header_facts), np.array([True, False] * 3)).accuracy)


def test_tree_accuracy_is_balanced_and_cross_validated():
    rng = np.random.default_rng(0)
    labels = np.arange(1000) < 100
    assert abs(tree_accuracy(rng.normal(size=(1000, 3)), labels) - 0.5) < 0.1
    assert tree_accuracy(np.full((1000, 1), 2.0), labels) == 0.5
    assert tree_accuracy(labels[:, None] + rng.normal(0, 0.01, (1000, 1)), labels) == 1.0


def test_facts_of_a_jpeg(tmp_path):
    path = tmp_path / "0.jpg"
    for quality in (25, 30, 50, 75, 90, 95, 100):
        path.write_bytes(
            coded(picture(0, 40, 56), "JPEG", quality=quality, subsampling=1, progressive=True, dpi=(7, 7))
        )
        facts = header_facts(find_images([path])[0])
        assert (facts.format, facts.height, facts.width, facts.depth) == ("JPEG", 40, 56, "RGB")
        assert abs(facts.quality - quality) <= 1
        assert (facts.sampling, facts.metadata) == ("4:2:2 progressive", "dpi")
    assert jpeg_quality(3688) == 50
    path.write_bytes(coded(np.zeros((9, 9), np.uint8), "JPEG"))
    assert header_facts(find_images([path])[0]).sampling == "gray"


def test_facts_of_deep_and_small_images(tmp_path):
    path = tmp_path / "0.png"
    path.write_bytes(coded(np.zeros((3, 5), np.uint16)))
    facts = all_facts(find_images([path])[0])
    assert (facts.depth, facts.grid, facts.hash, facts.color) == ("I;16 16 bit", (0.0, 0.0), None, (0.0, 0.0, 0.0))
    path.write_bytes(coded(picture(1), pnginfo=None, gamma=0.5))
    assert np.isnan(header_facts(find_images([path])[0]).quality)


@pytest.mark.parametrize("shift", [0, 3])
def test_the_block_grid_is_seen_at_its_place(shift):
    plain, blocks = picture(0, 96, 96), from_jpeg(picture(0, 96, 96), 40)
    assert max(np.abs(block_grid(plain))) < 0.2
    corner, anywhere = block_grid(blocks[shift:, shift:])
    assert anywhere > 0.5
    assert (corner == anywhere) == (shift == 0)


def test_facts_are_those_of_packed_bytes_and_never_of_pixels(tmp_path):
    folder = make(tmp_path / "data", *MADE["JPEG quality"], count=2)
    pack(Packing((folder,)), tmp_path / "records", 1, reporter=Silent())
    pack(Packing((folder,), Transform()), tmp_path / "pixels", 1, reporter=Silent())
    files, packed = (find_images([place]) for place in (folder, tmp_path / "records"))
    assert facts_of(packed, all_facts) == facts_of(files, all_facts)
    with pytest.raises(InputError, match="only its pixels are packed"):
        header_facts(find_images([tmp_path / "pixels"])[0])
    assert warning_of(find_images([tmp_path / "pixels"])) is None


def with_hash(number: int, file: int) -> Facts:
    return Facts("PNG", 1, 1, "RGB", "", 1.0, "", sha256=bytes([file]), hash=number)


def test_near_hashes_are_grouped_as_by_hand():
    """Against all pairs."""
    rng = np.random.default_rng(0)
    roots = rng.integers(0, 2**63, 30, np.uint64)
    hashes = [int(root) for root in roots]
    for root in hashes[:12]:
        for bits in rng.integers(1, 6, 2):
            flipped = root
            for bit in rng.choice(64, bits, replace=False):
                flipped ^= 1 << int(bit)
            hashes.append(flipped)
    order = rng.permutation(len(hashes))
    hashes = [hashes[i] for i in order]
    linked = [{i} for i in range(len(hashes))]
    for i in range(len(hashes)):
        for j in range(i):
            if (hashes[i] ^ hashes[j]).bit_count() <= DISTANCE and linked[i] is not linked[j]:
                whole = linked[i] | linked[j]
                for member in whole:
                    linked[member] = whole
    expected = {frozenset(group) for group in linked if len(group) > 1}
    groups = duplicate_groups([with_hash(h, i) for i, h in enumerate(hashes)], [None] * len(hashes), [""] * len(hashes))
    assert {frozenset(group.members) for group in groups} == expected
    assert len(expected) > 5


def test_duplicates_across_labels_and_splits():
    facts = [with_hash(h, file) for h, file in ((0, 0), (0, 0), (2**40 - 1, 1), (2**40, 2), (2**40 + 1, 3), (2**20, 4))]
    groups = duplicate_groups(facts, [0, 1, 0, 1, 1, 0], ["train", "train", "", "train", "test", "test"])
    exact, near = ((group.kind, group.members, group.labels, group.splits) for group in groups)
    assert exact == ("exact", (0, 1), True, False)
    assert near == ("near", (0, 3, 4, 5), True, True)  # one bit apart, or two


def test_a_picture_keeps_its_hash():
    pixels = picture(3, 96, 96)
    for other in (from_jpeg(pixels, 60), np.asarray(Image.fromarray(pixels).resize((80, 80)))):
        assert (perceptual_hash(pixels) ^ perceptual_hash(other)).bit_count() <= DISTANCE
    assert (perceptual_hash(pixels) ^ perceptual_hash(picture(4, 96, 96))).bit_count() > 3 * DISTANCE


def test_audit_command(tmp_path):
    folder = make(tmp_path / "data", *MADE["format"])
    clean = make(tmp_path / "clean", MADE["format"][0], MADE["format"][0])
    assert "0 groups of duplicates" in done("audit", clean, "--out", tmp_path / "1").out
    ended = tffjax_command("audit", folder, "--out", tmp_path / "2")
    assert ended.code == 1
    assert ended.last == "tffjax: failed: labels are given away by format of all: 1.000"
    rows = pyarrow.csv.read_csv(tmp_path / "2" / "traps.csv").to_pylist()
    assert [row["trap"] for row in rows if row["gives_away"]] == ["format"]
    page = (tmp_path / "2" / "audit.html").read_text()
    assert "Write all images in one format" in page
    assert json.loads((tmp_path / "2" / "run.json").read_text())["results"]["gives_away"] == ["format of all: 1.000"]
    done("audit", folder, "--out", tmp_path / "3", "--limit", 1)
    assert "--overwrite" in refused("audit", folder, "--out", tmp_path / "2")


def test_audit_names_duplicates_across_splits(tmp_path):
    make(tmp_path / "data", MADE["format"][0], MADE["format"][0])
    (tmp_path / "other" / "gan" / "1_fake").mkdir(parents=True)
    other = tmp_path / "other" / "gan" / "1_fake" / "x.png"
    other.write_bytes((tmp_path / "data" / "gan" / "1_fake" / "03.img.png").read_bytes())
    run = audit([tmp_path / "data", tmp_path / "other"], tmp_path / "out", reporter=Silent())
    assert run.summary["misplaced_duplicates"] == 1
    assert run.table("duplicates")["path"].to_pylist() == ["data/gan/1_fake/03.img.png", "other/gan/1_fake/x.png"]
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        audit(tmp_path / "none.png", tmp_path / "again", reporter=Silent())


@pytest.mark.parametrize("command", ["predict", "rank", "dropout"])
def test_studies_warn(command, tmp_path):
    folder = make(tmp_path / "data", *MADE["format"])
    options = ("--ranking", studies.make_ranking(tmp_path / "r.csv"), "--k", 1) if command == "dropout" else ()
    with studies.networks_by_name():
        ended = done(command, "decisive", folder, *options, "--dry-run", "--out", tmp_path / "out")
    assert "format alone tells real from fake images: 100% right (real: PNG 100%; fake: WEBP 100%)" in ended.err


def test_real_data(shared):
    """StyleGAN2's real faces were JPEG once; cyclegan's zebras are made from its horses; nothing else."""
    files = find_images([shared / "data" / "gan-256"])
    seen = findings(files, facts_of(files, all_facts), [""] * len(files))
    assert {(name, trap.name) for name, trap in seen.found} == {
        (name, "JPEG grid") for name in (ALL, "stylegan2", "pix2pix")
    }
    assert next(trap.accuracy for name, trap in seen.found if name == "stylegan2") == 1.0
    assert {files[i].generator for group in seen.groups for i in group.members} == {"cyclegan"}
    assert not seen.misplaced
    files = find_images([shared / "data" / "forensynths-mini"])
    seen = findings(files, facts_of(files, all_facts), [""] * len(files))
    assert (seen.found, seen.groups) == ([], ())

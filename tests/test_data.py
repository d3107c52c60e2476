import dataclasses
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tffjax.data.loading
import tffjax.data.reading
from tffjax.data import ImageFile, Plan, batches, find_images, label_warning, other_extensions, plan
from tffjax.data.preprocessing import Transform, decode
from tffjax.errors import InputError

KEEP = Transform()


def save(path, height=4, width=4, value=None):
    """An image whose pixels are noise that its path seeds, or all `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, path.name)))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8) if value is None else value
    Image.fromarray(np.broadcast_to(np.uint8(pixels), (height, width, 3))).save(path)
    return path


def save_all(root, *names):
    for name in names:
        save(root / name)
    return root


def describe(root, files):
    return [(file.path.relative_to(root).as_posix(), file.label, file.generator, file.category) for file in files]


def images(root, *sizes):
    """One file for every (height, width), in this order."""
    return tuple(ImageFile(save(root / f"{i:03}.png", *size)) for i, size in enumerate(sizes))


def run(files, transform=KEEP, batch_size=4, **options):
    planned = plan(files, transform, batch_size)
    return list(batches(planned, files, transform, batch_size, **options))


# finding images


def test_forensynths_with_and_without_classes(tmp_path):
    save_all(
        tmp_path,
        "biggan/0_real/a.png",
        "biggan/1_fake/b.jpg",
        "progan/cat/0_real/c.webp",
        "progan/cat/1_fake/d.JPEG",
        "progan/dog/1_fake/sub/e.PNG",
    )
    assert describe(tmp_path, find_images([tmp_path])) == [
        ("biggan/0_real/a.png", 0, "biggan", ""),
        ("biggan/1_fake/b.jpg", 1, "biggan", ""),
        ("progan/cat/0_real/c.webp", 0, "progan", "cat"),
        ("progan/cat/1_fake/d.JPEG", 1, "progan", "cat"),
        ("progan/dog/1_fake/sub/e.PNG", 1, "progan", "dog"),
    ]


def test_plain_folder_is_unlabeled(tmp_path):
    save_all(tmp_path, "b.png", "a/c.png", "a.png")
    assert describe(tmp_path, find_images([tmp_path])) == [
        ("a/c.png", None, "", ""),
        ("a.png", None, "", ""),
        ("b.png", None, "", ""),
    ]


def test_folders_above_the_generator_do_not_matter(tmp_path):
    save_all(tmp_path, "test/progan/cat/1_fake/a.png")
    (file,) = find_images([tmp_path])
    assert (file.generator, file.category) == ("progan", "cat")


def test_the_innermost_label_folder_counts(tmp_path):
    save_all(tmp_path, "0_real/gaugan/1_fake/a.png")
    assert find_images([tmp_path])[0].label == 1


@pytest.mark.parametrize("given", ["data/biggan", "data/biggan/1_fake", "data/biggan/1_fake/a.png"])
def test_given_inside_a_generator(tmp_path, given):
    save_all(tmp_path, "data/biggan/1_fake/a.png")
    assert find_images([tmp_path / given]) == (ImageFile(tmp_path / "data/biggan/1_fake/a.png", 1, "biggan", ""),)


def test_relative_root_keeps_paths_as_given(tmp_path, monkeypatch):
    save_all(tmp_path, "stylegan/0_real/a.png")
    monkeypatch.chdir(tmp_path / "stylegan")
    for given, path in ((".", "0_real/a.png"), ("../stylegan", "../stylegan/0_real/a.png")):
        assert find_images([given]) == (ImageFile(Path(path), 0, "stylegan", ""),)


def test_linked_root_keeps_its_name(tmp_path):
    save_all(tmp_path, "v1/0_real/a.png")
    (tmp_path / "stylegan").symlink_to(tmp_path / "v1")
    assert find_images([tmp_path / "stylegan"])[0].generator == "stylegan"


def test_hidden_files_and_folders_are_ignored(tmp_path):
    save_all(tmp_path, "a.png", ".b.png", ".cache/c.png")
    assert describe(tmp_path, find_images([tmp_path])) == [("a.png", None, "", "")]


def test_hidden_folder_given_by_name_is_read(tmp_path):
    save_all(tmp_path / ".hidden", "a.png")
    assert len(find_images([tmp_path / ".hidden"])) == 1


def test_other_extensions_are_counted(tmp_path):
    save_all(tmp_path, "a.png", "b/c.tif", "b/D.TIF", ".e.gif")
    (tmp_path / "notes").touch()
    assert len(find_images([tmp_path])) == 1
    assert other_extensions([tmp_path, tmp_path / "a.png"]) == {".tif": 2, "": 1}


def test_a_given_file_is_taken_whatever_its_extension(tmp_path):
    path = save(tmp_path / "a.png").rename(tmp_path / "a.tmp")
    assert find_images([path]) == (ImageFile(path),)


def test_duplicates_are_kept_once(tmp_path, monkeypatch):
    root = save_all(tmp_path, "biggan/0_real/a.png", "biggan/0_real/b.png")
    monkeypatch.chdir(root)
    files = find_images([root / "biggan/0_real/b.png", root, "biggan", root / "biggan" / ".." / "biggan"])
    assert [file.path.name for file in files] == ["b.png", "a.png"]
    assert files[0].generator == "biggan"


def test_linked_folders_count_and_loops_end(tmp_path):
    """Generators may share their real images through a link."""
    save_all(tmp_path, "biggan/0_real/a.png", "gaugan/1_fake/b.png")
    (tmp_path / "gaugan" / "0_real").symlink_to(tmp_path / "biggan" / "0_real")
    (tmp_path / "gaugan" / "loop").symlink_to(tmp_path)
    assert describe(tmp_path, find_images([tmp_path])) == [
        ("biggan/0_real/a.png", 0, "biggan", ""),
        ("gaugan/0_real/a.png", 0, "gaugan", ""),
        ("gaugan/1_fake/b.png", 1, "gaugan", ""),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_depend_on_the_listing(tmp_path, monkeypatch, seed):
    names = [f"{generator}/{label}/{i}.png" for generator in "ab" for label in ("0_real", "1_fake") for i in range(4)]
    save_all(tmp_path, *names)
    listing = os.scandir

    class Shuffled:
        def __init__(self, folder):
            with listing(folder) as entries:
                self.entries = list(entries)
            np.random.default_rng(seed).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert [file.path for file in find_images([tmp_path])] == [tmp_path / name for name in names]


def test_missing_path(tmp_path):
    with pytest.raises(InputError, match=r"gone: no such file or folder"):
        find_images([tmp_path / "gone"])


def test_empty_folder_is_explained(tmp_path):
    save_all(tmp_path / "full", "a.png")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "empty" / "sub" / "a.txt").touch()
    (tmp_path / "empty" / "README").touch()
    with pytest.raises(InputError) as caught:
        find_images([tmp_path / "full", tmp_path / "empty"])
    for part in ("empty: no images", ".png, .jpg, .jpeg, .webp", "<generator>/0_real", "1 .txt", "1 without extension"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_forbidden_folder(tmp_path):
    (tmp_path / "sub").mkdir(mode=0)
    with pytest.raises(InputError, match=r"sub: cannot be listed \(Permission denied\)"):
        find_images([tmp_path])


# labels


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ([0, 1], None),
        ([0, 1, None], None),
        ([1, 1, None], ["all 2 labeled images are fake", "accuracy on real images", "AP"]),
        ([0], ["all 1 labeled images are real", "accuracy on fake images", "threshold"]),
        ([None, None, None], ["none of the 3 images has a label", "0_real or 1_fake", "only probabilities"]),
    ],
)
def test_label_warning(labels, parts):
    warning = label_warning([ImageFile(Path("x.png"), label) for label in labels])
    if parts is None:
        assert warning is None
    else:
        assert all(part in warning for part in parts)
        assert "\n" not in warning


# planning


def test_plan_buckets_by_size(tmp_path):
    files = images(tmp_path, (4, 6), (5, 5), (4, 6), (4, 6), (5, 5), (6, 4))
    planned = plan(files, KEEP, batch_size=2)
    assert [(batch.shape, batch.indices) for batch in planned.batches] == [
        ((4, 6), (0, 2)),
        ((4, 6), (3,)),
        ((5, 5), (1, 4)),
        ((6, 4), (5,)),
    ]
    assert planned.shapes == ((4, 6), (5, 5), (6, 4))
    assert planned.skipped == {}


def test_plan_uses_the_size_after_the_transform(tmp_path):
    files = images(tmp_path, (8, 12), (16, 24), (9, 8))
    assert plan(files, Transform(resize=4), 4).shapes == ((4, 6), (4, 4))
    assert plan(files, Transform(resize=4, crop=3), 4).shapes == ((3, 3),)


def test_plan_does_not_read_headers_if_it_crops():
    files = [ImageFile(Path("nowhere.png"))] * 3
    assert plan(files, Transform(crop=7), 2).shapes == ((7, 7),)


def test_plan_skips_unreadable_headers(tmp_path):
    files = images(tmp_path, (4, 4), (4, 4), (4, 4))
    files[1].path.write_bytes(b"no image")
    planned = plan(files, KEEP, 4)
    assert [batch.indices for batch in planned.batches] == [(0, 2)]
    assert planned.skipped == {1: f"{files[1].path}: not a PNG, JPEG or WebP image"}


def test_plan_skips_what_cannot_be_resized(tmp_path):
    files = images(tmp_path, (1, 2000), (4, 4))
    planned = plan(files, Transform(resize=1000), 4)
    assert planned.shapes == ((1000, 1000),)
    assert planned.skipped == {0: f"{files[0].path}: a 1x2000 image is too elongated to resize its short side to 1000"}


def test_plan_of_many_files_keeps_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tffjax.data.loading, "_HEADERS_PER_TASK", 3)
    sizes = [(1 + i % 3, 2) for i in range(20)]
    planned = plan(images(tmp_path, *sizes), KEEP, 100)
    assert [batch.indices for batch in planned.batches] == [tuple(range(start, 20, 3)) for start in range(3)]


def test_too_many_sizes(tmp_path):
    files = images(tmp_path, *[(1 + i, 2) for i in range(9)], (3, 2), (3, 2), (7, 2))
    assert len(plan(files, KEEP, 4, max_shapes=9).shapes) == 9
    with pytest.raises(InputError) as caught:
        plan(files, KEEP, 4)
    for part in ("9 different sizes", "3x2 (3 images), 7x2 (2 images), 1x2 (1 images)", "compile", "the limit is 8"):
        assert part in str(caught.value)
    for option in ("--resize", "--crop", "--max-shapes 9"):
        assert option in str(caught.value)
    assert len(plan(files, Transform(crop=2), 4).shapes) == 1


def test_batch_size_zero():
    with pytest.raises(InputError, match="batch size must be at least 1"):
        plan([], KEEP, 0)


# batches


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_hold_the_planned_images(tmp_path, threads):
    files = images(tmp_path, *[(4, 6)] * 5, *[(5, 5)] * 2)
    planned = plan(files, KEEP, 2)
    out = list(batches(planned, files, KEEP, 2, threads=threads))
    assert [tuple(batch.indices) for batch in out] == [(0, 1), (2, 3), (4, -1), (5, 6)]
    for batch, expected in zip(out, planned.batches, strict=True):
        assert batch.images.shape == (2, *expected.shape, 3)
        assert (batch.images.dtype, batch.weights.dtype, batch.indices.dtype) == (np.uint8, np.float32, np.int64)
        assert batch.skipped == {}
        for row, index in zip(batch.images, expected.indices, strict=False):
            np.testing.assert_array_equal(row, decode(files[index].path))


def test_last_batch_is_padded_with_zeros(tmp_path):
    (batch,) = run(images(tmp_path, *[(3, 3)] * 3), batch_size=5)
    np.testing.assert_array_equal(batch.indices, [0, 1, 2, -1, -1])
    np.testing.assert_array_equal(batch.weights, [1, 1, 1, 0, 0])
    assert not batch.images[3:].any()


def test_one_pixel_images(tmp_path):
    files = (ImageFile(save(tmp_path / "a.png", 1, 1, value=255)),)
    (batch,) = run(files, batch_size=1)
    np.testing.assert_array_equal(batch.images, [[[[255, 255, 255]]]])


def test_the_transform_is_applied(tmp_path):
    files, transform = images(tmp_path, (9, 12)), Transform(6, 4)
    (batch,) = run(files, transform, batch_size=1)
    np.testing.assert_array_equal(batch.images[0], transform(decode(files[0].path)))


@pytest.mark.parametrize("transform", [KEEP, Transform(crop=4)])
def test_file_that_turns_out_unreadable(tmp_path, transform):
    files = images(tmp_path, *[(16, 16)] * 4)
    data = files[1].path.read_bytes()
    files[1].path.write_bytes(data[: len(data) // 2])
    first, second = run(files, transform, batch_size=3)
    np.testing.assert_array_equal(first.indices, [0, 1, 2])
    np.testing.assert_array_equal(first.weights, [1, 0, 1])
    assert not first.images[1].any()
    assert list(first.skipped) == [1]
    assert first.skipped[1].startswith(f"{files[1].path}: truncated or damaged")
    assert second.skipped == {}


def test_file_that_changes_between_plan_and_batch(tmp_path):
    files = images(tmp_path, (4, 4), (4, 4))
    planned = plan(files, KEEP, 2)
    save(files[0].path, 5, 4)
    (batch,) = batches(planned, files, KEEP, 2)
    np.testing.assert_array_equal(batch.weights, [0, 1])
    assert "changed its size" in batch.skipped[0]


def test_too_elongated_to_resize_before_the_crop(tmp_path):
    files = images(tmp_path, (1, 2000))
    (batch,) = run(files, Transform(1000, 4), batch_size=1)
    assert "too elongated" in batch.skipped[0]


def test_nothing_to_decode():
    assert list(batches(Plan((), {0: "x"}), [ImageFile(Path("x"))], KEEP, 4)) == []


def test_an_unexpected_error_is_not_swallowed(tmp_path, monkeypatch):
    monkeypatch.setattr(tffjax.data.reading, "decode_known", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(images(tmp_path, (2, 2)))


def test_a_selection_of_the_plan_is_a_plan(tmp_path):
    """As processes will share it: every n-th batch."""
    files = images(tmp_path, *[(3, 3)] * 10)
    planned = plan(files, KEEP, 2)
    parts = [dataclasses.replace(planned, batches=planned.batches[rank::2]) for rank in range(2)]
    seen = [index for part in parts for batch in batches(part, files, KEEP, 2) for index in batch.indices]
    assert sorted(seen) == list(range(10))


def test_plan_for_another_batch_size_is_refused(tmp_path):
    files = images(tmp_path, *[(3, 3)] * 4)
    with pytest.raises(ValueError, match="larger than 2"):
        next(batches(plan(files, KEEP, 4), files, KEEP, 2))


def test_twice_the_same(tmp_path):
    files = images(tmp_path, *[(4 + i % 2, 5) for i in range(11)])
    for one, two in zip(run(files, threads=4), run(files, threads=2), strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.indices, two.indices)


def test_look_ahead_is_bounded_and_threads_end(tmp_path, monkeypatch):
    decoded = []
    decode = tffjax.data.reading.decode_known
    monkeypatch.setattr(tffjax.data.reading, "decode_known", lambda path: decoded.append(path) or decode(path))
    files = images(tmp_path, *[(2, 2)] * 60)
    before = threading.active_count()
    iterator = batches(plan(files, KEEP, 4), files, KEEP, 4, threads=2)
    for number in range(1, 4):
        next(iterator)
        time.sleep(0.1)
        assert len(decoded) <= 4 * number + 4
    iterator.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tffjax.data.preprocessing import (
    MAX_PIXELS,
    Transform,
    UnreadableImage,
    as_resize,
    center_crop,
    decode,
    grayscale,
    image_size,
    normalize,
    random_resized_crop,
    resize,
    resized_size,
)
from tffjax.errors import InputError
from tffjax.nn.card import NORMALIZATIONS, Normalization

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "images.npz"
SIDES = st.integers(1, 40)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png_chunk(kind, data):
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(height, width, depth, color, rows, *chunks):
    """A PNG by hand: `rows` are the bytes of every row; `chunks` go before the pixels."""
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def encoded(image, form, **options):
    out = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(out, form, **options)
    return out.getvalue()


@pytest.fixture
def write(tmp_path):
    def _write(data, name="image.png"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return _write


# decoding


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_decode_lossless(write, form, options):
    image = noise(5, 7, 3)
    path = write(encoded(image, form, **options))
    assert decode(path).dtype == np.uint8
    np.testing.assert_array_equal(decode(path), image)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("progressive", [False, True])
def test_decode_jpeg(write, progressive):
    image = np.tile(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], (1, 24, 3))
    data = encoded(image, "JPEG", quality=95, progressive=progressive)
    np.testing.assert_array_equal(decode(write(data)), np.asarray(Image.open(io.BytesIO(data))))
    assert np.abs(decode(write(data)).astype(int) - image).max() <= 3
    assert image_size(write(data)) == (16, 24)


def test_decode_grayscale(write):
    image = noise(4, 6)
    np.testing.assert_array_equal(decode(write(encoded(image, "PNG"))), np.stack([image] * 3, -1))


def test_decode_gray_jpeg(write):
    out = decode(write(encoded(np.full((9, 9), 100, np.uint8), "JPEG")))
    np.testing.assert_array_equal(out, np.full((9, 9, 3), 100))


def test_decode_one_bit(write):
    data = png(1, 4, 1, 0, [b"\xa0"])
    np.testing.assert_array_equal(decode(write(data))[..., 0], [[255, 0, 255, 0]])


def test_decode_16_bit_grayscale_keeps_the_high_byte(write):
    image = np.array([[0, 255, 256, 1000], [30000, 32768, 65280, 65535]], np.uint16)
    data = png(2, 4, 16, 0, [row.astype(">u2").tobytes() for row in image])
    expected = [[0, 0, 1, 3], [117, 128, 255, 255]]
    np.testing.assert_array_equal(decode(write(data)), np.stack([expected] * 3, -1))


def test_decode_16_bit_rgb_keeps_the_high_byte(write):
    image = np.array([[[0x1234, 0xFF00, 0x00FF], [0xFFFF, 0x8000, 0x7FFF]]], np.uint16)
    data = png(1, 2, 16, 2, [row.astype(">u2").tobytes() for row in image])
    np.testing.assert_array_equal(decode(write(data)), [[[0x12, 0xFF, 0], [0xFF, 0x80, 0x7F]]])


@pytest.mark.parametrize("transparency", [[], [(b"tRNS", b"\x00\x80\xff")]])
def test_decode_palette(write, transparency):
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    data = png(1, 3, 8, 3, [b"\x02\x00\x01"], palette, *transparency)
    np.testing.assert_array_equal(decode(write(data)), [[[70, 80, 90], [10, 20, 30], [40, 50, 60]]])


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_decode_drops_alpha_without_blending(write, form):
    image = noise(3, 5, 4)
    image[..., 3] = [0, 1, 128, 254, 255]
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(decode(write(encoded(image, form, **options))), image[..., :3])


def test_decode_gray_alpha(write):
    data = png(1, 2, 8, 4, [bytes([7, 0, 200, 255])])
    np.testing.assert_array_equal(decode(write(data)), [[[7] * 3, [200] * 3]])


def test_decode_cmyk_jpeg(write):
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    np.testing.assert_allclose(decode(write(data)), np.broadcast_to([255, 0, 0], (8, 8, 3)), atol=3)


def test_decode_takes_the_first_frame(write):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(write(data)), np.broadcast_to(np.uint8([255, 0, 0]), (4, 4, 3)))


def test_decode_goes_by_content_not_by_name(write):
    image = noise(3, 3, 3)
    np.testing.assert_array_equal(decode(write(encoded(image, "PNG"), "image.jpg")), image)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_decode_one_pixel(write, form):
    path = write(encoded(np.full((1, 1, 3), 9, np.uint8), form, lossless=True))
    np.testing.assert_array_equal(decode(path), [[[9, 9, 9]]])
    assert image_size(path) == (1, 1)


# EXIF


def exif(orientation, order="<"):
    return (
        b"Exif\0\0"
        + (b"II" if order == "<" else b"MM")
        + struct.pack(order + "HLH", 42, 8, 2)
        + struct.pack(order + "HHLHH", 0x0100, 3, 1, 99, 0)
        + struct.pack(order + "HHLHHL", 0x0112, 3, 1, orientation, 0, 0)
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_exif_rotation(write, form, orientation, order):
    data = encoded(noise(10, 6, 3), form, exif=exif(orientation, order))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(write(data)), expected)
    assert image_size(write(data)) == expected.shape[:2] == ((6, 10) if orientation >= 5 else (10, 6))


def test_exif_rotation_by_hand(write):
    """Orientation 6: the camera was turned left, so the first stored row is the right-most column."""
    image = np.stack([np.uint8([[1, 2, 3], [4, 5, 6]])] * 3, -1)
    upright = decode(write(encoded(image, "PNG", exif=exif(6))))
    np.testing.assert_array_equal(upright[..., 0], [[4, 1], [5, 2], [6, 3]])


def test_exif_rotation_of_16_bit(write):
    row = np.array([256, 512, 768], ">u2").tobytes()
    data = png(1, 3, 16, 0, [row], (b"eXIf", exif(3)[6:]))
    np.testing.assert_array_equal(decode(write(data))[..., 0], [[3, 2, 1]])


@pytest.mark.parametrize(
    "damage",
    [b"", b"Exif\0\0", b"Exif\0\0II", exif(6)[:16], exif(6)[:30], exif(0), exif(9), b"Exif\0\0XX" + exif(6)[8:]],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_damaged_exif_is_ignored_without_a_warning(write, form, damage):
    path = write(encoded(noise(10, 6, 3), form, exif=damage))
    assert decode(path).shape == (10, 6, 3)
    assert image_size(path) == (10, 6)


# unusable files


def files_of_every_format():
    image = noise(9, 11, 3)
    return [encoded(image, "PNG"), encoded(image, "JPEG", exif=exif(6)), encoded(image, "WEBP", lossless=True)]


@pytest.mark.parametrize("data", files_of_every_format(), ids=["png", "jpeg", "webp"])
def test_truncated(write, data):
    with pytest.raises(UnreadableImage, match=r"image\.png: truncated or damaged \(.*\)$"):
        decode(write(data[: len(data) * 2 // 3]))


@pytest.mark.parametrize("data", files_of_every_format(), ids=["png", "jpeg", "webp"])
def test_every_truncation_is_named_or_harmless(write, data):
    whole = decode(write(data))
    for end in range(0, len(data), 7):
        path = write(data[:end])
        try:
            assert decode(path).shape == whole.shape
        except UnreadableImage as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_named_or_harmless(tmp_path_factory, data):
    original = bytearray(data.draw(st.sampled_from(files_of_every_format())))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(original)
    for read in (decode, image_size):
        try:
            read(path)
        except UnreadableImage as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7 something", encoded(noise(4, 4, 3), "BMP")])
@pytest.mark.parametrize("read", [decode, image_size])
def test_foreign(write, read, data):
    with pytest.raises(UnreadableImage, match=r"image\.png: not a PNG, JPEG or WebP image$"):
        read(write(data))


@pytest.mark.parametrize("read", [decode, image_size])
def test_missing_and_folder(tmp_path, read):
    with pytest.raises(UnreadableImage, match=r"gone\.png: No such file or directory$"):
        read(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage, match="Is a directory"):
        read(tmp_path)


def webp_header(height, width):
    size = struct.pack("<L", width - 1)[:3] + struct.pack("<L", height - 1)[:3]
    return b"RIFF" + struct.pack("<L", 22) + b"WEBPVP8X" + struct.pack("<LL", 10, 16) + size


@pytest.mark.parametrize("side", [9_600, 12_000, 20_000, 2**31 - 1])
@pytest.mark.parametrize("read", [decode, image_size])
def test_bomb_is_refused_from_its_header(write, read, side):
    """9,600 squared is where Pillow alone would warn, 20,000 squared where it would raise."""
    sides = (side, side) if side < 10_000 else (side, side + 1)
    bomb = png(*sides, 8, 2, [b"\0\0\0"])
    limit = 90_000_000
    with pytest.raises(UnreadableImage, match=rf"image\.png: {side}x.* pixels are more than the 90000000 that are"):
        read(write(bomb), limit)


@pytest.mark.parametrize("read", [decode, image_size])
def test_webp_bomb(write, read):
    with pytest.raises(UnreadableImage, match=r"image\.webp: "):
        read(write(webp_header(16_000, 16_000), "image.webp"))


def test_large_image_within_the_limit_does_not_warn(write):
    data = png(1, 95_000_000, 1, 0, [bytes(95_000_000 // 8)])
    assert image_size(write(data)) == (1, 95_000_000)
    assert MAX_PIXELS >= 95_000_000


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_max_pixels_is_inclusive(write, form):
    path = write(encoded(noise(3, 4, 3), form))
    assert decode(path, max_pixels=12).shape == (3, 4, 3)
    with pytest.raises(UnreadableImage, match="3x4 pixels are more than the 11"):
        decode(path, max_pixels=11)


# resize and crop


def triangle_weights(old, new):
    """Rows of the antialiased bilinear filter: a triangle as wide as the scale, normalized."""
    scale = max(old / new, 1)
    distance = (np.arange(old)[None] + 0.5 - (np.arange(new)[:, None] + 0.5) * old / new) / scale
    weights = np.maximum(1 - np.abs(distance), 0)
    return weights / weights.sum(1, keepdims=True)


def test_resize_worked_numbers():
    """4 -> 2 columns: the triangle is 4 wide and centered at 1, so the weights are 3/7, 3/7, 1/7; rows are averaged."""
    image = np.stack([np.uint8([[0, 70, 140, 210], [0, 70, 140, 210]])] * 3, -1)
    np.testing.assert_array_equal(resize(image, 1)[..., 0], [[50, 160]])


@settings(max_examples=100, deadline=None)
@given(height=SIDES, width=SIDES, size=SIDES)
def test_resize(height, width, size):
    image = noise(height, width, 3)
    tall, wide = (int(size * height / width), size), (size, int(size * width / height))
    expected = tall if width <= height else wide
    out = resize(image, size)
    assert out.shape[:2] == resized_size(height, width, size) == expected
    by_pillow = Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(out, np.asarray(by_pillow))
    rows, columns = triangle_weights(height, expected[0]), triangle_weights(width, expected[1])
    exact = np.einsum("ij,kl,jlc->ikc", rows, columns, image)
    assert np.abs(out - exact).max() <= 1.01  # Pillow rounds after each of the two directions


def test_resize_truncates_the_long_side():
    assert resized_size(375, 500, 256) == (256, 341)  # 341.33
    assert resized_size(500, 333, 256) == (384, 256)  # 384.38
    assert resized_size(3, 5, 2) == (2, 3)  # 3.33
    assert resized_size(427, 640, 256) == (256, 383)  # 383.70


def test_resize_to_a_size_leaves_the_ratio():
    image = noise(30, 50, 3)
    out = resize(image, (24, 16))
    by_pillow = Image.fromarray(image).resize((16, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(out, np.asarray(by_pillow), strict=True)
    assert (as_resize([24, 16]), as_resize(24), as_resize(None)) == ((24, 16), 24, None)  # as JSON gives it back
    assert Transform((24, 16)).output_size(30, 50) == (24, 16)
    with pytest.raises(InputError, match="resize must be at least 1 pixel, got 0"):
        Transform((24, 0))


def test_resize_refuses_what_would_explode():
    with pytest.raises(InputError, match="1x1000000 image is too elongated to resize its short side to 256"):
        resize(np.zeros((1, 1_000_000, 3), np.uint8), 256)


def test_crop_worked_numbers():
    image = np.zeros((5, 6, 3), np.uint8)
    image[...] = np.arange(30).reshape(5, 6, 1)
    # (5-2)/2 = 1.5 -> 2 and (6-2)/2 = 2
    np.testing.assert_array_equal(center_crop(image, 2)[..., 0], [[14, 15], [20, 21]])
    # (5-4)/2 = 0.5 -> 0 (halves to even) and (6-4)/2 = 1
    np.testing.assert_array_equal(center_crop(image, 4)[..., 0], image[0:4, 1:5, 0])


def test_crop_pads_with_zeros():
    image = np.full((2, 3, 3), 7, np.uint8)
    expected = np.zeros((5, 5), int)
    expected[1:3, 1:4] = 7  # missing 3 rows: 1 above, 2 below; missing 2 columns: 1 and 1
    np.testing.assert_array_equal(center_crop(image, 5)[..., 0], expected)


@given(height=SIDES, width=SIDES, size=SIDES)
def test_crop(height, width, size):
    """Against Pillow's own crop and expand, in the steps of torchvision's `center_crop`."""
    image = noise(height, width, 3)
    expected = Image.fromarray(image)
    if size > width or size > height:
        border = (
            (size - width) // 2 if size > width else 0,
            (size - height) // 2 if size > height else 0,
            (size - width + 1) // 2 if size > width else 0,
            (size - height + 1) // 2 if size > height else 0,
        )
        expected = ImageOps.expand(expected, border, fill=0)
    top, left = int(round((expected.height - size) / 2.0)), int(round((expected.width - size) / 2.0))  # noqa: RUF046
    expected = expected.crop((left, top, left + size, top + size))
    np.testing.assert_array_equal(center_crop(image, size), np.asarray(expected))


@given(height=SIDES, width=SIDES, to=st.none() | SIDES, crop=st.none() | SIDES)
def test_transform_knows_its_output_size(height, width, to, crop):
    transform = Transform(to, crop)
    assert transform(noise(height, width, 3)).shape == (*transform.output_size(height, width), 3)


def test_transform_resizes_then_crops():
    image = noise(20, 31, 3)
    np.testing.assert_array_equal(Transform(12, 8)(image), center_crop(resize(image, 12), 8))
    np.testing.assert_array_equal(Transform()(image), image)


# the released code's random crop


def released_rectangle(height, width, rng):
    """(top, left, h, w) as torchvision's `RandomResizedCrop.get_params` finds it for scale and ratio (0.99, 1)."""
    area, log_ratio = height * width, (np.log(0.99), np.log(1.0))
    for _ in range(10):
        target_area = area * rng.uniform(0.99, 1.0)
        aspect_ratio = np.exp(rng.uniform(*log_ratio))
        w = int(round(np.sqrt(target_area * aspect_ratio)))  # noqa: RUF046
        h = int(round(np.sqrt(target_area / aspect_ratio)))  # noqa: RUF046
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    in_ratio = width / height
    if in_ratio < 0.99:
        w = width
        h = int(round(w / 0.99))  # noqa: RUF046
    elif in_ratio > 1.0:
        h = height
        w = int(round(h * 1.0))  # noqa: RUF046
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@settings(max_examples=200, deadline=None)
@given(height=SIDES, width=SIDES, size=SIDES, seed=st.integers(0, 5), square=st.booleans())
def test_random_crop_is_the_released_one(height, width, size, seed, square):
    image = noise(height, height if square else width, 3, seed=seed)
    rng = np.random.default_rng([seed, zlib.crc32(image.tobytes())])
    top, left, h, w = released_rectangle(*image.shape[:2], rng)
    cut = Image.fromarray(np.ascontiguousarray(image[top : top + h, left : left + w]))
    expected = cut.resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(random_resized_crop(image, size, seed), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((40, 90), slice(0, 40), slice(25, 65)), ((200, 99), slice(50, 150), slice(0, 99))],
)
def test_random_crop_of_an_elongated_image_is_its_center(size, rows, columns):
    """None of ten rectangles of almost the whole area and almost square fits; 99 / 0.99 = 100 rows."""
    image = noise(*size, 3)
    expected = Image.fromarray(np.ascontiguousarray(image[rows, columns])).resize((8, 8), Image.Resampling.BILINEAR)
    for seed in range(3):
        np.testing.assert_array_equal(random_resized_crop(image, 8, seed), np.asarray(expected))


def test_random_crop_takes_a_margin_off_that_depends_on_seed_and_image():
    """A gradient shows which columns were cut: at most 1.5 % of 400, on either side."""
    ramp = np.broadcast_to(np.linspace(0, 255, 400).astype(np.uint8)[:, None], (400, 400, 3))
    image = np.ascontiguousarray(ramp)
    outputs = {random_resized_crop(image, 400, seed)[..., 0].tobytes() for seed in range(20)}
    assert len(outputs) > 5
    for seed in range(20):
        out = random_resized_crop(image, 400, seed)[0, :, 0].astype(int)
        assert 0 <= out[0] <= 5
        assert 250 <= out[-1] <= 255
    again = random_resized_crop(image, 400, 3)
    np.testing.assert_array_equal(again, random_resized_crop(image.copy(), 400, 3))
    other = image.copy()
    other[0, 0, 0] = 9
    assert (random_resized_crop(other, 400, 3)[9:] != again[9:]).any()


def test_transform_draws_the_random_crop():
    image = noise(20, 31, 3)
    ours = Transform(resize=12, crop=8, random_crop=5)(image)
    np.testing.assert_array_equal(ours, random_resized_crop(resize(image, 12), 8, 5))
    with pytest.raises(InputError, match="a random crop needs the side of the square"):
        Transform(random_crop=5)
    with pytest.raises(InputError, match="seed of random crops must be at least 0, got -1"):
        Transform(crop=8, random_crop=-1)


@pytest.mark.parametrize("arguments", [{"resize": 0}, {"crop": -1}])
def test_transform_refuses_empty_images(arguments):
    with pytest.raises(InputError, match=rf"{next(iter(arguments))} must be at least 1 pixel"):
        Transform(**arguments)


# colors


def test_grayscale_is_the_integer_luma():
    image = noise(16, 16, 3)
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    np.testing.assert_array_equal(grayscale(image), np.stack([luma] * 3, -1))


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalize_is_float32_arithmetic_to_the_bit(name):
    normalization = NORMALIZATIONS[name]
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 3)).reshape(2, 16, 8, 3)
    source = images[..., ::-1] if normalization.order == "bgr" else images
    expected = source.astype(np.float32) / np.float32(255)
    expected = (expected - np.float32(normalization.mean)) / np.float32(normalization.std)
    out = normalize(images, normalization)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, expected)
    assert (out.min(), out.max()) == normalization.bounds


def test_normalize_order():
    image = np.uint8([[[255, 51, 0]]])
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    np.testing.assert_array_equal(normalize(image, Normalization(**plain)), np.float32([[[1, 0.2, 0]]]))
    np.testing.assert_array_equal(normalize(image, Normalization(**plain, order="bgr")), np.float32([[[0, 0.2, 1]]]))


def test_normalize_worked_number():
    """(255/255 - 0.406) / 0.225 = 2.64; (0 - 0.485) / 0.229 = -2.117904."""
    out = normalize(np.uint8([0, 0, 255]), Normalization())
    np.testing.assert_allclose(out[[0, 2]], [-2.117904, 2.64], rtol=1e-6)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden images are not here")
class TestGolden:
    @pytest.fixture(scope="class")
    @staticmethod
    def golden():
        with np.load(GOLDEN) as arrays:
            return dict(arrays)

    @pytest.mark.parametrize("side", [224, 256, 356])
    def test_crop_and_normalize(self, golden, side):
        expected = golden[f"x{side}_check"]
        for image, sums in zip(golden["u8"], expected, strict=False):
            out = normalize(Transform(crop=side)(image), Normalization())
            np.testing.assert_allclose(out.astype(np.float64).sum((0, 1)), sums, rtol=1e-12)

    def test_grayscale(self, golden):
        for image, gray in zip(golden["u8"], golden["gray224"], strict=True):
            np.testing.assert_array_equal(grayscale(center_crop(image, 224)), np.stack([gray] * 3, -1))


def test_does_not_import_jax():
    code = "import sys, tffjax.data.preprocessing; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Slow re-implementations that share nothing with the product: loops and explicit matrices, in NumPy."""

import itertools

import numpy as np


def output_size(n: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    """How many windows fit, by trying one after the other."""
    count = 0
    while count * stride + (kernel - 1) * dilation < n + sum(padding):
        count += 1
    return count


def convolution_matrix(size, kernel, stride, padding, dilation, groups) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The matrix of a convolution, one entry at a time.

    Returns:
        matrix: (oh * ow * o, h * w * i), from a flattened (h, w, i) image to a flattened (oh, ow, o) one.
        shape: (oh, ow, o).
    """
    (h, w), (kh, kw, i_per_group, o) = size, kernel.shape
    i = i_per_group * groups
    oh, ow = (output_size(*axis) for axis in zip(size, kernel.shape[:2], stride, padding, dilation, strict=True))
    matrix = np.zeros((oh, ow, o, h, w, i))
    for y, x, a, b in itertools.product(range(oh), range(ow), range(kh), range(kw)):
        row = y * stride[0] + a * dilation[0] - padding[0][0]
        column = x * stride[1] + b * dilation[1] - padding[1][0]
        if 0 <= row < h and 0 <= column < w:
            for out, inside in itertools.product(range(o), range(i_per_group)):
                group = out // (o // groups)
                matrix[y, x, out, row, column, group * i_per_group + inside] += kernel[a, b, inside, out]
    return matrix.reshape(oh * ow * o, h * w * i), (oh, ow, o)


def transposed_matrix(size, kernel, stride, padding, dilation, groups) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The matrix of a transposed convolution, one entry at a time: every input adds its kernel to the outputs."""
    (h, w), (kh, kw, i_per_group, o) = size, kernel.shape
    i = i_per_group * groups
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, (kh, kw), dilation, strict=True)]
    oh, ow = (n - before - after for n, (before, after) in zip(full, padding, strict=True))
    matrix = np.zeros((oh, ow, o, h, w, i))
    for y, x, a, b in itertools.product(range(h), range(w), range(kh), range(kw)):
        row = y * stride[0] + a * dilation[0] - padding[0][0]
        column = x * stride[1] + b * dilation[1] - padding[1][0]
        if 0 <= row < oh and 0 <= column < ow:
            for out, inside in itertools.product(range(o), range(i_per_group)):
                group = out // (o // groups)
                matrix[row, column, out, y, x, group * i_per_group + inside] += kernel[a, b, inside, out]
    return matrix.reshape(oh * ow * o, h * w * i), (oh, ow, o)


def upsampling_matrix(size, channels, factor, bilinear) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The matrix of up-sampling, one entry at a time, from where the centers of the pixels lie."""
    h, w = size
    oh, ow = h * factor[0], w * factor[1]
    matrix = np.zeros((oh, ow, channels, h, w, channels))
    for y, x, c in itertools.product(range(oh), range(ow), range(channels)):
        places = [(out + 0.5) / f - 0.5 for out, f in zip((y, x), factor, strict=True)]
        if not bilinear:
            matrix[y, x, c, y // factor[0], x // factor[1], c] = 1
            continue
        for row, column in itertools.product(range(-1, h + 1), range(-1, w + 1)):
            weight = max(1 - abs(places[0] - row), 0) * max(1 - abs(places[1] - column), 0)
            matrix[y, x, c, min(max(row, 0), h - 1), min(max(column, 0), w - 1), c] += weight
    return matrix.reshape(oh * ow * channels, h * w * channels), (oh, ow, channels)


def convolve(x: np.ndarray, kernel: np.ndarray, **geometry) -> np.ndarray:
    """(n, h, w, i) -> (n, oh, ow, o) by the explicit matrix."""
    matrix, shape = convolution_matrix(x.shape[1:3], kernel, **geometry)
    return (x.reshape(len(x), -1) @ matrix.T).reshape(len(x), *shape)


def convolve_transposed(y: np.ndarray, kernel: np.ndarray, size: tuple[int, int], **geometry) -> np.ndarray:
    """(n, oh, ow, o) -> (n, h, w, i) by the transpose of the explicit matrix."""
    matrix, _ = convolution_matrix(size, kernel, **geometry)
    channels = kernel.shape[2] * geometry["groups"]
    return (y.reshape(len(y), -1) @ matrix).reshape(len(y), *size, channels)


def average_precision(probability, label) -> float:
    """Sum over the thresholds, from high to low, of precision times the gain in recall."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(probability), reverse=True):
        called = [y for p, y in zip(probability, label, strict=True) if p >= threshold]
        gained = sum(called) / sum(label) - recall
        total += gained * sum(called) / len(called)
        recall += gained
    return total

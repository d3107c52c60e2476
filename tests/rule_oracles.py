"""The LRP rules on the explicit matrix of a layer, output by output and input by input, in plain Python floats.

Written from SPEC 3 and the papers; shares nothing with the product. Matrices are (outputs, inputs).
"""

import itertools

import numpy as np
import oracles


def sdiv(a, z, at_zero, epsilon):
    """a / (z + at_zero * [z == 0] + epsilon * sign(z))."""
    sign = (z > 0) - (z < 0)
    return a / (z + at_zero * (z == 0) + epsilon * sign)


class Account:
    """Where the relevance of one image went.

    Attributes:
        received: relevance of each input.
        magnitude: the sum of the sizes of the terms of each entry of `received`, which its rounding is a part of.
        bias, stabilizer, zero: what got lost.
    """

    def __init__(self, inputs):
        self.received = [0.0] * inputs
        self.magnitude = [0.0] * inputs
        self.bias = self.stabilizer = self.zero = 0.0

    def share(self, contributions, relevance, *, bias=0.0, at_zero=1e-12, epsilon=0.0, sizes=None):
        """Share the relevance of one output in proportion to the contributions of the inputs and of the bias.

        `sizes` of contributions that are differences: what their rounding is a part of.
        """
        z = sum(contributions) + bias
        for i, contribution in enumerate(contributions):
            part = contribution * sdiv(relevance, z, at_zero, epsilon)
            self.received[i] += part
            self.magnitude[i] += abs(sizes[i] * sdiv(relevance, z, at_zero, epsilon)) if sizes else abs(part)
        self.bias += bias * sdiv(relevance, z, at_zero, epsilon)
        if z == 0:
            self.zero += relevance
        else:
            self.stabilizer += relevance - sdiv(relevance, z, at_zero, epsilon) * z


def over_outputs(one_output):
    """A rule for a whole layer and one image from a rule for one output."""

    def rule(matrix, bias, x, relevance, /, **parameters):
        account = Account(len(x))
        for row, b, r in zip(matrix, bias, relevance, strict=True):
            one_output(account, [float(w) for w in row], float(b), [float(v) for v in x], float(r), **parameters)
        return account

    return rule


def contributions(weights, x):
    return [w * v for w, v in zip(weights, x, strict=True)]


def positive(values):
    return [max(value, 0.0) for value in values]


def negative(values):
    return [min(value, 0.0) for value in values]


@over_outputs
def epsilon(account, weights, bias, x, relevance, *, epsilon=1e-6):
    account.share(contributions(weights, x), relevance, bias=bias, at_zero=epsilon, epsilon=epsilon)


@over_outputs
def lrp_0(account, weights, bias, x, relevance, *, epsilon):
    """Epsilon = 0: an output of zero hands nothing on."""
    if sum([*contributions(weights, x), bias]) == 0:
        account.zero += relevance
    else:
        account.share(contributions(weights, x), relevance, bias=bias)


@over_outputs
def alpha_beta(account, weights, b, x, relevance, *, alpha=2.0, beta=1.0, bias=False, epsilon=0.0):
    for part, at_zero, r in ((positive, 1e-12, alpha * relevance), (negative, -1e-12, -beta * relevance)):
        share_of_bias = part([b])[0] if bias else 0.0
        account.share(part(contributions(weights, x)), r, bias=share_of_bias, at_zero=at_zero, epsilon=epsilon)


def z_plus(matrix, bias, x, relevance, /, **parameters):
    return alpha_beta(matrix, bias, x, relevance, alpha=1.0, beta=0.0, **parameters)


@over_outputs
def beta_adaptive(account, weights, bias, x, relevance, *, beta_max=4.5):
    against = negative(contributions(weights, x))
    y = sum(contributions(weights, x)) + bias
    beta = min(-sum(against) / y, beta_max) if y > 0 else 0.0
    account.share(positive(contributions(weights, x)), (1 + beta) * relevance, at_zero=1e-12)
    account.share(against, -beta * relevance, at_zero=1e-12)


@over_outputs
def z_box(account, weights, bias, x, relevance, *, low, high, epsilon=1e-6):
    """`low` and `high` are numbers, or one for each input channel; the channel is the last axis of a flat input."""
    low, high = (bound if isinstance(bound, tuple) else (bound,) for bound in (low, high))
    terms = [
        (w * v, low[i % len(low)] * max(w, 0.0), high[i % len(high)] * min(w, 0.0))
        for i, (w, v) in enumerate(zip(weights, x, strict=True))
    ]
    sizes = [sum(map(abs, parts)) for parts in terms]
    account.share([a - b - c for a, b, c in terms], relevance, at_zero=epsilon, epsilon=epsilon, sizes=sizes)


@over_outputs
def gamma(account, weights, bias, x, relevance, *, gamma=0.25, epsilon=1e-6):
    """Contributions of the sign of the output count 1 + gamma times; an output of zero is taken for positive."""
    terms = [*contributions(weights, x), bias]
    favors = (lambda c: c < 0) if sum(terms) < 0 else (lambda c: c > 0)
    *favored, favored_bias = [(1 + gamma) * c if favors(c) else c for c in terms]
    account.share(favored, relevance, bias=favored_bias, at_zero=epsilon, epsilon=epsilon)


@over_outputs
def w_square(account, weights, b, x, relevance, *, bias=False, epsilon=0.0):
    account.share([w * w for w in weights], relevance, bias=b * b if bias else 0.0, epsilon=epsilon)


@over_outputs
def flat(account, connected, bias, x, relevance, *, epsilon=0.0):
    """Takes 1 where an input reaches an output and 0 elsewhere for the weights."""
    account.share(connected, relevance, epsilon=epsilon)


def average_pool_matrix(
    size, channels, window, stride=None, padding=((0, 0), (0, 0)), dilation=(1, 1), count_padding=True
):
    """The matrix of an average over windows, and the shape (oh, ow, c) of its output."""
    stride = stride or window
    (h, w), axes = size, zip(size, window, stride, padding, dilation, strict=True)
    oh, ow = (oracles.output_size(*axis) for axis in axes)
    matrix = np.zeros((oh, ow, channels, h, w, channels))
    for y, x in itertools.product(range(oh), range(ow)):
        seen = [
            (y * stride[0] + a * dilation[0] - padding[0][0], x * stride[1] + b * dilation[1] - padding[1][0])
            for a, b in itertools.product(*map(range, window))
        ]
        inside = [(i, j) for i, j in seen if 0 <= i < h and 0 <= j < w]
        for (i, j), c in itertools.product(inside, range(channels)):
            matrix[y, x, c, i, j, c] = 1 / len(seen if count_padding else inside)
    return matrix.reshape(oh * ow * channels, h * w * channels), (oh, ow, channels)


def winners(x, relevance, window, stride, padding, dilation=(1, 1)):
    """Winner takes all of a max pool: R goes to the first largest input of its window in scan order."""
    received = np.zeros(x.shape)
    h, w = x.shape[1:3]
    for image, y, column, c in itertools.product(*map(range, relevance.shape)):
        best, place = -np.inf, None
        for a, b in itertools.product(*map(range, window)):
            i, j = y * stride[0] + a * dilation[0] - padding[0][0], column * stride[1] + b * dilation[1] - padding[1][0]
            if 0 <= i < h and 0 <= j < w and x[image, i, j, c] > best:
                best, place = x[image, i, j, c], (image, i, j, c)
        received[place] += relevance[image, y, column, c]
    return received

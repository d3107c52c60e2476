"""Every tolerance of the tests, with its reason. Sections are those of the golden README."""

# Two ways to compute the same real number in double precision through some 50 layers: a rounding of 1.1e-16 per
# operation, amplified a few hundred times from the first to the last block of ResNet-50 (section 9).
F64_IDENTITY = 1e-12
FIXED_POINT = (
    1e-10  # FF-RS: shares and their squares are rounded to multiples of 2^-36, 1.5e-11, before they are summed
)

# One convolution in double precision, against sums in another order: lengths up to a few hundred terms.
F64_CONVOLUTION = 1e-13

# Golden logits in double precision (section 9: "about 1e-9 relative on logits").
GOLDEN_F64_LOGIT = 1e-9

# Golden logits in single precision (section 9's table, 5 to 10 times the reference's own rounding): absolute at 224 and
# 256, where logits are below 5; relative at 356, where they reach -118.
GOLDEN_F32_LOGIT_ABSOLUTE = {224: 5e-4, 256: 5e-4, 356: 0.0}
GOLDEN_F32_LOGIT_RELATIVE = {224: 0.0, 256: 0.0, 356: 1e-4}

# The sums over the golden input are stored in double precision over float32 values: only the order of adding differs.
GOLDEN_INPUT_SUM = 1e-9

# Single precision against itself, where a batch is computed in another shape or another program: 1.2e-7 per operation,
# amplified up to 300 times (section 9), relative to the largest value.
F32_PROGRAM = 1e-4

# Probabilities that a README states with two or three digits: half a unit of the last digit, rounded up.
STATED_2_DIGITS = 0.006
STATED_3_DIGITS = 0.0006

# One LRP rule in double precision against loops over the explicit matrix, relative to the terms added up: a few hundred
# roundings of 1.1e-16, divided by denominators that may be a thousand times smaller than their terms.
RULE = 1e-10

# A probability whose README does not say how the image was resized and cropped: the spread between the usual ways.
STATED_UNKNOWN_CROP = 0.07

# Golden relevances in double precision (section 9): sums stored in float64; maps and channel sums stored in float32,
# whose rounding is 6e-8; entries a billion times smaller than the largest are rounding themselves.
GOLDEN_F64_RELEVANCE = 1e-9
GOLDEN_STORED_F32 = 1e-7
GOLDEN_F64_FLOOR = 1e-9

# Golden relevances in single precision: section 9's table, 5 to 10 times the reference's own error. ReLU signs that
# flip make jumps; that is why these are wide.
GOLDEN_F32_RELEVANCE = {
    "resnet50": {"input": 1e-2, "map": 5e-2, "channels": 3e-2},
    "efb0": {"input": 1e-3, "map": 1e-1, "channels": 1e-2},
}

# The same explanation in double precision by another program (batch of another shape, sharded, mapped) through a small
# network, relative to the largest entry.
F64_PROGRAM = 1e-11

# Poisson against multinomial bootstrap, 20,000 replicates each, in standard errors of the mean: the 2.5 % quantile of a
# normal sample of that size scatters by 0.019, a difference of two by 0.027; five times that.
BOOTSTRAP_QUANTILE = 0.135

# The same for the probability to be in the top-k: two binomial shares scatter by at most sqrt(2 / (4 * 20000)) = 0.005,
# five times that; and 0.01 because the total of Poisson weights varies and that of multinomial ones does not.
BOOTSTRAP_PROBABILITY = 0.035

# Golden maximal activations in single precision (section 9's table), relative.
GOLDEN_F32_MAXIMUM = 1e-4

# Golden maximal activations in double precision: one convolution output, at most 53 convolutions deep, relative
# (section 9: "about 1e-9 relative").
GOLDEN_F64_MAXIMUM = 1e-9

# Golden dropout logits in single precision: section 9's table.
GOLDEN_F32_DROPOUT = 1e-3

# Golden FF-RS in single precision (section 9's table): largest absolute difference over the channels.
GOLDEN_F32_FFRS = {"resnet50": 1.5e-4, "efb0": 5e-4}

# Four training steps of a small network in double precision against PyTorch: losses relative; weights relative to the
# learning rate, because Adam divides each gradient by its own size and so keeps its relative error.
TRAINING_STEPS = 1e-7

# One training pass of a whole network in double precision against PyTorch; PyTorch's side comes through float32, whose
# rounding is 6e-8.
TRAINING_NETWORK = 2e-7

# Gradients with bfloat16 activations: 8 bits give a rounding of 0.4 % an operation, some 20 of them forth and back.
BFLOAT16_GRADIENT = 0.05

# A neuron explained on a crop against the full backward pass, in double precision, relative to the map's largest value:
# the same numbers in another order of adding; 1e-13 is seen.
CROP = 1e-10

# Golden LRP-max in single precision (section 9's table): maps, relative L2; activations as its "max activation".
GOLDEN_F32_LRPMAX_MAP = 1e-3
GOLDEN_F32_ACTIVATION = 1e-4

# bfloat16 storage against float32 in a small network: a rounding of 0.4 % for each factor, output and stored array,
# some ten of them in a row, forth and back; logits and activations, forth only, relative to the largest.
BFLOAT16_RELEVANCE = 0.1
BFLOAT16_LOGIT = 0.02

# Random networks in double precision against explicit matrices, relative to the largest relevance of any array on the
# way: a denominator whose terms cancel is as small as the stabilizer, 1e-6, which makes 1e-10 of a rounding of 1e-16 of
# its terms. 3e-11 is seen in such a network, 3e-13 in others.
RANDOM_NETWORK = 1e-9

# float32 logits of some units in another framework, through up to 270 layers; graphs differ by a hundred times as much.
ORIGINALS = 1e-4

# Relevance maps of two implementations in float64, summed in another order through up to 150 layers.
F64_TWIN_RELEVANCE = 1e-9

"""When training lowers its learning rate and when it stops (SPEC 8), as Wang et al., CVPR 2020, released it."""

import dataclasses

RISE = 0.001
"""By how much validation accuracy must rise to count."""

RISE_AFTER_DROP = 0.002
"""The same once the rate has dropped."""

_ROUNDING = 1e-9  # accuracies and rates are decimal fractions: 0.9 + 0.001 must not exceed 0.901


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The state of the schedule; `after` gives the next.

    The rate is divided by 10 when validation accuracy has not risen by 0.1 % (0.2 % after the first drop) above its
    mark for `patience` epochs in a row; the first epoch at each rate sets the mark, whatever it is. Where the rate
    would fall below `minimum`, training stops instead.

    Attributes:
        rate: learning rate of the next epoch.
        patience: epochs without a rise that make the rate drop.
        minimum: smallest rate.
        mark: accuracy that has to be exceeded; None before the first epoch at this rate.
        waited: epochs since the mark was set.
        dropped: whether the rate has dropped before.
        stopped: training is over.
    """

    rate: float = 1e-4
    patience: int = 5
    minimum: float = 1e-6
    mark: float | None = None
    waited: int = 0
    dropped: bool = False
    stopped: bool = False

    def after(self, accuracy: float) -> "Plateau":
        """The state after an epoch that ended with this validation accuracy, 0 to 1."""
        rise = RISE_AFTER_DROP if self.dropped else RISE
        if self.mark is None or accuracy >= self.mark + rise - _ROUNDING:
            return dataclasses.replace(self, mark=accuracy, waited=0)
        if self.waited + 1 < self.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        if self.rate / 10 < self.minimum * (1 - _ROUNDING):
            return dataclasses.replace(self, waited=self.patience, stopped=True)
        return dataclasses.replace(self, rate=self.rate / 10, mark=None, waited=0, dropped=True)

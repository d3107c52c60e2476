"""The two ways in which a command can end badly, and what is said beside a result."""


class InputError(ValueError):
    """Something the user gave is unusable; the message says what, and what to do. The command line exits with 2."""


class CheckFailed(Exception):
    """A check that the user asked for did not hold. The command line exits with 1."""


class GraphAssumed(UserWarning):
    """A network was loaded whose graph the file does not say, nor anybody else: see `tffjax.nn.graph_options`."""

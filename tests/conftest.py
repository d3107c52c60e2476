"""How every test runs: two fake devices, strict dtypes, checked signatures, compiled programs kept between runs."""

# ruff: noqa: E402  what is set here must be set before JAX and tffjax are imported

import gc
import getpass
import os
import tempfile
from pathlib import Path

# Set before JAX is imported; subprocesses inherit them.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"tffjax-tests-{getpass.getuser()}")
)
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: PyTorch's threads would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jaxtyping

import tffjax

tffjax.__path__.append(str(Path(__file__).resolve().parents[1]))  # this checkout's conversion/, whatever is installed

# Before tffjax is imported: every signature in it is checked at every call, in the tests only.
jaxtyping.install_import_hook("tffjax", "beartype.beartype")

import cases
import jax
import numpy as np
import pytest

from tffjax.nn import Model, canonize

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_configure(config: pytest.Config) -> None:
    """Sets without numbers of real networks are compiled without most of XLA's optimizations, sooner."""
    if config.option.markexpr in ("fast", "extended and not slow and not parity"):
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for subprocesses
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What no other set has is fast."""
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("extended", "parity", "slow")):
            item.add_marker("fast")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden outputs, real checkpoints and images beside the checkout."""
    if not cases.SHARED.is_dir():
        pytest.skip(f"{cases.SHARED} is not here")
    return cases.SHARED


@pytest.fixture(scope="session", params=cases.GOLDEN, ids=lambda golden: golden.folder)
def golden(request, shared) -> cases.Golden:
    """Each golden network in turn."""
    return request.param


@pytest.fixture(scope="session")
def golden_model(golden) -> Model:
    """Its model, float32, as trained."""
    return golden.model()


@pytest.fixture(scope="session", params=cases.NETWORKS, ids=lambda network: network.name)
def network(request) -> cases.Network:
    """Each network in each of its conventions in turn."""
    return request.param


@pytest.fixture(scope="session")
def model(network) -> Model:
    """That network with random weights, three outputs."""
    return network.random_model(num_outputs=3)


@pytest.fixture(scope="session")
def folded(model) -> Model:
    """The same, canonized."""
    return canonize(model)


@pytest.fixture
def x64():
    """Double precision for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


MANY_MAPPINGS = 20_000
"""Of memory; each compiled program has some, and Linux ends a process that wants more than 65,530."""


@pytest.fixture(autouse=True)
def few_programs():
    """Drop compiled programs when there are very many: the process would be ended."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MANY_MAPPINGS:
        jax.clear_caches()
        gc.collect()

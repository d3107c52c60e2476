"""The order of the rooms: each imports only from those above it."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tffjax

PRODUCT = Path(tffjax.__file__).parent
FLOOR = {"doors", "errors", "files", "places"}  # what every room may stand on
ROOMS = (
    *("kernels", "nn", "compile", "lrp", "data", "results", "pipeline", "studies", "training"),
    *("report", "whole", "supplement", "embedded", "cli", "published"),
)
"""In the order in which they may import: each room from those before it, and from itself."""


def imports(path: Path) -> set[str]:
    """The parts of tffjax that a module imports, by their first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tffjax":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tffjax."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tffjax.")}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_above_it(room):
    above = FLOOR | {"__version__"} | set(ROOMS[: ROOMS.index(room) + 1])
    for path in (PRODUCT / room).rglob("*.py"):
        assert imports(path) <= above, path


def test_every_room_has_its_place():
    rooms = {path.parent.name for path in PRODUCT.glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    assert {path.stem for path in PRODUCT.glob("*.py")} == {*FLOOR, "__init__", "__main__"}


def test_the_floor_imports_nothing():
    for name in FLOOR:
        assert imports(PRODUCT / f"{name}.py") <= FLOOR


PRIVATE = ("_src", "core", "experimental", "extend", "interpreters", "lib")
"""Parts of JAX that are private, or that its API policy says may change without notice."""


def parts_of_jax(path: Path) -> set[str]:
    """`jax.<name>` of everything that a module imports from JAX or reads of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax":
            found |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jax.")}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax":
            found.add(node.attr)
    return found


def test_nothing_of_jax_that_may_change_is_used():
    for folder in (PRODUCT, PRODUCT.parent / "conversion", PRODUCT.parent / "tfds"):
        for path in folder.rglob("*.py"):
            assert not parts_of_jax(path) & set(PRIVATE), path


def test_parts_of_jax_are_seen(tmp_path):
    for line in ("import jax.core", "from jax._src import core", "from jax import extend", "import jax; jax.lib.x()"):
        (tmp_path / "a.py").write_text(line)
        assert parts_of_jax(tmp_path / "a.py") & set(PRIVATE), line


def test_every_package_is_installed():
    root = PRODUCT.parent
    if not (root / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    product = {".".join(path.parent.relative_to(root).parts) for path in PRODUCT.rglob("__init__.py")}
    beside = {
        ".".join(path.parent.relative_to(root).parts)
        for folder in ("conversion", "tfds")
        for path in (root / folder).rglob("__init__.py")
    }
    assert listed == product | {f"tffjax.{name}" for name in beside}


def test_every_file_that_is_no_module_is_installed():
    root = PRODUCT.parent
    if not (root / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["tffjax"]
    installed = {path for glob in globs for path in PRODUCT.glob(glob.replace("**", "**/*"))}
    files = {path for path in PRODUCT.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} <= installed


@pytest.mark.parametrize("door", ["tffjax", "tffjax.nn", "tffjax.lrp"])
def test_every_public_name_is_there_and_documented(door):
    module = importlib.import_module(door)
    for name in set(module.__all__) - {"__version__"}:
        public = getattr(module, name)
        assert public.__doc__ or not (inspect.isclass(public) or inspect.isfunction(public)), name


CALLS = """
import importlib, pkgutil, types
import tffjax
for module in pkgutil.walk_packages(tffjax.__path__, "tffjax."):
    if not module.name.startswith(("tffjax.conversion", "tffjax.tfds")):
        importlib.import_module(module.name)
for name in tffjax.__all__:
    public = getattr(tffjax, name)
    assert not isinstance(public, types.ModuleType), name
    if callable(public) and not isinstance(public, type):
        try:
            public()
        except TypeError as error:
            assert "missing" in str(error), (name, error)
        else:
            raise AssertionError(name)
"""


def test_no_public_function_is_hidden_by_a_module_of_its_name():
    """All modules are imported, then each function is called, without the arguments that it needs."""
    ended = subprocess.run(
        [sys.executable, "-c", CALLS], cwd=PRODUCT.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr

"""The GPU visit, rehearsed on this machine with small networks."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import tables
from gpu.work import WORK

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def visit(out: Path, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / "gpu_visit.py"), "--quick", "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_every_part_runs_and_a_second_visit_goes_on(tmp_path):
    visit(tmp_path / "visit", "--budget", "300")
    found = json.loads((tmp_path / "visit" / "gpu.json").read_text())
    assert found["missing"] == []
    assert found.keys() == tables.TITLES.keys()
    assert all("0 of" in row["result"] for row in found["exactness"] if row["what"].startswith("zero"))
    judged = [row for row in found["correctness"] if row.get("within")]
    assert judged
    assert all(row["within"] == "yes" for row in judged)
    assert "of the floor" in (tmp_path / "visit" / "visit.md").read_text()
    assert all(path.is_file() for path in (tmp_path / "visit").iterdir())
    assert len(list((tmp_path / "visit").iterdir())) <= 8
    assert "part" not in visit(tmp_path / "visit").split("###")[0]  # all is done


@pytest.mark.slow
def test_every_program_runs(tmp_path):
    visit(tmp_path / "visit", "--budget", "900", "--all")
    found = json.loads((tmp_path / "visit" / "gpu.json").read_text())
    assert found["missing"] == []
    assert {row["precision"] for row in found["speed"]} >= {"float32", "bfloat16"}


def test_programs_that_do_not_fit_the_budget_are_listed(tmp_path):
    visit(tmp_path / "visit", "--budget", "0", "--parts", "5")
    missing = json.loads((tmp_path / "visit" / "gpu.json").read_text())["missing"]
    assert {row["why"] for row in missing} == {"not reached"}


@pytest.mark.extended
def test_parts_without_files_need_few_packages():
    """Parts 1 to 6 run where grain, zennit and platformdirs are missing."""
    code = """
import sys
for name in ("grain", "zennit", "platformdirs"):
    sys.modules[name] = None
import gpu.checks, gpu.kernels, gpu.speed
from tffjax.studies.color.activations import max_activations
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.lrpmax.neurons import lrp_max
from tffjax.training.step import compile_step
"""
    path = f"{SCRIPTS}:{SCRIPTS.parent}"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path, "PATH": ""}, cwd="/")


def test_every_program_has_its_function():
    functions = {
        f"{path.stem}:{node.name}"
        for path in (SCRIPTS / "gpu").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert {work.function for work in WORK} <= functions
    assert len({work.name for work in WORK}) == len(WORK)


def test_the_share_of_the_floor():
    ceilings = [{"what": "products, float32", "rate": 50.0}, {"what": "copy", "rate": 4000.0}]
    rows = [
        {"pass": "a", "precision": "float32", "images/s": 1000.0, "GFLOP": 25.0, "GB": 0.5},
        {"pass": "b", "precision": "float32", "images/s": 1000.0, "GFLOP": 1.0, "GB": 2.0},
        {"pass": "c", "precision": "bfloat16", "images/s": 1000.0, "GFLOP": 1.0, "GB": 2.0},
    ]
    found = tables.with_floor(rows, ceilings)
    assert [row.get("of the floor") for row in found] == ["50 % (products)", "50 % (memory)", None]
    assert "| a | float32 | 1000 | 50 % (products) |" in tables.table(found)

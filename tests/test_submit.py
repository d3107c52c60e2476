"""Studies as jobs: the batch scripts that a cluster would get, and the jobs run as processes of this machine."""

import json
import pickle
import stat
from pathlib import Path

import cases
import pytest
from command import done, refused
from studies import make_images

from tffjax.errors import InputError
from tffjax.nn import checkpoint
from tffjax.pipeline.cluster import Round, Task, parameter


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Commands that stand in for Slurm's: submissions are the jobs 1, 2, and on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "squeue", "sacct", "scontrol"):
        script = folder / name
        script.write_text(
            f"#!/bin/sh\necho x >> {tmp_path}/jobs\necho Submitted batch job $(wc -l < {tmp_path}/jobs)\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_the_batch_scripts(slurm, tmp_path):
    out, logs = tmp_path / "run", tmp_path / "logs"
    words = ("rank", "detector", "images", "--out", out)
    settings = ("--set", "timeout_min=60", "--set", "slurm_partition=gpu", "--set", "gpus_per_node=1")
    said = done("submit", "--shards", 3, "--logs", logs, *settings, "--", *words).out
    assert said == f"submitted 3 shards, 1_0 and on, and their merger 2; what they print: {logs}\n"
    scripts = sorted((path.read_text() for path in logs.glob("*.sh")), key=len, reverse=True)
    array = next(text for text in scripts if "--array=0-2" in text)
    for line in ("--partition=gpu", "--time=60", "--gpus-per-node=1", "--job-name=tffjax-rank"):
        assert f"#SBATCH {line}" in array
    assert any("#SBATCH --dependency=afterok:1\n" in text and "--array" not in text for text in scripts)
    tasks = [pickle.loads((logs / f"1_{i}_submitted.pkl").read_bytes()).function for i in range(3)]  # our own
    assert tasks == [Task(("rank", "detector", "images", "--out", str(out), "--shard", f"{i}/3")) for i in range(3)]
    last = pickle.loads((logs / "2_submitted.pkl").read_bytes()).function
    assert last == Round(tasks[0].words[:-2], out, 3, logs, tuple(map(parameter, settings[1::2])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "a", "b"), "compare has no shards; the studies are color, dropout"),
        (("rank", "w", "d"), "the command needs --out RUN"),
        (("rank", "w", "d", "--out"), "the command needs --out RUN"),
        (("rank", "w", "d", "--out", "o", "--shard", "0/2"), "leave --shard out"),
    ],
)
def test_what_cannot_be_submitted(words, message):
    assert message in refused("submit", "--shards", 2, "--", *words)


def test_settings(tmp_path):
    assert [parameter(text) for text in ("a=1", "b=gpu", "c=0.5")] == [("a", 1), ("b", "gpu"), ("c", 0.5)]
    with pytest.raises(InputError, match="give KEY=VALUE"):
        parameter("a")
    words = ("--", "rank", "w", "d", "--out", tmp_path / "run")
    assert "--set: " in refused("submit", "--shards", 2, "--local", "--set", "nonsense=1", *words)


@pytest.mark.extended
def test_a_job_that_ends_badly_is_named(tmp_path):
    words = ("--", "predict", tmp_path / "none", tmp_path, "--out", tmp_path / "run")
    line = refused("submit", "--shards", 1, "--local", "--logs", tmp_path / "logs", *words)
    assert f"{tmp_path / 'none'}: no such checkpoint" in line
    assert line.endswith("_log.err); the same command goes on where it was")


@pytest.mark.slow
def test_jobs_of_this_machine(tmp_path):
    checkpoint.save(cases.B0_SAME.random_model(), tmp_path / "detector")
    images = make_images(tmp_path / "images")
    words = (tmp_path / "detector", images, "--batch-size", 3)
    done("predict", *words, "--out", tmp_path / "whole")
    done("submit", "--shards", 2, "--local", "--", "predict", *words, "--out", tmp_path / "run")
    ours, whole = ((tmp_path / name / "predictions.csv").read_bytes() for name in ("run", "whole"))
    assert ours == whole
    assert "results" in json.loads((tmp_path / "run" / "run.json").read_text())

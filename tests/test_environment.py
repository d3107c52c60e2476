"""What the surroundings of a process may be: flags, signals, locale, home, and shards of a scheduler."""

import os
import signal
import subprocess
import sys

import pytest
from command import save_image

from tffjax.cli.main import _interruptible
from tffjax.compile.devices import require_flags
from tffjax.errors import InputError
from tffjax.pipeline.request import Shard, parse_shard


@pytest.mark.parametrize("flags", ["--xla_bogus=1", "--xla_force_host_platform_device_count=two"])
def test_flags_that_xla_does_not_know(flags, tmp_path):
    with pytest.raises(InputError, match=r"XLA_FLAGS=.* is refused \((Unknown|Flag).*\); correct it, or unset"):
        require_flags(flags, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_flags_are_tried_once(tmp_path):
    require_flags("", tmp_path)
    assert list(tmp_path.iterdir()) == []
    require_flags("--xla_force_host_platform_device_count=2", tmp_path / "new")
    (note,) = (tmp_path / "new").iterdir()
    note.rename(tmp_path / note.name)
    require_flags("--xla_force_host_platform_device_count=2", tmp_path)


def interrupted(number: signal.Signals) -> bool:
    try:
        with _interruptible():
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 0.1)
    except KeyboardInterrupt:
        return True
    return False


def test_a_closed_terminal_ends_a_run_like_ctrl_c_unless_nohup_says_otherwise():
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert interrupted(signal.SIGTERM)
        assert interrupted(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert not interrupted(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


SLURM = {f"SLURM_ARRAY_TASK_{name}": value for name, value in {"ID": "3", "MIN": "1", "MAX": "4", "COUNT": "4"}.items()}


@pytest.mark.parametrize("name", SLURM)
@pytest.mark.parametrize("value", [None, "", "x"])
def test_half_of_what_slurm_sets(name, value):
    assert parse_shard("auto", SLURM) == Shard(2, 4)
    half = {key: v for key, v in {**SLURM, name: value}.items() if v is not None}
    with pytest.raises(InputError, match=r"^--shard auto: (?!.*--shard auto).*(give --shard I/N|cannot be read)"):
        parse_shard("auto", half)


PREDICT = "from studies import networks_by_name\nfrom tffjax.cli.main import main\nwith networks_by_name(): main()"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": None, "XDG_CACHE_HOME": None},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/nowhere", "JAX_COMPILATION_CACHE_DIR": None},
        {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "2", "SLURM_PROCID": None},
        {"TMPDIR": "/nonexistent"},
        {"MPLBACKEND": "bogus", "MPLCONFIGDIR": "/proc/nowhere"},
    ],
    ids=["C locale", "no home", "no folder for caches", "half of Slurm", "no TMPDIR", "Matplotlib"],
)
def test_a_run_goes_well_in(changes, tmp_path):
    save_image(tmp_path / "data/ü/0_real/日本.png", 0)
    environment = {key: value for key, value in {**os.environ, **changes}.items() if value is not None}
    command = [sys.executable, "-c", PREDICT, "predict", "decisive", tmp_path / "data", "--out", tmp_path / "out"]
    ended = subprocess.run(command, env=environment, cwd=os.path.dirname(__file__), capture_output=True, check=False)  # noqa: PTH120
    assert ended.returncode == 0, ended.stderr
    assert b"1 images scored, 0 skipped" in ended.stdout

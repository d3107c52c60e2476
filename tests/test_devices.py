"""What is said of devices that are missing, taken or too small, and halved batches."""

from types import SimpleNamespace

import jax
import pytest
from command import tffjax_command
from studies import make_images, networks_by_name

import tffjax.studies.ffrs.run
from tffjax.cli import memory
from tffjax.compile import devices
from tffjax.compile.devices import (
    User,
    batch_that_fits,
    is_out_of_memory,
    other_users,
    require_devices,
    why_out_of_memory,
)
from tffjax.errors import InputError

OUT_OF_MEMORY = jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 40000000000 bytes."
)


def test_no_gpu_where_one_was_asked_for(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda': no device found\nmore")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(InputError, match=r"JAX_PLATFORMS=cuda asks for a device .*no device found.*JAX_PLATFORMS=cpu"):
        require_devices()


def test_a_plugin_that_fails_is_one_line(monkeypatch, capsys):
    """JAX logs a traceback and goes on with the CPU, or, where nothing else is allowed, fails without a word."""

    def fail(then=None):
        try:
            raise OSError("Unable to load cuPTI. Is it installed?\nmore")
        except OSError:
            devices.logging.getLogger("jax._src.xla_bridge").exception("Jax plugin configuration error")
        assert then is not None
        return then

    monkeypatch.setattr(jax, "devices", lambda: fail([]))
    assert require_devices() == "Unable to load cuPTI. Is it installed?"
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(InputError, match="Unable to load cuPTI"):
        require_devices()
    assert capsys.readouterr() == ("", "")


def test_who_holds_the_memory():
    lines = f"12, 300\n{devices.os.getpid()}, 5000\n77, 61000 MiB\nnonsense\n"
    assert other_users(lambda: lines) == [User(77, 61000), User(12, 300)]
    assert "process 77 holds 61000 MiB" in why_out_of_memory(lambda: lines)
    assert why_out_of_memory(lambda: "") == ""


def test_without_nvidia_smi_nobody_is_known(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert other_users() == []


@pytest.mark.parametrize(
    ("message", "limit", "size"),
    [
        ("while trying to allocate 40000000000 bytes", 10_000_000_000, 16),  # 128 need 4 times as much, and a margin
        ("Failed to allocate 2.0GiB", 2**40, 64),  # fits as such: something else is wrong; the half
        ("no number", 2**30, 64),
        ("while trying to allocate 40000000000 bytes", 1, 1),
        ("while trying to allocate 40000000000 bytes", 0, 64),
    ],
)
def test_the_batch_that_fits(message, limit, size):
    assert batch_that_fits(RuntimeError(message), 128, limit) == size


def test_what_out_of_memory_is():
    assert is_out_of_memory(OUT_OF_MEMORY)
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INVALID_ARGUMENT: RESOURCE is fine"))
    assert not is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED"))


class Failing:
    """A command that does not fit until its batches are small enough."""

    def __init__(self, fits: int, error=OUT_OF_MEMORY) -> None:
        self.fits, self.error, self.asked = fits, error, []

    def __call__(self, **given):
        self.asked.append(given)
        if given["batch_size"] is None or given["batch_size"] > self.fits:
            raise self.error


def given(**changes):
    return {"batch_size": 64, "quiet": True, "resume": None, "shard": None, "overwrite": False} | changes


def halving(command):
    return memory.halving(lambda **given: command(**given))


def test_the_batch_is_halved_once_and_the_run_made_anew():
    command = Failing(fits=32)
    halving(command)(**given())
    assert [g["batch_size"] for g in command.asked] == [64, 32]
    assert [g["overwrite"] for g in command.asked] == [False, True]


def test_the_default_batch_is_halved_too():
    command = Failing(fits=8)
    halving(command)(**given(batch_size=None))
    assert command.asked[1]["batch_size"] == 8


def test_a_half_that_does_not_fit_says_which_size_does():
    with pytest.raises(InputError, match="32 images a batch do not fit the device's memory; try --batch-size 16"):
        halving(Failing(fits=2))(**given())


@pytest.mark.parametrize("changes", [{"resume": "run"}, {"shard": "0/2"}, {"batch_size": 1}])
def test_where_the_size_cannot_change_it_is_not_halved(changes):
    command = Failing(fits=0)
    with pytest.raises(InputError, match="start anew with --batch-size"):
        halving(command)(**given(**changes))
    assert len(command.asked) == 1


@pytest.mark.parametrize("error", [RuntimeError("x"), jax.errors.JaxRuntimeError("INTERNAL: x")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)):
        halving(Failing(fits=2, error=error))(**given())


@pytest.mark.extended
def test_a_command_goes_on_with_half_the_batch(tmp_path, monkeypatch):
    data, seen = make_images(tmp_path / "data"), []
    compile_sizes = tffjax.studies.ffrs.run.compile_sizes

    def first_too_large(reporter, images, *arguments, **options):
        seen.append(images.batch_size)
        if images.batch_size > 2:
            raise OUT_OF_MEMORY
        return compile_sizes(reporter, images, *arguments, **options)

    monkeypatch.setattr(tffjax.studies.ffrs.run, "compile_sizes", first_too_large)
    with networks_by_name():
        ended = tffjax_command(
            "rank", "small", data, "--out", tmp_path / "run", "--batch-size", 4, "--crop", 32, "--resize", 32,
            "--confidence", 0,
        )  # fmt: skip
    assert ended.code == 0, ended.err
    assert seen == [4, 2]
    assert "4 images a batch do not fit the device's memory; going on with 2" in ended.err


def test_a_command_that_is_out_of_memory_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr("tffjax.cli.main.cli", SimpleNamespace(main=Failing(fits=0)), raising=True)
    monkeypatch.setattr("tffjax.cli.main.cli.main", lambda **_: (_ for _ in ()).throw(OUT_OF_MEMORY))
    ended = tffjax_command("heatmap")
    assert ended.code == 2
    assert ended.err == "tffjax: error: the device is out of memory; give smaller or fewer images at a time\n"

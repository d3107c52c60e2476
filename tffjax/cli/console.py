"""What every command shares: starting JAX, talking to the person, writing files whole or not at all."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jax
import platformdirs
import pyarrow as pa
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tffjax.compile.devices import require_devices, require_flags
from tffjax.errors import InputError
from tffjax.files import printable
from tffjax.kernels.precision import PRECISIONS
from tffjax.results.tables import screen_table

quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of convolutions and dots. tensorfloat32: of NVIDIA GPUs, faster, 10 bits of mantissa. bfloat16: 7 bits, and "
    "arrays are stored so; sums stay float32.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is at the output's place.")


def start_jax() -> None:
    """Keep compiled programs in the user's cache folder, so that the next run starts at once.

    `JAX_COMPILATION_CACHE_DIR` names another folder, and an empty one switches the cache off.

    Raises:
        InputError: as `tffjax.compile.devices.require_flags` and `require_devices`.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", platformdirs.user_cache_dir("tffjax"))
    jax.config.update("jax_compilation_cache_dir", folder or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    require_flags(os.environ.get("XLA_FLAGS", ""), Path(folder) if folder else None)
    if why := require_devices():
        click.echo(
            f"tffjax: runs on {jax.default_backend()}, since JAX cannot use what it is installed for: {why}", err=True
        )


def refuse_unused(why: str, *names: str) -> None:
    """Refuse options of the running command that would do nothing.

    Raises:
        InputError: one of the parameters of these names is given on the command line.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InputError(f"--{name.replace('_', '-')} does nothing {why}")


class Talk:
    """Where a command's words go: results to standard output, progress and warnings to standard error."""

    def __init__(self, quiet: bool) -> None:
        """`quiet` silences everything but errors, which are not said here."""
        self.results = Console(quiet=quiet, highlight=False, soft_wrap=True, width=_width(sys.stdout))
        self.progress_console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._bar: tuple[Progress, TaskID] | None = None

    def say(self, renderable: Any) -> None:
        """Print a result: text or a table."""
        if isinstance(renderable, str):
            self.results.print(printable(renderable), markup=False)
        else:
            self.results.print(renderable)

    def table(self, table: pa.Table, title: str, formats: Mapping[str, str]) -> None:
        """Print a table."""
        self.say(screen_table(table, title, dict(formats)))

    def warn(self, message: str) -> None:
        """Print a warning."""
        self.progress_console.print(f"tffjax: {printable(message)}", markup=False, style="yellow")

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something without a known length is going on; inside `progress`, in place of the bar's words."""
        if self._bar is None:
            with self.progress_console.status(escape(what)):
                yield
            return
        bar, task = self._bar
        before = bar.tasks[0].description
        bar.update(task, description=escape(what))
        try:
            yield
        finally:
            bar.update(task, description=before)

    @contextlib.contextmanager
    def progress(self, what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
        """A progress bar with rate and time left.

        Call the value with the number of units done since the last call, and perhaps a word on how it goes.
        """
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.progress_console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            self._bar = bar, task
            try:
                yield lambda count, note="": bar.update(
                    task, advance=count, description=escape(f"{what}: {note}" if note else what)
                )
            finally:
                self._bar = None


def _width(stream: Any) -> int | None:
    """Wide where nobody's terminal sets the width, so that piped tables are not cut."""
    return None if stream.isatty() else 200


class _Rate(TextColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self._unit = unit

    def render(self, task: Any) -> Any:
        self.text_format = f"{task.speed:.1f} {self._unit}/s" if task.speed else ""
        return super().render(task)

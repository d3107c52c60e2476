"""The `tffjax` command: finds the subcommands, and turns the ways a run can end into exit codes.

0 done; 1 a check that the user asked for failed; 2 bad input, interrupted, or no room; one line on standard error says
why. 3 is a defect of tffjax.
"""

import contextlib
import importlib
import importlib.metadata
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import click

from tffjax import __version__
from tffjax.cli.streams import lasting_streams
from tffjax.errors import CheckFailed, GraphAssumed, InputError
from tffjax.files import no_room, printable

_COMMANDS = {
    "across": "tffjax.cli.across:across_command",
    "audit": "tffjax.cli.audit:audit_command",
    "check": "tffjax.cli.check:check",
    "color": "tffjax.cli.color:color",
    "compare": "tffjax.cli.compare:compare",
    "demo": "tffjax.cli.demo:demo",
    "dropout": "tffjax.cli.dropout:dropout",
    "figure": "tffjax.cli.figure:figure",
    "find-k": "tffjax.cli.find_k:find_k_command",
    "generate": "tffjax.cli.generate:generate",
    "generator": "tffjax.cli.generator:generator",
    "heatmap": "tffjax.cli.heatmap:heatmap",
    "lrpmax": "tffjax.cli.lrpmax:lrpmax",
    "merge": "tffjax.cli.merge:merge_command",
    "paper": "tffjax.cli.paper:paper_command",
    "pack": "tffjax.cli.pack:pack_command",
    "predict": "tffjax.cli.predict:predict",
    "rank": "tffjax.cli.rank:rank",
    "report": "tffjax.cli.report:report",
    "study": "tffjax.cli.study:study",
    "submit": "tffjax.cli.submit:submit_command",
    "train": "tffjax.cli.train:train",
}


class _Commands(click.Group):
    """Subcommands by name, imported when they are called; other packages add theirs as entry points."""

    def _table(self) -> dict[str, str]:
        points = importlib.metadata.entry_points(group="tffjax.commands")
        return {**_COMMANDS, **{point.name: point.value for point in points}}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(self._table())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._table():
            return None
        module, _, attribute = self._table()[name].partition(":")
        return getattr(importlib.import_module(module), attribute)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="tffjax")
def cli() -> None:
    """Explain CNN forgery detectors: which channels find generated images, and what do they look at?

    \b
    Example:
      tffjax demo
      tffjax convert detector.pth detector
      tffjax verify detector
      tffjax study detector images/ --out study
      tffjax predict detector images/ --out results
      tffjax rank detector images/ --out rank
      tffjax dropout detector images/ --ranking rank/ranking_fake.csv --out dropout
    """


def main() -> None:
    """Run the command line and exit with 0, 1, 2 or 3."""
    with lasting_streams():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        with _interruptible(), _doubts_in_a_line():
            # click returns the code of an early exit (--help) and None from a command
            code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except CheckFailed as error:
        code = _say("failed", error, 1)
    except InputError as error:
        code = _say("error", error, 2)
    except (click.Abort, KeyboardInterrupt):
        code = _say("interrupted", "nothing half-written was left behind", 2)
    except OSError as error:
        code = _say("error", f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), 2)
    except Exception as error:
        from tffjax.compile.devices import is_out_of_memory  # here, for it imports JAX, which --help does without

        if is_out_of_memory(error):
            code = _say("error", "the device is out of memory; give smaller or fewer images at a time", 2)
        elif why := no_room(error):
            code = _say("error", f"{why}; make room, then give the command again", 2)
        else:  # a defect of tffjax, which is neither a failed check nor the user's
            traceback.print_exc()
            code = _say("internal error", "this is a defect of tffjax; please report the lines above", 3)
    return code or 0


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end the run like ctrl-C, and none gets lost.

    A SIGHUP that is ignored, as by nohup, stays so.

    Python drops an exception that is raised while it collects garbage, where JAX runs a callback; a KeyboardInterrupt
    that was dropped is therefore sent again.
    """
    heard = [signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else [])]
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    hook, main_thread = sys.unraisablehook, threading.main_thread().ident

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGTERM)).start()
        else:
            hook(dropped)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _doubts_in_a_line() -> Iterator[None]:
    """A network with an assumed graph is named once, in a line; a damaged cache of compiled programs is repaired."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            line = str(message) if issubclass(category, GraphAssumed) else _repaired(str(message))
            if line is None:
                show(message, category, *rest, **more)
            elif "--quiet" not in sys.argv:
                click.echo(f"tffjax: {line}", err=True)

        warnings.showwarning = say
        warnings.simplefilter("once", GraphAssumed)
        yield


def _repaired(warning: str) -> str | None:
    if "compilation cache" not in warning:
        return None
    from tffjax.compile.cache import repair  # here, as above

    return repair(warning)


def _say(kind: str, message: object, code: int) -> int:
    click.echo(f"tffjax: {kind}: {printable(str(message))}", err=True)
    return code

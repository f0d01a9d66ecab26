"""The command line: one module per command, wrong use and bad input are one sentence and exit status 2."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

import randhet
from randhet.base.child import leave_current_folder
from randhet.base.errors import RandhetError
from randhet.base.files import destination, keeping
from randhet.cli.console import complain
from randhet.cli.listed import Listed

COMMANDS = (
    "demo",
    "train",
    "attack",
    "export",
    "import-nir",
    "inspect",
    "run",
    "compare",
    "budget",
    "sweep",
    "bench",
    "doctor",
)
WRONG_USE, STOPPED = 2, 130

app = typer.Typer(
    name="randhet",
    help="From a trained spiking network with random membrane decay to fixed point on Lava, compared at every step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


READ = {"config", "begin", "sweep", "beside", "weights"}
"""Options that name a file to read; an argument always does."""


def _argument(parameter: Parameter) -> bool:
    return any(isinstance(extra, ArgumentInfo) for extra in getattr(parameter.annotation, "__metadata__", ()))


def _paths(values: Iterable[Any]) -> Iterator[Path]:
    """The paths among these values, those in lists too."""
    for value in values:
        yield from (path for path in (value if isinstance(value, list) else [value]) if isinstance(path, Path))


def _file(path: Path) -> Path:
    """The file that an argument names, FILE.py of FILE.py:NAME."""
    return Path(re.sub(r"(\.py):\w+$", r"\1", str(path)))


def _refuse(outputs: Iterable[Any]) -> None:
    """FileError, before any work, where an output is a device, a pipe or an input; folders are looked into later."""
    for path in _paths(outputs):
        if not path.is_dir():
            destination(path)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with every error that a user can cause turned into one sentence and its exit status."""

    arguments = {
        name for name, parameter in signature(command, eval_str=True).parameters.items() if _argument(parameter)
    }

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with keeping(*map(_file, _paths(value for name, value in kwargs.items() if name in arguments | READ))):
                _refuse(value for name, value in kwargs.items() if name not in arguments | READ)
                return command(*args, **kwargs)
        except RandhetError as error:
            complain(str(error))
            raise typer.Exit(WRONG_USE) from None
        except MemoryError:
            complain("there is not enough memory for this: use fewer --samples")
            raise typer.Exit(WRONG_USE) from None
        except BrokenPipeError:  # whoever read our output went away; Typer ends quietly
            raise
        except OSError as error:
            complain(": ".join(str(text) for text in (error.filename, error.strerror or error) if text))
            raise typer.Exit(WRONG_USE) from None
        except KeyboardInterrupt:
            complain("stopped")
            raise typer.Exit(STOPPED) from None

    return run


for name in COMMANDS:
    app.command(name, cls=Listed)(guarded(import_module(f"randhet.cli.commands.{name.replace('-', '_')}").command))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"randhet {randhet.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `randhet` command."""
    leave_current_folder()
    try:
        app()
    except KeyboardInterrupt:  # while the command line itself was being read
        sys.exit(STOPPED)

"""The command line called inside a test; shared by the tests of the commands."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from randhet.cli.app import app


def call(*arguments: object) -> Result:
    """`randhet` with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def parsed(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))

"""The command line: parse, call, print, write. No arithmetic."""

import sys

import typer

from fourier_circuits.cli.networks import ablate, analyse, report, reproduce
from fourier_circuits.cli.training import measure, train

app = typer.Typer(
    help="Does this network compute with rotations, and can you prove it by taking them away?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (reproduce, report, analyse, ablate, train, measure):
    app.command()(command)


def main() -> None:
    """The entry point: bad input is one sentence on standard error and exit code 2."""
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if type(error) is RuntimeError:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)

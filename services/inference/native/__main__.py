"""`python -m services.inference.native`: compile the kernels for this kind of processor."""

from __future__ import annotations

import click

from .build import BuildError, build_kernels

HELP = """Compile the kernels that compute forecasts on a processor (docs/performance.md says how much faster).

`make venv` does this where there is a C++ compiler, and the inference image brings them along; by hand it is needed only
after a compiler was installed later. Takes a few seconds, and nothing where all is up to date. Without them torch does
the same work; a worker says at its start which it uses.
"""


@click.command(help=HELP)
@click.option("--compiler", metavar="NAME", help="The C++ compiler.  [default: $CXX, or g++]")
@click.option("--if-possible", is_flag=True, help="Where they cannot be compiled, say so and succeed.")
def main(compiler: str | None, if_possible: bool) -> None:
    try:
        libraries = build_kernels(compiler)
    except BuildError as error:
        if not if_possible:
            raise click.ClickException(str(error)) from error
        click.echo(f"{error}\nGoing on without kernels of our own: torch will do their work.")
        return
    for library in libraries:
        click.echo(library.name)


if __name__ == "__main__":
    main()

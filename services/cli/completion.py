"""`kronos-live completion`: words completed by the shell. Click makes the script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands and options in a shell.

    \b
    bash:  kronos-live completion bash >> ~/.bashrc
    zsh:   kronos-live completion zsh  >> ~/.zshrc
    fish:  kronos-live completion fish > ~/.config/fish/completions/kronos-live.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all that the argument allows
    root = context.find_root().command
    click.echo(kind(root, {}, "kronos-live", "_KRONOS_LIVE_COMPLETE").source())

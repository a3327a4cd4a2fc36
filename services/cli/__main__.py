"""`python -m services.cli` is `kronos-live`."""

from services.cli import main

main(prog_name="kronos-live")

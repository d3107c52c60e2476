"""`python -m tffjax` is the `tffjax` command."""

from tffjax.cli.main import main

main()

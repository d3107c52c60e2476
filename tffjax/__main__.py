"""`python -m tffjax` is the `tffjax` command."""

from tffjax.cli.main import main

if __name__ == "__main__":
    main()

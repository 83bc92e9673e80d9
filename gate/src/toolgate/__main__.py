"""``python -m toolgate``: the same as the ``toolgate`` command."""

from toolgate.cli import main

if __name__ == "__main__":
    main()

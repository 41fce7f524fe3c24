"""``python -m cpframe``: the same as the command ``cpframe``."""

from cpframe.cli import main

main()

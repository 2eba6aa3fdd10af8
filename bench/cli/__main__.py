"""`python -m bench.cli`: the command itself."""

from bench.cli import main

main()

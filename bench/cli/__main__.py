"""`python -m bench.cli`: the command itself."""

from bench.cli.main import main

main()

"""`python -m bench` is `regbench`."""

from bench.cli import main

if __name__ == "__main__":  # processes of a pool import the module that was started
    main()

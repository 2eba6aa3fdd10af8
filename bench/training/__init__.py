"""One run: start reading in run.py."""

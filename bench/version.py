"""regbench's version, which wheels and records carry."""

__version__ = "0.1.0"

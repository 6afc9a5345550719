"""The package's version. `pyproject.toml` reads it from here: asking the installed package for it costs each start 20 ms."""

__version__ = "0.2.0"

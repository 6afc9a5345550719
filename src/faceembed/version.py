"""The package's version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("faceembed")
except PackageNotFoundError:  # run from the source tree through PYTHONPATH
    __version__ = "0+unknown"

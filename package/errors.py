"""What can go wrong when the package is built."""

from __future__ import annotations


class PackageError(Exception):
    """The package cannot be built; the message says why and what to do next.

    Example: a wheel that the lock names is not on the index any more.
    """

"""Builds the vehicle's Debian package from wheels that are pinned by hash (docs/packaging.md)."""

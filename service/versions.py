"""Versions of what is installed: for `--version`, run.json and bundles' readers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(distribution: str) -> str:
    """Its version, or words that it is not installed (run from a checkout, probewatch itself need not be)."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"

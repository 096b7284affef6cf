"""Prometheus' own programs: the Debian package `prometheus` has both. In CI they must be there."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of promtool or prometheus; skips the test without it, but fails it where the environment says CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing: .ci/run installs the package prometheus")
        pytest.skip(f"{name} is not installed (apt install prometheus)")
    return found

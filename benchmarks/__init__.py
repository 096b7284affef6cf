"""Measurements of the whole service, each a command: `python -m benchmarks.NAME`. See README.md."""

"""First on PYTHONPATH, it makes a process of the service count nothing: no metrics, no sums of statistics.

What is compared with it is the service as it is. Rows, batches and budgets go on as ever: they are no monitoring.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _no_metrics(module: Any) -> None:
    for kind, methods in (("Counter", ("inc",)), ("Gauge", ("set", "inc", "dec")), ("Histogram", ("observe",))):
        for method in methods:
            setattr(getattr(module, kind), method, _nothing)


def _no_calls(module: Any) -> None:
    module.called = module.fold = _nothing


def _no_sums(module: Any) -> None:
    def write(self: Any, connection: Any) -> None:
        if self._sums:
            module.budgets.charge(connection, self._costs())

    module.Sums.write = write


_CHANGES: dict[str, Callable[[Any], None]] = {
    "prometheus_client.metrics": _no_metrics,
    "core.metrics_calls": _no_calls,
    "core.rollup": _no_sums,
}


class _Changed(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _CHANGES[module.__name__](module)


class _Finder(importlib.abc.MetaPathFinder):
    # Not imported here: gevent has to patch the standard library before anything else is.
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in _CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changed(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())

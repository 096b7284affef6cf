"""What every process begins with, before it imports anything else: gevent's patches, and nothing loaded in vain."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gevent import events, monkey

from core import garbage

#: Packages that others look for and that, if they are there, are loaded with all they import: structlog's for
#: tracebacks in colours, which would show secrets, and the one that redis counts its commands with.
_NOT_USED = ("rich", "better_exceptions", "opentelemetry")


def begin() -> None:
    """Patch the standard library; a second time does nothing. What is imported afterwards is patched."""
    gc.set_threshold(*garbage.THRESHOLDS)
    # gevent looks for plugins in all installed packages for each module that it patches: a fifth of a second.
    events.notify_and_call_entry_points = events.notify
    monkey.patch_all()
    with _hidden(_NOT_USED):
        import redis  # noqa: F401
        import structlog  # noqa: F401


@contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """Inside, those that are not loaded yet are not found."""
    hidden = [name for name in packages if name not in sys.modules]
    # (None makes an import fail, as the import system documents it)
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]

"""The tables, as SQLModel classes, a module for each idea. A test holds them against what the migrations make.

Importing the package fills the metadata: foreign keys find their tables whichever module is asked for.
"""

from core.tables import (
    batches,
    budgets,
    completions,
    connections,
    dispatch,
    files,
    idempotency,
    native,
    statistics,
    tenants,
    webhooks,
)

__all__ = [
    "batches",
    "budgets",
    "completions",
    "connections",
    "dispatch",
    "files",
    "idempotency",
    "native",
    "statistics",
    "tenants",
    "webhooks",
]

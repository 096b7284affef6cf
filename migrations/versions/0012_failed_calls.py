"""Completions keep the calls that failed before the one that decided them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # Nullable and without a default: neither table is rewritten.
    op.add_column("completion", sa.Column("failed_attempts", JSONB(), nullable=True))
    op.add_column("lease", sa.Column("failures", JSONB(), nullable=True))

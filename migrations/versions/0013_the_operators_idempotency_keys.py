"""Idempotency keys of the operator, and answers that are kept encrypted because they hold a secret."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("idempotency_key", sa.Column("ciphertext", sa.LargeBinary(), nullable=True))
    op.add_column("idempotency_key", sa.Column("key_version", sa.Integer(), nullable=True))
    op.alter_column("idempotency_key", "tenant_id", nullable=True)
    op.alter_column("idempotency_key", "project_id", nullable=True)
    op.drop_index("idempotency_key_key", "idempotency_key")
    op.create_index(
        "idempotency_key_key",
        "idempotency_key",
        ["project_id", "key"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )

"""Native shards: whether their step has begun, when an answer is known to be lost, what is ours on suspicion only."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("native_shard", sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("native_shard", sa.Column("create_lost_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("native_shard", sa.Column("adopted", sa.Boolean(), server_default=sa.text("false"), nullable=False))

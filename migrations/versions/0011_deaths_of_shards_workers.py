"""Native shards count the workers that died with them in hand, one after the other."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("native_shard", sa.Column("deaths", sa.SmallInteger(), server_default="0", nullable=False))

"""Native shards are only read by tenants: what stops them is done by the platform."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("REVOKE UPDATE ON native_shard FROM llm_service_tenant")

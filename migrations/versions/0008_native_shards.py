"""Native batches: shards of rows that go through a provider's batch API, and how each lane is run."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("lane", sa.Column("processing", sa.Text(), server_default=sa.text("'realtime'"), nullable=False))
    op.add_column("lane", sa.Column("processing_reason", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("batch", sa.Column("prompt_caching", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.create_table(
        "native_shard",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("lane_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("formed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("first_n", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("handed_n", sa.Integer(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reserved_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("rounds", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("cancel_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("handing_back", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("refused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("sent_rows", sa.Integer(), nullable=True),
        sa.Column("create_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("remote_status", sa.Text(), nullable=True),
        sa.Column("remote_completed", sa.Integer(), nullable=True),
        sa.Column("remote_failed", sa.Integer(), nullable=True),
        sa.Column("taken_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("answered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("returned", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wasted_rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wasted_usd", sa.Numeric(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("native_shard_pkey")),
    )
    op.create_index(op.f("native_shard_batch_id_idx"), "native_shard", ["batch_id"], unique=False)
    op.create_index("native_shard_due", "native_shard", ["due_at"], postgresql_where=sa.text("state <> 'cleaned'"))
    op.execute("ALTER TABLE native_shard ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY own_rows ON native_shard TO llm_service_tenant"
        " USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
    )
    # A tenant looks at its shards, and stops them with their batch.
    op.execute("GRANT SELECT, UPDATE ON native_shard TO llm_service_tenant")

"""What a project keeps of its completions, the index that logs are read by, and the hourly sums of statistics."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("project", sa.Column("log_bodies", sa.Text(), server_default=sa.text("'full'"), nullable=False))
    op.add_column("project", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column("completion", sa.Column("model_called", sa.Text(), nullable=True))
    op.create_index("completion_log", "completion", ["project_id", "created_at", "id"], unique=False)
    op.create_table(
        "rollup",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("processing", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=False),
        sa.Column("savings_usd", sa.Numeric(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("latency", sa.Numeric(), nullable=False),
        sa.Column("first_token", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint(
            "project_id", "hour", "provider", "model", "processing", "status", "error_type", name=op.f("rollup_pkey")
        ),
        # Changed by every commit of the present hour: with room on its page that leaves the index alone.
        postgresql_with={"fillfactor": "50"},
    )
    op.execute("ALTER TABLE rollup ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY own_rows ON rollup TO llm_service_tenant"
        " USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
    )
    op.execute("GRANT SELECT ON rollup TO llm_service_tenant")
    # Rows that ended before there were sums are in them too; their latencies are not.
    op.execute(
        "INSERT INTO rollup"
        " SELECT project_id, date_trunc('hour', ended_at, 'UTC'), provider, model, processing, status,"
        " coalesce(error_type, ''), tenant_id, count(*), sum(attempts), coalesce(sum(input_tokens), 0),"
        " coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(cache_write_tokens), 0),"
        " coalesce(sum(reasoning_tokens), 0), coalesce(sum(cost_usd), 0),"
        " coalesce(sum(coalesce(list_cost_usd, cost_usd) - cost_usd), 0),"
        " count(*) FILTER (WHERE status = 'succeeded' AND cost_usd IS NULL), 0, 0"
        " FROM completion WHERE ended_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    )

"""Webhooks: callbacks of audits and what came of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("audit_id", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("audit_id"),
    )
    op.create_index(
        "webhooks_to_deliver", "webhooks", ["status", "next_attempt_at"], unique=False
    )
    op.add_column(
        "audits", sa.Column("webhook_id", sa.String(length=255), nullable=True)
    )
    op.add_column(
        "schedules", sa.Column("callback_secret", sa.String(length=255), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("schedules", "callback_secret")
    op.drop_column("audits", "webhook_id")
    op.drop_index("webhooks_to_deliver", table_name="webhooks")
    op.drop_table("webhooks")

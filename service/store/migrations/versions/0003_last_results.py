"""What came of a schedule's latest due time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedules", sa.Column("last_result", sa.String(length=255)))
    op.add_column("schedules", sa.Column("last_problem", sa.JSON()))


def downgrade() -> None:
    op.drop_column("schedules", "last_problem")
    op.drop_column("schedules", "last_result")

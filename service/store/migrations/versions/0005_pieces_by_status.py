"""An index for what waits: workers that linger look for it many times a second."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("pieces_by_status", "pieces", ["status", "subject_id"])


def downgrade() -> None:
    op.drop_index("pieces_by_status", "pieces")

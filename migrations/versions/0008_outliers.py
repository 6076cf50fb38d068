"""Tokens with an outlying residual do not count; from which norm on, an SAE of a harvest.

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("harvest_sae", sa.Column("max_norm", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("harvest_sae", "max_norm")

"""Changes of many labels at once, as of a tag that every feature bears, made cheaper.

Half of each page is left free, so that a label's next state fits beside its present one and no
index is written. Changes lose their foreign key, which was looked up for every row: they are
copied from labels, which have it, and SAEs with labels are never deleted.

Revision: 0007
Follows: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE label SET (fillfactor = 50)")
    op.drop_constraint(op.f("label_change_labelled_sae_id_fkey"), "label_change")


def downgrade() -> None:
    op.create_foreign_key(
        op.f("label_change_labelled_sae_id_fkey"),
        "label_change",
        "labelled_sae",
        ["labelled_sae_id"],
        ["id"],
    )
    op.execute("ALTER TABLE label RESET (fillfactor)")

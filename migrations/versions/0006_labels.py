"""Labels and tags of features, and every change of them.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "labelled_sae",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("sae_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("labelled_sae_pkey")),
        sa.UniqueConstraint("model_id", "sae_id", name=op.f("labelled_sae_model_id_sae_id_key")),
    )
    op.create_table(
        "tag",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("tag_pkey")),
        sa.UniqueConstraint("name", name=op.f("tag_name_key")),
    )
    op.create_table(
        "label",
        sa.Column("labelled_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column(
            "changed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "words",
            postgresql.TSVECTOR(),
            sa.Computed(
                "to_tsvector('simple'::regconfig, name || ' ' || note)", persisted=True
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["labelled_sae_id"], ["labelled_sae.id"], name=op.f("label_labelled_sae_id_fkey")
        ),
        sa.PrimaryKeyConstraint("labelled_sae_id", "index", name=op.f("label_pkey")),
    )
    op.create_index(op.f("label_words_idx"), "label", ["words"], postgresql_using="gin")
    op.create_table(
        "label_tag",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("labelled_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name=op.f("label_tag_tag_id_fkey")),
        sa.ForeignKeyConstraint(
            ["labelled_sae_id", "index"],
            ["label.labelled_sae_id", "label.index"],
            name=op.f("label_tag_labelled_sae_id_index_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tag_id", "labelled_sae_id", "index", name=op.f("label_tag_pkey")),
    )
    op.create_index(
        op.f("label_tag_labelled_sae_id_index_idx"), "label_tag", ["labelled_sae_id", "index"]
    )
    op.create_table(
        "label_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("labelled_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["labelled_sae_id"],
            ["labelled_sae.id"],
            name=op.f("label_change_labelled_sae_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("label_change_pkey")),
    )
    op.create_index(
        op.f("label_change_labelled_sae_id_index_idx"),
        "label_change",
        ["labelled_sae_id", "index"],
    )


def downgrade() -> None:
    for table in ("label_change", "label_tag", "label", "tag", "labelled_sae"):
        op.drop_table(table)

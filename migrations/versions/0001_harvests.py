"""Models, vocabularies, SAEs, harvests, features with their evidence, and contexts.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("source", postgresql.JSONB(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("n_layers", sa.Integer(), nullable=False),
        sa.Column("d_model", sa.Integer(), nullable=False),
        sa.Column("vocab_size", sa.Integer(), nullable=False),
        sa.Column("context_limit", sa.BigInteger(), nullable=False),
        sa.Column("bos_rule", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="model_pkey"),
        sa.UniqueConstraint("model_id", "revision", name="model_model_id_revision_key"),
    )
    op.create_table(
        "sae",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("sae_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("source", postgresql.JSONB(), nullable=False),
        sa.Column("hook_name", sa.Text(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("d_in", sa.Integer(), nullable=False),
        sa.Column("d_sae", sa.Integer(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("normalize_activations", sa.Text(), nullable=False),
        sa.Column("record", postgresql.JSONB(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="sae_pkey"),
        sa.UniqueConstraint(
            "model_id", "sae_id", "revision", name="sae_model_id_sae_id_revision_key"
        ),
    )
    op.create_table(
        "harvest",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("model_pk", sa.BigInteger(), nullable=False),
        sa.Column("spec", postgresql.JSONB(), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("corpus_name", sa.Text(), nullable=False),
        sa.Column("corpus_hash", sa.Text(), nullable=False),
        sa.Column("context_size", sa.Integer(), nullable=False),
        sa.Column("n_contexts", sa.BigInteger(), nullable=False),
        sa.Column("n_tokens", sa.BigInteger(), nullable=False),
        sa.Column("n_scored", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("sources", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["model_pk"], ["model.id"], name="harvest_model_pk_fkey"),
        sa.PrimaryKeyConstraint("id", name="harvest_pkey"),
        sa.UniqueConstraint("spec_hash", name="harvest_spec_hash_key"),
    )
    op.create_index("harvest_model_pk_idx", "harvest", ["model_pk"])
    op.create_table(
        "vocabulary",
        sa.Column("model_pk", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.Column("special_ids", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_pk"], ["model.id"], name="vocabulary_model_pk_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_pk", name="vocabulary_pkey"),
    )
    op.create_table(
        "context",
        sa.Column("harvest_id", sa.BigInteger(), nullable=False),
        sa.Column("context_index", sa.Integer(), nullable=False),
        sa.Column("document", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("source_index", sa.SmallInteger(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["harvest_id"], ["harvest.id"], name="context_harvest_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("harvest_id", "context_index", name="context_pkey"),
    )
    op.create_table(
        "harvest_sae",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("harvest_id", sa.BigInteger(), nullable=False),
        sa.Column("sae_pk", sa.BigInteger(), nullable=False),
        sa.Column("n_features", sa.Integer(), nullable=False),
        sa.Column("n_dead", sa.Integer(), nullable=False),
        sa.Column("n_scored", sa.BigInteger(), nullable=False),
        sa.Column("n_active", sa.BigInteger(), nullable=False),
        sa.Column("random_contexts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["harvest_id"], ["harvest.id"], name="harvest_sae_harvest_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sae_pk"], ["sae.id"], name="harvest_sae_sae_pk_fkey"),
        sa.PrimaryKeyConstraint("id", name="harvest_sae_pkey"),
        sa.UniqueConstraint("harvest_id", "sae_pk", name="harvest_sae_harvest_id_sae_pk_key"),
    )
    op.create_index("harvest_sae_sae_pk_idx", "harvest_sae", ["sae_pk"])
    op.create_table(
        "feature",
        sa.Column("harvest_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("peak_token", sa.Integer(), nullable=False),
        sa.Column("n_active", sa.BigInteger(), nullable=False),
        sa.Column("n_contexts", sa.BigInteger(), nullable=False),
        sa.Column("density", sa.Double(), nullable=False),
        sa.Column("sum_activation", sa.Double(), nullable=False),
        sa.Column("max_activation", sa.Double(), nullable=False),
        sa.Column("mean_activation", sa.Double(), nullable=False),
        sa.Column("peak_text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["harvest_sae_id"],
            ["harvest_sae.id"],
            name="feature_harvest_sae_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("harvest_sae_id", "index", name="feature_pkey"),
    )
    op.create_index(
        "feature_harvest_sae_id_density_index_idx",
        "feature",
        ["harvest_sae_id", "density", "index"],
    )
    op.create_index(
        "feature_harvest_sae_id_max_activation_index_idx",
        "feature",
        ["harvest_sae_id", "max_activation", "index"],
    )
    op.create_index(
        "feature_harvest_sae_id_mean_activation_index_idx",
        "feature",
        ["harvest_sae_id", "mean_activation", "index"],
    )
    op.create_table(
        "feature_evidence",
        sa.Column("harvest_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column("contexts", sa.LargeBinary(), nullable=False),
        sa.Column("random", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["harvest_sae_id"],
            ["harvest_sae.id"],
            name="feature_evidence_harvest_sae_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("harvest_sae_id", "index", name="feature_evidence_pkey"),
    )
    # Packed activations do not compress: do not try.
    for column in ("summary", "contexts", "random"):
        op.execute(f"ALTER TABLE feature_evidence ALTER {column} SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE context ALTER tokens SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("feature_evidence")
    op.drop_table("feature")
    op.drop_table("harvest_sae")
    op.drop_table("context")
    op.drop_table("vocabulary")
    op.drop_table("harvest")
    op.drop_table("sae")
    op.drop_table("model")

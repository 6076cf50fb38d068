"""Preference sets, contrasts on them, drifts of aligned models, and samples side by side.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PACKED = {"preference_set": ("lines",), "drift_evidence": ("contexts", "random")}
_TABLES = (
    *("drift_sample", "drift_evidence", "drift_feature", "drift_sae", "drift"),
    *("contrast_feature", "contrast_sae", "contrast"),
    *("preference_rejected", "preference_set"),
)


def upgrade() -> None:
    _preference_sets()
    _contrasts()
    _drifts()
    _drift_features()
    for table, columns in _PACKED.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ALTER {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


def _preference_sets() -> None:
    op.create_table(
        "preference_set",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("formats", postgresql.JSONB(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("rejected_hash", sa.Text(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_held_out", sa.Integer(), nullable=False),
        sa.Column("held_out_share", sa.Double(), nullable=False),
        sa.Column("rejected_by_reason", postgresql.JSONB(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("preference_set_pkey")),
        sa.UniqueConstraint(
            "content_hash",
            "rejected_hash",
            name=op.f("preference_set_content_hash_rejected_hash_key"),
        ),
    )
    op.create_table(
        "preference_rejected",
        sa.Column("set_id", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["preference_set.id"],
            name=op.f("preference_rejected_set_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("set_id", "row", name=op.f("preference_rejected_pkey")),
    )


def _contrasts() -> None:
    op.create_table(
        "contrast",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("model_revision", sa.Text(), nullable=False),
        sa.Column("preference_name", sa.Text(), nullable=False),
        sa.Column("preference_hash", sa.Text(), nullable=False),
        sa.Column("n_pairs", sa.Integer(), nullable=False),
        sa.Column("n_tokens_chosen", sa.BigInteger(), nullable=False),
        sa.Column("n_tokens_rejected", sa.BigInteger(), nullable=False),
        sa.Column("spec", postgresql.JSONB(), nullable=False),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("contrast_job_id_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("contrast_pkey")),
        sa.UniqueConstraint("identity", name=op.f("contrast_identity_key")),
    )
    op.create_index(op.f("contrast_preference_hash_idx"), "contrast", ["preference_hash"])
    op.create_table(
        "contrast_sae",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("contrast_id", sa.Integer(), nullable=False),
        sa.Column("sae_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("hook_name", sa.Text(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("d_sae", sa.Integer(), nullable=False),
        sa.Column("n_active", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contrast_id"],
            ["contrast.id"],
            name=op.f("contrast_sae_contrast_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("contrast_sae_pkey")),
        sa.UniqueConstraint(
            "contrast_id", "sae_id", name=op.f("contrast_sae_contrast_id_sae_id_key")
        ),
    )
    op.create_table(
        "contrast_feature",
        sa.Column("contrast_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("mean_chosen", sa.Double(), nullable=False),
        sa.Column("mean_rejected", sa.Double(), nullable=False),
        sa.Column("difference", sa.Double(), nullable=False),
        sa.Column("effect_size", sa.Double(), nullable=True),
        sa.Column("share_chosen", sa.Double(), nullable=False),
        sa.Column("share_rejected", sa.Double(), nullable=False),
        sa.Column("density", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contrast_sae_id"],
            ["contrast_sae.id"],
            name=op.f("contrast_feature_contrast_sae_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("contrast_sae_id", "index", name=op.f("contrast_feature_pkey")),
    )


def _drifts() -> None:
    op.create_table(
        "drift",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("run_job_id", sa.BigInteger(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("aligned_id", sa.Text(), nullable=False),
        sa.Column("base_revision", sa.Text(), nullable=False),
        sa.Column("aligned_revision", sa.Text(), nullable=False),
        sa.Column("aligned_dir", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("preference_name", sa.Text(), nullable=False),
        sa.Column("preference_hash", sa.Text(), nullable=False),
        sa.Column("n_pairs", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(), nullable=True),
        sa.Column("spec", postgresql.JSONB(), nullable=False),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("drift_job_id_fkey"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["run_job_id"], ["job.id"], name=op.f("drift_run_job_id_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("drift_pkey")),
        sa.UniqueConstraint("identity", name=op.f("drift_identity_key")),
    )
    op.create_index(op.f("drift_run_job_id_idx"), "drift", ["run_job_id"])
    op.create_table(
        "drift_sae",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("drift_id", sa.Integer(), nullable=False),
        sa.Column("part_id", sa.Integer(), nullable=True),
        sa.Column("sae_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("hook_name", sa.Text(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("d_sae", sa.Integer(), nullable=False),
        sa.Column("n_moved", sa.Integer(), nullable=False),
        sa.Column("places", postgresql.JSONB(), nullable=False),
        sa.Column("random_contexts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["drift_id"], ["drift.id"], name=op.f("drift_sae_drift_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["part_id"],
            ["harvest_sae.id"],
            name=op.f("drift_sae_part_id_fkey"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("drift_sae_pkey")),
        sa.UniqueConstraint("drift_id", "sae_id", name=op.f("drift_sae_drift_id_sae_id_key")),
    )
    op.create_index(op.f("drift_sae_part_id_idx"), "drift_sae", ["part_id"])


def _drift_features() -> None:
    op.create_table(
        "drift_feature",
        sa.Column("drift_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("base_chosen", sa.Double(), nullable=False),
        sa.Column("aligned_chosen", sa.Double(), nullable=False),
        sa.Column("base_density_chosen", sa.Double(), nullable=False),
        sa.Column("aligned_density_chosen", sa.Double(), nullable=False),
        sa.Column("cosine_chosen", sa.Double(), nullable=True),
        sa.Column("base_rejected", sa.Double(), nullable=False),
        sa.Column("aligned_rejected", sa.Double(), nullable=False),
        sa.Column("base_density_rejected", sa.Double(), nullable=False),
        sa.Column("aligned_density_rejected", sa.Double(), nullable=False),
        sa.Column("cosine_rejected", sa.Double(), nullable=True),
        sa.Column("base_corpus", sa.Double(), nullable=True),
        sa.Column("aligned_corpus", sa.Double(), nullable=True),
        sa.Column("base_density_corpus", sa.Double(), nullable=True),
        sa.Column("aligned_density_corpus", sa.Double(), nullable=True),
        sa.Column("cosine_corpus", sa.Double(), nullable=True),
        sa.Column("treatment", sa.Text(), nullable=False),
        sa.Column("density", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["drift_sae_id"],
            ["drift_sae.id"],
            name=op.f("drift_feature_drift_sae_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("drift_sae_id", "index", name=op.f("drift_feature_pkey")),
    )
    op.create_table(
        "drift_evidence",
        sa.Column("drift_sae_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("contexts", sa.LargeBinary(), nullable=False),
        sa.Column("random", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["drift_sae_id"],
            ["drift_sae.id"],
            name=op.f("drift_evidence_drift_sae_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("drift_sae_id", "index", name=op.f("drift_evidence_pkey")),
    )
    op.create_table(
        "drift_sample",
        sa.Column("drift_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("prompt", postgresql.JSONB(), nullable=False),
        sa.Column("chosen", postgresql.JSONB(), nullable=False),
        sa.Column("rejected", postgresql.JSONB(), nullable=False),
        sa.Column("n_prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("base_text", sa.Text(), nullable=False),
        sa.Column("base_tokens", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("base_ended", sa.Boolean(), nullable=False),
        sa.Column("aligned_text", sa.Text(), nullable=False),
        sa.Column("aligned_tokens", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("aligned_ended", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["drift_id"], ["drift.id"], name=op.f("drift_sample_drift_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("drift_id", "position", name=op.f("drift_sample_pkey")),
    )

"""A model and an SAE on disk and in the catalog, and a contrast: what a run is set up from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.db.repositories import catalog, contrasts
from core.db.session import Session, SessionScope
from core.domain.align_results import ContrastSaeResult, ContrastValues
from core.domain.model import ModelInfo, ModelKind, ModelSource
from core.domain.sae import SaeInfo, SaeKind, SaeSource
from core.domain.views_align import PreferenceSetCard
from tests.support.builders import byte_vocabulary

HOOK = "blocks.1.hook_resid_post"
N_FEATURES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What can be started from.

    Attributes:
        folder: holds ``model`` and ``sae``.
    """

    folder: Path
    model_id: str
    sae_id: str

    @property
    def model(self) -> ModelSource:
        """Where the model is."""
        return ModelSource(kind=ModelKind.FOLDER, location=str(self.folder / "model"))

    @property
    def sae(self) -> SaeSource:
        """Where the SAE is."""
        return SaeSource(kind=SaeKind.FOLDER, location=str(self.folder / "sae"))


def make_world(scope: SessionScope, folder: Path) -> World:
    """Headers on disk, without weights, and the same in the catalog."""
    world = World(folder=folder, model_id="launch-lm", sae_id="1-launch-res")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(
        '{"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 300}'
    )
    (folder / "sae").mkdir()
    (folder / "sae" / "cfg.json").write_text(
        f'{{"d_in": 16, "d_sae": {N_FEATURES}, "hook_name": "{HOOK}", "architecture": "jumprelu"}}'
    )
    with scope() as session:
        _save(session, world)
    return world


def publish_contrast(
    scope: SessionScope, world: World, card: PreferenceSetCard, *, model_id: str = ""
) -> int:
    """A contrast of a set: feature 2 is much stronger on chosen answers, 5 on rejected ones."""
    rng = np.random.default_rng(0)
    chosen, rejected = rng.random(N_FEATURES), rng.random(N_FEATURES)
    chosen[2], rejected[2] = 9.0, 1.0
    chosen[5], rejected[5] = 0.5, 7.0
    values = ContrastValues(
        mean_chosen=chosen,
        mean_rejected=rejected,
        difference=chosen - rejected,
        effect_size=(chosen - rejected) / 2,
        share_chosen=np.full(N_FEATURES, 0.5),
        share_rejected=np.full(N_FEATURES, 0.25),
        density=np.linspace(0.0, 0.2, N_FEATURES),
    )
    result = ContrastSaeResult(
        sae_id=world.sae_id, revision="sha-launch", hook_name=HOOK, layer=1, values=values
    )
    with scope() as session:
        return contrasts.publish(
            session,
            job_id=None,
            identity=f"contrast-{card.content_hash}{model_id}",
            model_id=model_id or world.model_id,
            model_revision="launch-1",
            preference_name=card.name,
            preference_hash=card.content_hash,
            n_pairs=card.n_train,
            n_tokens_chosen=500,
            n_tokens_rejected=600,
            spec={},
            saes=[result],
        )


def _save(session: Session, world: World) -> None:
    catalog.save_model(
        session,
        model_id=world.model_id,
        source=world.model,
        info=ModelInfo(
            n_layers=2,
            d_model=16,
            vocab_size=300,
            context_limit=2_048,
            architecture="LlamaForCausalLM",
            revision="launch-1",
            bos_rule="Each context starts with <bos>.",
        ),
        vocabulary=byte_vocabulary(),
    )
    catalog.save_sae(
        session,
        model_id=world.model_id,
        sae_id=world.sae_id,
        source=world.sae,
        info=SaeInfo(
            hook_name=HOOK,
            layer=1,
            d_in=16,
            d_sae=N_FEATURES,
            architecture="jumprelu",
            normalize_activations="none",
            revision="sha-launch",
        ),
        record={"l0": 6.0, "explained_variance": 0.8, "ce_recovered": 0.97, "dead_share": 0.0},
    )

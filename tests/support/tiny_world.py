"""A tiny model, its SAE, pairs and a corpus on disk, and the jobs that use them for real."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.domain.alignment import AlignSpec
from core.domain.harvest import HarvestSpec
from core.interchange.preferences import write_preferences
from tests.support.harvests import CONTEXT_SIZE, write_corpus_file, write_model, write_sae
from tests.support.tiny_runs import tiny_pairs

MODEL_ID, SAE_ID = "tiny-llama", "1-tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyWorld:
    """Settings of a harvest and of runs over the same files."""

    folder: Path

    @property
    def model(self) -> dict[str, str]:
        """Where the model is."""
        return {"kind": "folder", "location": str(self.folder / "model")}

    @property
    def sae(self) -> dict[str, Any]:
        """The SAE with its id."""
        source = {"kind": "folder", "location": str(self.folder / "sae")}
        return {"sae_id": SAE_ID, "source": source}

    def harvest(self) -> HarvestSpec:
        """What every feature does on the corpus; seconds."""
        return HarvestSpec.model_validate(
            {
                "model_id": MODEL_ID,
                "model": self.model,
                "saes": [self.sae],
                "corpus": {"kind": "file", "path": str(self.folder / "corpus.jsonl")},
                "dtype": "float32",
                "device": "cpu",
                "context_size": CONTEXT_SIZE,
                "tile_contexts": 4,
                "batch_tiles": 2,
            }
        )

    def run(
        self, method: str = "fpo", *, steps: int = 12, measured: bool = False, **training: Any
    ) -> AlignSpec:
        """A run whose learning rate is so high that a few steps move something."""
        return AlignSpec.model_validate(
            {
                "model_id": MODEL_ID,
                "model": self.model,
                "aligned_id": f"{MODEL_ID}-{method}",
                "method": method,
                "data": {"kind": "file", "path": str(self.folder / "pairs.jsonl")},
                "beta": 1.0,
                "measure_drift": measured,
                "constraint": [{**self.sae, "k": 4}],
                "lengths": {"max_length": 128, "max_prompt_length": 96},
                "dtype": "float32",
                "device": "cpu",
                "training": {
                    "batch_size": 4,
                    "micro_batch_size": 4,
                    "epochs": 1_000,
                    "max_steps": steps,
                    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2},
                    "eval_every": 5,
                    "save_every": 50,
                    "n_probe_rows": 8,
                    "gradient_checkpointing": False,
                    "tensorboard": False,
                    **training,
                },
            }
        )


def write_world(folder: Path) -> TinyWorld:
    """The files of a tiny world."""
    write_model(folder / "model", "llama")
    write_sae(folder / "sae", "jumprelu", hook_name="blocks.1.hook_resid_post", seed=1)
    write_preferences(tiny_pairs(12, 4).pairs, folder / "pairs.jsonl")
    write_corpus_file(folder / "corpus.jsonl")
    return TinyWorld(folder=folder)

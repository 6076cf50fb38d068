"""Tiny alignment runs: a random model of two layers, a random SAE, a handful of pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import JsonValue

from core.domain.alignment import AlignSpec, ConstraintSae
from core.domain.job_lines import sentence
from core.domain.model import ModelInfo, ModelKind, ModelSource
from core.domain.preference import PreferencePair, PreferenceSet, Role, Split, Turn
from core.domain.sae import SaeKind, SaeSource
from tests.support.tiny_models import tiny_llama
from tests.support.tiny_tokenizer import VOCAB_SIZE, tiny_tokenizer
from worker.align.constraint import Constraint, make_constraint
from worker.align.pipeline import RunResult, Stage, align_model
from worker.align.pooling import FeatureEncoder
from worker.align.training.observer import Observer
from worker.lm.load import LoadedModel

CPU = torch.device("cpu")
WORDS = ("yes", "no", "maybe so", "four", "blue", "never", "ask me later", "right now")


def tiny_loaded(seed: int = 0, *, dtype: torch.dtype = torch.float64) -> LoadedModel:
    """A Llama of width 16 that reads bytes."""
    settings = {"vocab_size": VOCAB_SIZE, "attn_implementation": "sdpa"}  # eager rounds to float32
    model = tiny_llama(seed=seed, dtype=dtype, spread=0.2, **settings)
    model.requires_grad_(False)
    return LoadedModel(
        model=model,
        tokenizer=tiny_tokenizer(),
        device=CPU,
        info=ModelInfo(
            n_layers=2,
            d_model=16,
            vocab_size=VOCAB_SIZE,
            context_limit=512,
            architecture="LlamaForCausalLM",
            revision=f"tiny-{seed}",
            bos_rule="",
        ),
    )


def tiny_encoder(seed: int = 5, *, d_sae: int = 40) -> FeatureEncoder:
    """A JumpReLU encoder on which about a third of the features fire."""
    g = torch.Generator().manual_seed(seed)
    f64 = torch.float64
    return FeatureEncoder(
        W_enc=torch.randn(16, d_sae, generator=g, dtype=f64),
        b_enc=torch.randn(d_sae, generator=g, dtype=f64) * 0.2,
        threshold=torch.rand(d_sae, generator=g, dtype=f64) * 0.5,
    )


def sae_entry(sae_id: str = "0-tiny", **changes: Any) -> ConstraintSae:
    """Settings of a tiny SAE."""
    source = SaeSource(kind=SaeKind.FOLDER, location="unused")
    return ConstraintSae(sae_id=sae_id, source=source, **{"k": 6, **changes})


def tiny_constraints(entries: Sequence[ConstraintSae]) -> tuple[Constraint, ...]:
    """One constraint an entry, on the layer that its id begins with."""
    return tuple(
        make_constraint(
            entry,
            encoder=tiny_encoder(5 + number),
            hook_name=f"blocks.{entry.sae_id[0]}.hook_resid_post",
            revision=f"sae-{number}",
        )
        for number, entry in enumerate(entries)
    )


def tiny_pairs(n_train: int = 8, n_held_out: int = 3) -> PreferenceSet:
    """Questions with answers of different lengths."""
    pairs = tuple(
        PreferencePair(
            prompt=(Turn(role=Role.USER, content=f"Question {i}?"),),
            chosen=(Turn(role=Role.ASSISTANT, content=WORDS[i % 8]),),
            rejected=(Turn(role=Role.ASSISTANT, content=WORDS[(i * 3 + 1) % 8] + "."),),
            split=Split.TRAIN if i < n_train else Split.EVAL,
            row=i,
        )
        for i in range(n_train + n_held_out)
    )
    return PreferenceSet(pairs=pairs, rejected=(), n_rows=len(pairs))


def tiny_spec(training: Mapping[str, Any] | None = None, **changes: Any) -> AlignSpec:
    """FPO with a high learning rate, so that a few steps move something."""
    steps: dict[str, Any] = {
        "batch_size": 4,
        "micro_batch_size": 4,
        "epochs": 3,
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2},
        "eval_every": 3,
        "save_every": 2,
        "n_probe_rows": 12,
        "gradient_checkpointing": False,
        "tensorboard": False,
    }
    return AlignSpec.model_validate(
        {
            "model_id": "tiny",
            "model": ModelSource(kind=ModelKind.FOLDER, location="unused"),
            "aligned_id": "tiny-aligned",
            "constraint": (sae_entry(),),
            "beta": 1.0,
            "dtype": "float32",
            "device": "cpu",
            "lengths": {"max_length": 128, "max_prompt_length": 96},
            **changes,
            "training": {**steps, **(training or {})},
        }
    )


class Recorder:
    """A sink that remembers, and that asks to stop after some steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self.done = 0
        self._stop_after = stop_after

    def wrote_step(self) -> None:
        """Nothing to pass on."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Remember the training's."""
        assert done <= total
        if phase == "training":
            self.done = done

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """Remember a line."""
        self.lines.append(sentence(kind, values))

    def stop_requested(self) -> bool:
        """Whether enough steps were done."""
        return self._stop_after is not None and self.done >= self._stop_after


def run_tiny(
    spec: AlignSpec,
    folder: Path,
    *,
    sink: Recorder | None = None,
    loaded: LoadedModel | None = None,
    data: PreferenceSet | None = None,
) -> RunResult:
    """A whole run in this process; the reference cache lies beside the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    observer = Observer(
        folder, sink or Recorder(), is_main=True, tensorboard=spec.training.tensorboard
    )
    stage = Stage(
        folder=folder,
        reference_root=folder.parent / "reference",
        accelerator=Accelerator(cpu=True),
        observer=observer,
    )
    return align_model(
        spec,
        loaded=loaded or tiny_loaded(),
        constraints=tiny_constraints(spec.constraint),
        data=data or tiny_pairs(),
        stage=stage,
    )

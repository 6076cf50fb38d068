"""Small random SAEs, written by sae-lens itself or as Gemma Scope's params.npz."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

D_IN, D_SAE = 16, 48
HOOK = "blocks.1.hook_resid_post"


def random_sae_lens(
    architecture: str, *, seed: int = 0, dtype: str = "float32", **settings: Any
) -> SAE[Any]:
    """A sae-lens SAE whose every parameter, biases and thresholds too, is random."""
    config = {"architecture": architecture, "d_in": D_IN, "d_sae": D_SAE, "dtype": dtype}
    config |= {"metadata": {"hook_name": HOOK, "model_name": "tiny"}}
    return randomise(SAE.from_dict({**config, **settings}), seed=seed)


def random_batch_topk(*, seed: int = 0, **settings: Any) -> BatchTopKTrainingSAE:
    """A BatchTopK SAE in training, with a running threshold."""
    config = BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=5.0, **settings)
    config.metadata.hook_name = HOOK
    sae = randomise(BatchTopKTrainingSAE(config), seed=seed)
    sae.topk_threshold = torch.tensor(0.7, dtype=torch.double)
    return sae


def randomise(sae: Any, *, seed: int) -> Any:
    """Fill every parameter from one generator; thresholds have both signs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(sae.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return sae


def write_params_npz(
    path: Path, *, d_in: int = D_IN, d_sae: int = D_SAE, seed: int = 0
) -> dict[str, np.ndarray]:
    """A params.npz as Gemma Scope publishes them; the arrays in it."""
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    arrays = {name: rng.normal(0, 0.5, shape).astype("f4") for name, shape in shapes.items()}
    arrays["W_dec"] /= np.linalg.norm(arrays["W_dec"], axis=1, keepdims=True)
    arrays["threshold"] = rng.uniform(0.2, 1.5, d_sae).astype("f4")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes the names for allow_pickle
    return arrays

"""SAEs beside a model, each checked against it."""

from collections.abc import Iterable
from pathlib import Path

from core.domain.sae import SaeSource
from worker.lm.load import LoadedModel
from worker.sae.load import check_fits, load_sae
from worker.sae.model import SparseAutoencoder


def load_saes(
    sources: Iterable[SaeSource], loaded: LoadedModel, *, cache_dir: Path
) -> tuple[SparseAutoencoder, ...]:
    """The SAEs, in their order.

    Raises:
        SaeMismatch: one is not of the model's width.
        HookUnknown: the model has no such hook point.
    """
    found = []
    for source in sources:
        sae = load_sae(source, device=str(loaded.device), cache_dir=cache_dir)
        check_fits(sae, loaded)
        found.append(sae)
    return tuple(found)

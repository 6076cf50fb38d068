"""Sizes of models and SAEs, from local files or earlier harvests, and how fast those ran."""

import re
from collections.abc import Iterator, Sequence

from app.services.harvest.estimate import PastRun, SaeWidth, Widths, bytes_a_number
from app.services.harvest.source_checks import model_header, sae_header
from app.services.harvest.sources import ModelHeader, is_there, local_path
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.job import JobCard, JobState
from core.domain.model import ModelKind
from core.domain.views import ModelCard, SaeCard

_RUNS_USED = 5
_LAYER_IN_HOOK = re.compile(r"blocks\.([0-9]+)\.")
_WIDTH_IN_ID = re.compile(r"width_([0-9]+)(k|m)(?:/|_|$)")  # as Gemma Scope names them
_UNITS = {"k": 2**10, "m": 2**20}
_LAYER_IN_ID = re.compile(r"(?:layer_|^)([0-9]+)(?:/|-|$)")


def widths_of(spec: HarvestSpec, known: ModelCard | None) -> Widths:
    """Sizes of a harvest's model and SAEs; what files do not say, an earlier harvest may.

    Args:
        spec: the harvest.
        known: the model of the same id, if it was harvested before.
    """
    header = model_header(spec.model)
    before = {sae.sae_id: sae for sae in known.saes} if known else {}
    d_model = (header.d_model if header else None) or (known.d_model if known else None)
    saes = tuple(_sae_width(entry, before.get(entry.sae_id), d_model) for entry in spec.saes)
    layers = [_layer(entry, before.get(entry.sae_id)) for entry in spec.saes]
    found = [layer for layer in layers if layer is not None]
    n_run = max(found) + 1 if found and len(found) == len(layers) else None
    return Widths(
        d_model=d_model or saes[0].d_in,
        n_layers_run=n_run,
        weight_bytes=_weight_bytes(spec, header, known),
        saes=saes,
    )


def past_runs(models: Sequence[ModelCard], jobs: Sequence[JobCard]) -> tuple[PastRun, ...]:
    """The newest harvests whose duration and sizes are known, the newest first."""
    return tuple(_runs(models, jobs))[:_RUNS_USED]


def _runs(models: Sequence[ModelCard], jobs: Sequence[JobCard]) -> Iterator[PastRun]:
    """Harvests by their jobs; an interrupted one tells no speed and is left out."""
    harvests = {h.job_id: (model, h) for model in models for h in model.harvests}
    for job in jobs:
        if job.state is not JobState.SUCCEEDED or job.job_id not in harvests or job.attempt > 1:
            continue
        model, harvest = harvests[job.job_id]
        saes = [s for s in model.saes if s.harvest and s.harvest.harvest_id == harvest.harvest_id]
        if not saes or job.started_at is None or job.finished_at is None:
            continue
        widths = Widths(
            d_model=model.d_model,
            n_layers_run=max(sae.layer for sae in saes) + 1,
            weight_bytes=None,
            saes=tuple(SaeWidth(d_in=sae.d_in, d_sae=sae.d_sae) for sae in saes),
        )
        seconds = (job.finished_at - job.started_at).total_seconds()
        operations = widths.operations_a_token
        if seconds > 0 and operations:
            yield PastRun(n_tokens=harvest.n_tokens, operations_a_token=operations, seconds=seconds)


def _layer(entry: SaeEntry, before: SaeCard | None) -> int | None:
    """The layer that an SAE reads, by its hook point or the names it bears."""
    header = sae_header(entry.source)
    hook = entry.source.hook_name or (header.hook_name if header else None)
    in_hook = _LAYER_IN_HOOK.search(hook) if hook else None
    if in_hook:
        return int(in_hook.group(1))
    if before is not None:
        return before.layer
    named = _LAYER_IN_ID.search(entry.source.release_id or entry.sae_id)
    return int(named.group(1)) if named else None


def _sae_width(entry: SaeEntry, before: SaeCard | None, d_model: int | None) -> SaeWidth:
    """Sizes of an SAE by its files, an earlier harvest, or its name in a hub release."""
    header = sae_header(entry.source)
    if header and header.d_in and header.d_sae:
        return SaeWidth(d_in=header.d_in, d_sae=header.d_sae)
    if before is not None:
        return SaeWidth(d_in=before.d_in, d_sae=before.d_sae)
    named = _WIDTH_IN_ID.search(entry.source.release_id or "")
    d_sae = int(named.group(1)) * _UNITS[named.group(2)] if named else None
    return SaeWidth(d_in=d_model, d_sae=d_sae)


def _weight_bytes(
    spec: HarvestSpec, header: ModelHeader | None, known: ModelCard | None
) -> int | None:
    """Bytes of the loaded weights: by width and depth, else by the files' size."""
    a_number = bytes_a_number(spec.dtype)
    if known is not None:
        return a_number * _parameters(known.d_model, known.n_layers, known.vocab_size)
    if header and header.d_model and header.n_layers and header.vocab_size:
        return a_number * _parameters(header.d_model, header.n_layers, header.vocab_size)
    file = local_path(spec.model.location)
    if spec.model.kind is ModelKind.GGUF and is_there(file):
        return file.stat().st_size * a_number  # one byte a weight, as in Q8_0
    return None


def _parameters(d_model: int, n_layers: int, vocab_size: int) -> int:
    """About how many weights a transformer has: 12 d² a layer and the embedding."""
    return 12 * n_layers * d_model**2 + vocab_size * d_model

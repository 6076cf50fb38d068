"""Everything a harvest needs before its pass: model, SAEs, tokenised corpus."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue, TypeAdapter, ValidationError

from core.domain.harvest import HarvestSpec
from core.domain.ids import check_model_id, check_sae_id
from core.errors import Conflict, Invalid
from worker.corpus.open import fetch_corpus, open_corpus
from worker.harvest.corpus_store import CorpusFacts, CorpusStore
from worker.harvest.identity import spec_hash
from worker.harvest.norm_limits import norm_limits
from worker.harvest.tokenise import Cutting, write_corpus
from worker.lm.load import LoadedModel, load_model
from worker.lm.tokens import document_tokens, tokenization
from worker.progress import JobContext
from worker.sae.load import check_fits, load_sae
from worker.sae.model import SparseAutoencoder

_FACTS = TypeAdapter(CorpusFacts)
_LIMITS = TypeAdapter(dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the pass runs on; ``spec_hash`` names its result.

    Attributes:
        norm_limits: largest norm of a residual that counts, by hook point; empty lets all count.
    """

    loaded: LoadedModel
    saes: tuple[SparseAutoencoder, ...]
    store: CorpusStore
    norm_limits: dict[str, float]
    spec_hash: str


def prepare(spec: HarvestSpec, job: JobContext) -> Prepared:
    """Load model and SAEs, tokenise the corpus, and check that they are those the job began with.

    Raises:
        Invalid: a name that cannot be stored, or a context that is too long for the model.
        SaeMismatch: an SAE does not fit the model.
        CorpusEmpty: the corpus has no text.
        Conflict: model, SAEs or settings changed since the job began.
    """
    _check_names(spec)
    with ThreadPoolExecutor(max_workers=1) as beside:  # the network waits while the model loads
        fetched = beside.submit(fetch_corpus, spec.corpus, cache_dir=job.cache_dir)
        loaded = _load_model(spec, job)
        saes = tuple(_load_saes(spec, job, loaded))
        fetched.result()
    store = _tokenised(spec, job, loaded)
    name = spec_hash(spec, loaded=loaded, saes=saes, corpus=store.facts)
    began_as = job.finished_items().get("identity", name)
    if began_as != name:
        raise Conflict(
            "The model, an SAE or the tokens are not those that this job began with.",
            hint="Start a new harvest.",
        )
    job.finish_item("identity", name)
    return Prepared(
        loaded=loaded,
        saes=saes,
        store=store,
        norm_limits=_norm_limits(spec, job, loaded, saes=saes, store=store),
        spec_hash=name,
    )


def _check_names(spec: HarvestSpec) -> None:
    """Names that the database would refuse at the very end are refused at once."""
    check_model_id(spec.model_id)
    seen: set[str] = set()
    for entry in spec.saes:
        check_sae_id(entry.sae_id)
        if entry.sae_id in seen:
            raise Invalid(
                f"Two SAEs are named {entry.sae_id}.", hint="Give each SAE an id of its own."
            )
        seen.add(entry.sae_id)


def _load_model(spec: HarvestSpec, job: JobContext) -> LoadedModel:
    job.progress(done=0, total=None, unit="models", phase="loading")
    loaded = load_model(spec.model, dtype=spec.dtype, device=spec.device, cache_dir=job.cache_dir)
    info = loaded.info
    if spec.context_size > info.context_limit:
        raise Invalid(
            f"The model reads at most {info.context_limit:,} tokens at once, "
            f"not {spec.context_size:,}.",
            hint="Choose a smaller context size.",
        )
    job.tell(
        "harvest_model",
        model_id=spec.model_id,
        architecture=info.architecture,
        n_layers=info.n_layers,
        d_model=info.d_model,
        dtype=spec.dtype.value,
        device=str(loaded.device),
    )
    return loaded


def _load_saes(spec: HarvestSpec, job: JobContext, loaded: LoadedModel) -> list[SparseAutoencoder]:
    saes = []
    for place, entry in enumerate(spec.saes):
        job.check()
        job.progress(done=place, total=len(spec.saes), unit="SAEs", phase="loading")
        sae = load_sae(entry.source, device=str(loaded.device), cache_dir=job.cache_dir)
        check_fits(sae, loaded)
        saes.append(sae)
        info = sae.info
        job.tell(
            "harvest_sae",
            sae_id=entry.sae_id,
            d_sae=info.d_sae,
            architecture=info.architecture,
            hook_name=info.hook_name,
        )
    return saes


def _tokenised(spec: HarvestSpec, job: JobContext, loaded: LoadedModel) -> CorpusStore:
    """The tokenised corpus, from an earlier attempt if it is whole."""
    cutting = _cutting(spec, loaded)
    earlier = _earlier(job.finished_items().get("corpus"), cutting, job)
    if earlier is not None:
        job.tell("harvest_corpus_kept")
        return earlier
    unlimited = spec.corpus.model_copy(update={"max_tokens": None})  # cut after tokenising
    corpus = open_corpus(unlimited, cache_dir=job.cache_dir, count_tokens=len)

    def on_batch(n_tokens: int) -> None:
        job.check()
        total = spec.corpus.max_tokens
        done = n_tokens if total is None else min(n_tokens, total)  # the last document goes beyond
        job.progress(done=done, total=total, unit="tokens", phase="reading the corpus")

    store = write_corpus(corpus.documents(), cutting, job.work_dir / "corpus", on_batch=on_batch)
    job.finish_item("corpus", _FACTS.dump_json(store.facts).decode())
    facts = store.facts
    job.tell(
        "harvest_corpus",
        name=corpus.name,
        n_documents=facts.n_documents,
        n_contexts=facts.n_contexts,
        context_size=spec.context_size,
        n_tokens=facts.n_tokens,
        n_scored=facts.n_scored,
    )
    return store


def _norm_limits(
    spec: HarvestSpec,
    job: JobContext,
    loaded: LoadedModel,
    *,
    saes: Sequence[SparseAutoencoder],
    store: CorpusStore,
) -> dict[str, float]:
    """Limits of an earlier attempt, so that one limit holds for the whole corpus."""
    if spec.max_norm_multiple is None:
        return {}
    kept = job.finished_items().get("norm_limits")
    if isinstance(kept, str):
        return _LIMITS.validate_json(kept)
    found = norm_limits(
        loaded,
        store,
        [sae.info.hook_name for sae in saes],
        multiple=spec.max_norm_multiple,
        tile_contexts=spec.tile_contexts,
    )
    job.finish_item("norm_limits", _LIMITS.dump_json(found).decode())
    return found


def _earlier(found: JsonValue, cutting: Cutting, job: JobContext) -> CorpusStore | None:
    if not isinstance(found, str):
        return None
    try:
        facts = _FACTS.validate_json(found)
    except ValidationError:
        return None
    store = CorpusStore(
        directory=job.work_dir / "corpus",
        facts=facts,
        bos=cutting.bos,
        special_ids=cutting.special_ids,
        context_size=cutting.context_size,
    )
    return store if store.intact() else None


def _cutting(spec: HarvestSpec, loaded: LoadedModel) -> Cutting:
    rules = tokenization(loaded.tokenizer)
    return Cutting(
        tokenise=lambda texts: list(document_tokens(loaded.tokenizer, texts)),
        bos=rules.bos_id,
        special_ids=np.array(sorted(rules.special_ids), np.int64),
        context_size=spec.context_size,
        max_tokens=spec.corpus.max_tokens,
    )

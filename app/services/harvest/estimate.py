"""What a harvest will cost, before it runs: tokens, time, memory and disk, and on what each rests.

Formulas, with C the context size, L the layers that are run and d the model's width:

* operations a token = ``2 * 12 * L * d²`` (the matrices of L transformer layers) plus
  ``2 * d_in * d_sae`` an SAE; attention over C positions is small beside them and left out.
* seconds = tokens * operations a token / speed. Speed is the median of the newest harvests that
  ran here (their tokens * operations / seconds), else assumed: 20e9 a second and core.
* memory = the model's weights, plus ``4 * 2 * d_in * d_sae`` an SAE (float32 encoder and decoder),
  plus one block of activations, ``4 * C * tile_contexts * batch_tiles * d_sae`` of the widest SAE,
  plus the running state, ``8 * (n_top + n_sampled) + 4 * 64`` a feature.
* disk = ``300 + 80 * (n_top + 4 * n_per_band)`` a feature, plus ``4 * C`` a stored context, of
  which there are at most as many as the corpus has.

A term that is not known makes its sum unknown: nothing is guessed silently.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from statistics import median

from app.services.harvest.sources import is_there, local_path
from core.domain.corpus import FileCorpusSpec, FolderCorpusSpec
from core.domain.harvest import HarvestSpec
from core.domain.model import Dtype

ASSUMED_SPEED_A_CORE = 20e9  # float operations a second
BYTES_A_TOKEN = 4.0  # of text; typical for byte-pair encodings of English and code
FEATURE_BYTES = 300  # with KEPT_CONTEXT_BYTES: what `python -m bench.database` measures
KEPT_CONTEXT_BYTES = 80


class Basis(StrEnum):
    """On what a number of an estimate rests."""

    GIVEN = "given"  # the settings say it
    MEASURED = "measured"  # earlier harvests on this machine
    FILES = "files"  # sizes and headers of local files
    CATALOG = "catalog"  # the same model or SAE was harvested before
    ASSUMED = "assumed"  # a stated constant
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number with its basis; None while unknown."""

    value: float | None
    basis: Basis


UNKNOWN = Quantity(value=None, basis=Basis.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The computer that the estimate is for.

    Attributes:
        n_cores: cores that PyTorch will use.
        memory_bytes: memory that is free for a new process.
        disk_bytes: room left where the database stands.
    """

    n_cores: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """An earlier harvest: how much was computed, and how long it took."""

    n_tokens: int
    operations_a_token: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestEstimate:
    """What a harvest will cost.

    Attributes:
        n_tokens: tokens read.
        n_features: features of all SAEs.
        seconds: duration of the pass, without downloads.
        tokens_per_second: the speed that seconds rests on.
        memory_bytes: peak memory of the runner, host or accelerator.
        disk_bytes: growth of the database.
        machine: what there is.
    """

    n_tokens: Quantity
    n_features: Quantity
    tokens_per_second: Quantity
    seconds: Quantity
    memory_bytes: Quantity
    disk_bytes: Quantity
    machine: Machine

    @property
    def memory_short(self) -> bool:
        """Whether the memory will probably not do."""
        needed = self.memory_bytes.value
        return needed is not None and needed > self.machine.memory_bytes

    @property
    def disk_short(self) -> bool:
        """Whether the disk will probably not do."""
        needed = self.disk_bytes.value
        return needed is not None and needed > self.machine.disk_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeWidth:
    """Sizes of one SAE; None where nothing says them."""

    d_in: int | None
    d_sae: int | None

    @property
    def n_weights(self) -> int | None:
        """Weights of its encoder; the decoder has as many."""
        return None if self.d_in is None or self.d_sae is None else self.d_in * self.d_sae


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Sizes of the model and of the SAEs; None where nothing says them.

    Attributes:
        n_layers_run: layers up to the last hook point.
    """

    d_model: int | None
    n_layers_run: int | None
    weight_bytes: int | None
    saes: tuple[SaeWidth, ...]

    @property
    def operations_a_token(self) -> float | None:
        """Float operations of one token; None where a size is missing."""
        encoders = _sum(sae.n_weights for sae in self.saes)
        if self.d_model is None or self.n_layers_run is None or encoders is None:
            return None
        return float(2 * 12 * self.n_layers_run * self.d_model**2 + 2 * encoders)

    @property
    def n_features(self) -> int | None:
        """Features of all SAEs; None where one is missing."""
        return _sum(sae.d_sae for sae in self.saes)


def estimate_harvest(
    spec: HarvestSpec, *, widths: Widths, machine: Machine, runs: Sequence[PastRun]
) -> HarvestEstimate:
    """What a harvest will cost.

    Args:
        spec: what is to be done.
        widths: sizes of its model and SAEs.
        machine: what there is.
        runs: earlier harvests on this machine, the newest first.
    """
    n_tokens = _tokens(spec)
    n_features = widths.n_features
    speed = _speed(spec, widths, machine, runs)
    seconds = UNKNOWN
    if n_tokens.value is not None and speed.value is not None:
        seconds = Quantity(value=n_tokens.value / speed.value, basis=speed.basis)
    return HarvestEstimate(
        n_tokens=n_tokens,
        n_features=_quantity(n_features, Basis.FILES),
        tokens_per_second=speed,
        seconds=seconds,
        memory_bytes=_quantity(_memory(spec, widths), Basis.ASSUMED),
        disk_bytes=_quantity(_disk(spec, n_features, n_tokens.value), Basis.ASSUMED),
        machine=machine,
    )


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None if a term is missing."""
    terms = list(values)
    known = [term for term in terms if term is not None]
    return sum(known) if len(known) == len(terms) else None


def _quantity(value: float | None, basis: Basis) -> Quantity:
    return UNKNOWN if value is None else Quantity(value=value, basis=basis)


def _tokens(spec: HarvestSpec) -> Quantity:
    """The smaller of what the settings allow and what the files hold."""
    limit = spec.corpus.max_tokens
    held = _corpus_tokens(spec)
    if held is not None and (limit is None or held < limit):
        return Quantity(value=held, basis=Basis.FILES)
    return _quantity(limit, Basis.GIVEN)


def _corpus_tokens(spec: HarvestSpec) -> float | None:
    """Tokens of a local text by its bytes; None where the bytes say nothing."""
    match spec.corpus:
        case FileCorpusSpec(path=name) if not name.endswith(".parquet"):
            file = local_path(name)
            return file.stat().st_size / BYTES_A_TOKEN if is_there(file) else None
        case FolderCorpusSpec(path=name, suffixes=suffixes):
            texts = (file for file in local_path(name).rglob("*") if file.suffix in suffixes)
            return sum(file.stat().st_size for file in texts) / BYTES_A_TOKEN
        case _:
            return None


def _speed(
    spec: HarvestSpec, widths: Widths, machine: Machine, runs: Sequence[PastRun]
) -> Quantity:
    """Tokens a second."""
    needed = widths.operations_a_token
    if needed is None:
        return UNKNOWN
    if runs:
        measured = median(run.n_tokens * run.operations_a_token / run.seconds for run in runs)
        return Quantity(value=measured / needed, basis=Basis.MEASURED)
    if spec.device not in {"auto", "cpu"}:
        return UNKNOWN  # accelerators differ by a factor of a hundred
    return Quantity(value=ASSUMED_SPEED_A_CORE * machine.n_cores / needed, basis=Basis.ASSUMED)


def _memory(spec: HarvestSpec, widths: Widths) -> float | None:
    encoders = _sum(sae.n_weights for sae in widths.saes)
    n_features = widths.n_features
    if widths.weight_bytes is None or encoders is None or n_features is None:
        return None
    block = spec.context_size * spec.tile_contexts * spec.batch_tiles
    state = 8 * (spec.n_top + spec.n_sampled) + 4 * 64
    widest = max(sae.d_sae or 0 for sae in widths.saes)
    return float(widths.weight_bytes + 8 * encoders + state * n_features + 4 * block * widest)


def _disk(spec: HarvestSpec, n_features: int | None, n_tokens: float | None) -> float | None:
    if n_features is None:
        return None
    kept = spec.n_top + 4 * spec.n_per_band
    features = n_features * (FEATURE_BYTES + KEPT_CONTEXT_BYTES * kept)
    contexts = n_features * kept + spec.n_random
    if n_tokens is not None:
        contexts = min(contexts, ceil(n_tokens / (spec.context_size - 1)))
    return float(features + contexts * 4 * spec.context_size)


def bytes_a_number(dtype: Dtype) -> int:
    """Bytes of one weight of the model."""
    return 2 if dtype is Dtype.BFLOAT16 else 4

"""The form of a new harvest: settings as typed, and the values that they mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.services.harvest import harvests
from app.services.harvest.spec import read_form
from app.services.problems import FieldProblem
from core.domain.corpus import CorpusSpec, DemoCorpusSpec
from core.domain.harvest import HarvestSpec

PRESETS = ("demo", "gemma-2-2b", "own")
CORPUS_FIELDS = {
    "demo": ("slice",),
    "file": ("path", "column"),
    "folder": ("path", "suffixes"),
    "hub": ("name", "config", "split", "column", "revision"),
}
CORPUS_COMMON = ("kind", "max_documents", "max_tokens")
SAE_FIELDS = ("sae_id", "source.kind", "source.location", "source.release_id", "source.hook_name")
NUMBERS = (
    "context_size",
    "max_norm_multiple",
    "n_top",
    "n_sampled",
    "n_per_band",
    "n_random",
    "n_coactivation",
    "n_neighbours",
    "n_logits",
    "seed",
    "tile_contexts",
    "batch_tiles",
    "shard_contexts",
)
MAX_SAES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestForm:
    """What stands in the fields of the form.

    Attributes:
        preset: what it was filled from; ``own`` for none.
        typed: text of each field by its dotted name.
        n_saes: rows for SAEs.
    """

    preset: str
    typed: Mapping[str, str]
    n_saes: int
    problems: tuple[FieldProblem, ...] = ()

    def text(self, name: str) -> str:
        """What stands in a field."""
        return self.typed.get(name, "")

    def wrong(self, name: str) -> bool:
        """Whether a field has to be mended."""
        return any(problem.path == name for problem in self.problems)

    @property
    def loose_problems(self) -> tuple[FieldProblem, ...]:
        """Problems that belong to no field of the form."""
        fields = {*self.typed, *field_names(self.n_saes)}
        return tuple(problem for problem in self.problems if problem.path not in fields)

    def values(self) -> dict[str, object]:
        """Nested values for the check: only the fields of the chosen kind of corpus."""
        kind = self.text("corpus.kind")
        kept = {f"corpus.{name}" for name in (*CORPUS_COMMON, *CORPUS_FIELDS.get(kind, ()))}
        pairs = [
            (name, value)
            for name, value in self.typed.items()
            if name != "corpus.suffixes" and (not name.startswith("corpus.") or name in kept)
        ]
        values = read_form(_without_empty_saes(pairs))
        corpus = values.get("corpus")
        suffixes = self.text("corpus.suffixes").replace(",", " ").split()
        if kind == "folder" and suffixes and isinstance(corpus, dict):
            corpus["suffixes"] = suffixes
        if "max_norm_multiple" in self.typed and not self.text("max_norm_multiple").strip():
            values["max_norm_multiple"] = None  # emptied: every token counts
        return values

    def with_row(self) -> "HarvestForm":
        """The form with one more row for an SAE."""
        return replace(self, n_saes=min(self.n_saes + 1, MAX_SAES))

    def with_problems(self, problems: tuple[FieldProblem, ...]) -> "HarvestForm":
        """The form with what has to be mended."""
        return replace(self, problems=problems)


def from_preset(name: str) -> HarvestForm:
    """A form filled from a preset; any other name gives defaults to fill in."""
    if name not in PRESETS or name == "own":
        return HarvestForm(preset="own", typed=_defaults(), n_saes=1)
    spec = harvests.get_preset(name).spec
    return HarvestForm(preset=name, typed=_spec_fields(spec), n_saes=len(spec.saes))


def from_post(posted: Iterable[tuple[str, str]]) -> HarvestForm:
    """A form as somebody sent it."""
    fields = dict(posted)
    preset = fields.pop("preset", "own")
    fields.pop("action", None)
    rows = [int(name.split(".")[1]) for name in fields if _is_sae_field(name)]
    return HarvestForm(
        preset=preset if preset in PRESETS else "own",
        typed=fields,
        n_saes=min(max(rows, default=0) + 1, MAX_SAES),
    )


def field_names(n_saes: int) -> frozenset[str]:
    """Names of every field of the form."""
    saes = {f"saes.{row}.{field}" for row in range(n_saes) for field in SAE_FIELDS}
    corpus = {f"corpus.{name}" for names in CORPUS_FIELDS.values() for name in names}
    common = {f"corpus.{name}" for name in CORPUS_COMMON}
    model = {"model_id", "model.kind", "model.location", "model.revision"}
    return frozenset(saes | corpus | common | model | {"dtype", "device", *NUMBERS})


def _is_sae_field(name: str) -> bool:
    parts = name.split(".")
    return len(parts) > 2 and parts[0] == "saes" and parts[1].isdigit() and len(parts[1]) < 5


def _without_empty_saes(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Fields without the rows of SAEs in which only the kind is chosen."""
    filled = {
        name.split(".")[1]
        for name, value in pairs
        if _is_sae_field(name) and not name.endswith("source.kind") and value.strip()
    }
    first = {min(filled, key=int)} if filled else {"0"}
    return [
        (name, value)
        for name, value in pairs
        if not _is_sae_field(name) or name.split(".")[1] in filled | first
    ]


def _defaults() -> dict[str, str]:
    fields = HarvestSpec.model_fields
    numbers = {name: _typed(fields[name].default) for name in NUMBERS}
    return numbers | {
        "model.kind": "hub",
        "saes.0.source.kind": "hub",
        "corpus.kind": "file",
        "dtype": str(fields["dtype"].default),
        "device": "auto",
    }


def _typed(number: float | None) -> str:
    if number is None:
        return ""
    return str(int(number)) if number == int(number) else str(number)


def _spec_fields(spec: HarvestSpec) -> dict[str, str]:
    typed = {name: _typed(getattr(spec, name)) for name in NUMBERS}
    typed |= {
        "model_id": spec.model_id,
        "model.kind": spec.model.kind,
        "model.location": spec.model.location,
        "model.revision": spec.model.revision or "",
        "dtype": spec.dtype,
        "device": spec.device,
        **_corpus_fields(spec.corpus),
    }
    for row, entry in enumerate(spec.saes):
        source = entry.source
        typed |= {
            f"saes.{row}.sae_id": entry.sae_id,
            f"saes.{row}.source.kind": source.kind,
            f"saes.{row}.source.location": source.location,
            f"saes.{row}.source.release_id": source.release_id or "",
            f"saes.{row}.source.hook_name": source.hook_name or "",
        }
    return typed


def _corpus_fields(corpus: CorpusSpec) -> dict[str, str]:
    values = corpus.model_dump(mode="json")
    values.pop("suffixes", None)
    typed = {f"corpus.{name}": str(value) for name, value in values.items() if value is not None}
    if isinstance(corpus, DemoCorpusSpec):
        typed["corpus.slice"] = corpus.slice
    return typed

"""The form of an alignment or SFT run: settings as typed, and the values that they mean."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from app.services.align.offers import OfferedModel, Offers
from app.services.harvest.spec import read_form
from app.services.problems import FieldProblem
from app.web import align_features, align_text
from app.web.spec_texts import help_of
from core.domain.alignment import AlignSpec, Method, SftSpec

OWN = "own"  # a model or SAE that is written out, not chosen from what is known
KINDS: dict[str, type[AlignSpec] | type[SftSpec]] = {"align": AlignSpec, "sft": SftSpec}
DATA_FIELDS = {
    "demo": (),
    "stored": ("content_hash",),
    "file": ("path", "held_out_share"),
    "hub": ("name", "config", "train_split", "eval_split", "held_out_share", "revision"),
}
METHOD_FIELDS = {
    Method.DPO: ("beta",),
    Method.SIMPO: ("beta", "gamma"),
    Method.TDPO1: ("beta",),
    Method.TDPO2: ("beta", "alpha"),
    Method.FPO: ("beta", "alpha"),
}
MAX_SAES = 40

# Fields in which nothing written means "none" although the default is something.
_EMPTY_IS_NONE = ("training.optimizer.max_grad_norm",)
_LOOSE = ("beta", "alpha", "gamma")
_FORM_ONLY = ("preset", "action", "start", "measure_job")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignForm:
    """What stands in the fields of the form.

    Attributes:
        kind: align or sft.
        preset: what it was filled from; ``own`` for none.
        typed: text of each field by its dotted name.
        n_saes: rows for SAEs.
        filled: text of each field right after it was filled from the preset.
        measure_job: the job that measures these settings; None before one was asked for.
    """

    kind: str
    preset: str
    typed: Mapping[str, str]
    n_saes: int
    filled: Mapping[str, str] = field(default_factory=dict)
    measure_job: int | None = None
    problems: tuple[FieldProblem, ...] = ()

    @property
    def spec_class(self) -> type[AlignSpec] | type[SftSpec]:
        """The settings that the form is for."""
        return KINDS[self.kind]

    @property
    def start(self) -> str:
        """Which known model or run it starts from; ``own`` for one that is written out."""
        return self.typed.get("start") or OWN

    def text(self, name: str) -> str:
        """What stands in a field."""
        return self.typed.get(name, "")

    def on(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self.text(name) == "true"

    def help(self, name: str) -> str:
        """The sentence that explains a field."""
        return help_of(self.spec_class, name)

    def wrong(self, name: str) -> bool:
        """Whether a field has to be mended."""
        return any(problem.path == name for problem in self.problems)

    def wrong_below(self, prefix: str) -> bool:
        """Whether any field of a group has to be mended."""
        return any(problem.path.startswith(prefix) for problem in self.problems)

    @property
    def loose_problems(self) -> tuple[FieldProblem, ...]:
        """Problems that belong to no field that is shown."""
        return tuple(p for p in self.problems if p.path not in self.typed)

    def values(self, offers: Offers) -> dict[str, object]:
        """Nested values for the check: only the fields that the choices leave."""
        tree = read_form(self._kept())
        tree["kind"] = self.kind
        for name in _EMPTY_IS_NONE:
            if name in self.typed and not self.text(name).strip():
                _set(tree, name, None)
        self._put_lora(tree)
        chosen = offers.model(self.start)
        if chosen is not None:
            tree["model"] = chosen.source.model_dump(mode="json")
            tree["model_id"] = chosen.model_id
        self._name_set(tree, offers)
        if self.kind == "align":
            tree["constraint"] = align_features.values(self.typed, self._sae_rows(), offers)
        return tree

    def typed_problems(self) -> tuple[FieldProblem, ...]:
        """What cannot be read in lists of features."""
        if self.kind != "align":
            return ()
        return align_features.problems(self.typed, self._sae_rows())

    def differences(self, offers: Offers) -> tuple[tuple[str, str, str], ...]:
        """Fields that differ from the preset: name, the preset's text, the text now."""
        if not self.filled:
            return ()
        preset = replace(self, typed=self.filled, n_saes=count_saes(self.filled))
        before = preset.values(offers)
        return align_text.differences(before, self.values(offers))

    def starting_from(self, model: OfferedModel) -> "AlignForm":
        """The form with a known model to start from, and an id for the result if it has none.

        What a preset calls the result of another model counts as none.
        """
        texts = {"start": model.key, "model_id": model.model_id}
        result = "aligned_id" if self.kind == "align" else "tuned_id"
        unnamed = {"", model.model_id}
        if self.text("model_id") != model.model_id:
            unnamed.add(self.filled.get(result, ""))
        if self.text(result) in unnamed:
            ending = "-aligned" if self.kind == "align" else "-tuned"
            texts[result] = model.model_id[: 80 - len(ending)] + ending
        return self.with_text(texts)

    def without_saes(self) -> "AlignForm":
        """The form without any SAE."""
        kept = {n: text for n, text in self.typed.items() if align_features.row_of(n) is None}
        return replace(self, typed=kept, n_saes=0)

    def at_fields(self, problems: Iterable[FieldProblem]) -> tuple[FieldProblem, ...]:
        """The problems at fields that are shown.

        What a choice hides is told at the choice.
        """
        return tuple(replace(one, path=self._shown(one.path)) for one in problems)

    def with_measure(self, job_id: int) -> "AlignForm":
        """The form with the job that measures it."""
        return replace(self, measure_job=job_id)

    def with_problems(self, problems: Iterable[FieldProblem]) -> "AlignForm":
        """The form with what has to be mended."""
        return replace(self, problems=tuple(problems))

    def with_text(self, changes: Mapping[str, str]) -> "AlignForm":
        """The form with other texts in some fields."""
        typed = {**self.typed, **changes}
        return replace(self, typed=typed, n_saes=max(self.n_saes, count_saes(typed)))

    def with_row(self) -> "AlignForm":
        """The form with one more row for an SAE."""
        row = self.n_saes
        if row >= MAX_SAES:
            return self
        return replace(
            self,
            n_saes=row + 1,
            typed={**self.typed, **align_features.fresh(row, others=self.typed)},
        )

    def without_row(self, row: int) -> "AlignForm":
        """The form without an SAE; those after it move up."""
        kept: dict[str, str] = {}
        for name, value in self.typed.items():
            place = align_features.row_of(name)
            if place is None or place < row:
                kept[name] = value
            elif place > row:
                rest = name.split(".", 2)[2]
                kept[f"constraint.{place - 1}.{rest}"] = value
        return replace(self, typed=kept, n_saes=max(0, self.n_saes - 1))

    def _shown(self, path: str) -> str:
        if path.startswith("model") and self.start != OWN:
            return "start"
        row = align_features.row_of(path)
        if row is not None and self.text(f"constraint.{row}.pick") not in {"", OWN}:
            hidden = path.startswith((f"constraint.{row}.source", f"constraint.{row}.sae_id"))
            return f"constraint.{row}.pick" if hidden else path
        return "data.kind" if path == "data" else path

    def _sae_rows(self) -> range:
        return range(self.n_saes)

    def _kept(self) -> Iterator[tuple[str, str]]:
        data = {f"data.{name}" for name in ("kind", *DATA_FIELDS.get(self.text("data.kind"), ()))}
        for name, value in self.typed.items():
            if name in _FORM_ONLY or name.startswith(("constraint.", "training.lora.")):
                continue
            if name.startswith("data.") and name not in data:
                continue
            if name in _LOOSE and name not in self._method_fields():
                continue
            if name == "training.optimizer.weight_decay" and not self._is_adam():
                continue
            yield name, value

    def _method_fields(self) -> tuple[str, ...]:
        method = self.text("method")
        return METHOD_FIELDS[Method(method)] if method in set(Method) else _LOOSE

    def _is_adam(self) -> bool:
        return self.text("training.optimizer.name") != "rmsprop"

    def _name_set(self, tree: dict[str, object], offers: Offers) -> None:
        chosen = offers.stored_set(self.text("data.content_hash"))
        if self.text("data.kind") == "stored" and chosen is not None:
            _set(tree, "data.name", chosen.name)

    def _put_lora(self, tree: dict[str, object]) -> None:
        if not self.on("training.lora.on"):
            return
        names = ("rank", "alpha", "dropout")
        pairs = [(name, self.text(f"training.lora.{name}")) for name in names]
        lora: dict[str, object] = {name: value for name, value in pairs if value.strip()}
        modules = self.text("training.lora.target_modules").replace(",", " ").split()
        lora["target_modules"] = modules
        _set(tree, "training.lora", lora)


def from_spec(spec: AlignSpec | SftSpec, offers: Offers, *, preset: str = OWN) -> AlignForm:
    """The form that means these settings."""
    typed = align_text.spec_texts(spec)
    start = offers.start_of(spec.model_id, spec.model)
    typed["start"] = start if start is not None else OWN
    if isinstance(spec, AlignSpec):
        for row, entry in enumerate(spec.constraint):
            typed |= align_features.texts(row, entry, spec.model_id, offers)
    return AlignForm(
        kind=spec.kind, preset=preset, typed=typed, n_saes=count_saes(typed), filled=typed
    )


def blank(kind: str) -> AlignForm:
    """A form with the defaults of every field, for what no preset has."""
    typed = {**align_text.default_texts(kind), "start": OWN, "model.kind": "hub"}
    return AlignForm(kind=kind, preset=OWN, typed=typed, n_saes=0, filled=typed)


def from_post(posted: Iterable[tuple[str, str]], *, filled: Mapping[str, str]) -> AlignForm:
    """A form as somebody sent it; of equal names the last one counts, so a ticked box does.

    Args:
        posted: names and texts.
        filled: texts of the preset that it names.
    """
    fields = dict(posted)
    kind = fields.pop("kind", "align")
    preset = fields.pop("preset", OWN)
    fields.pop("action", None)
    job = fields.pop("measure_job", "")
    fields = {name: text.replace("\r\n", "\n") for name, text in fields.items()}
    return AlignForm(
        kind=kind if kind in KINDS else "align",
        preset=preset,
        typed=fields,
        n_saes=count_saes(fields),
        filled=filled,
        measure_job=int(job) if job.isascii() and job.isdigit() and len(job) < 12 else None,
    )


def count_saes(typed: Iterable[str]) -> int:
    """Rows for SAEs that fields speak of."""
    rows = (align_features.row_of(name) for name in typed)
    return min(max((row + 1 for row in rows if row is not None), default=0), MAX_SAES)


def _set(tree: dict[str, object], name: str, value: object) -> None:
    *path, last = name.split(".")
    for step in path:
        branch = tree.setdefault(step, {})
        if not isinstance(branch, dict):
            return
        tree = branch
    tree[last] = value

"""Settings of a run as texts of form fields, and what differs between two of them."""

from collections.abc import Iterator, Mapping, Sequence

from core.domain.alignment import (
    AlignSpec,
    FilePreferences,
    HubPreferences,
    LoraSpec,
    Method,
    SftSpec,
)
from core.domain.model import ModelKind, ModelSource

_ABSENT = "–"


def spec_texts(spec: AlignSpec | SftSpec) -> dict[str, str]:
    """Text of each field by its dotted name, but for the SAEs of a constraint set."""
    values = spec.model_dump(mode="json", exclude={"constraint", "kind"})
    training = values["training"]
    lora = training.pop("lora")
    texts = _data_defaults() | dict(_flat(values, ""))
    texts["training.lora.on"] = "false" if lora is None else "true"
    shown = lora or LoraSpec().model_dump(mode="json")
    texts |= dict(_flat({**shown, "target_modules": None}, "training.lora."))
    texts["training.lora.target_modules"] = ", ".join(shown["target_modules"])
    return texts


def default_texts(kind: str) -> dict[str, str]:
    """Texts of every field that has a default; ids and places are left to be filled in."""
    model = ModelSource(kind=ModelKind.HUB, location="-")
    spec: AlignSpec | SftSpec
    if kind == "sft":
        spec = SftSpec(model_id="x", model=model, tuned_id="y", data=FilePreferences(path="-"))
    else:
        spec = AlignSpec(model_id="x", model=model, aligned_id="y", method=Method.DPO)
    texts = spec_texts(spec)
    needed = ("model_id", "aligned_id", "tuned_id", "model.location", "data.path")
    return texts | {name: "" for name in needed if name in texts}


def text_of(value: object) -> str:
    """A value as it is typed.

    >>> [text_of(value) for value in (5e-07, 2.0, True, None, 12)]
    ['5e-7', '2', 'true', '', '12']
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            whole = value.is_integer() and abs(value) < 1e15
            return str(int(value)) if whole else repr(value).replace("e-0", "e-")
        case _:
            return str(value)


def differences(
    before: Mapping[str, object], after: Mapping[str, object]
) -> tuple[tuple[str, str, str], ...]:
    """Fields whose values differ: name, text before, text after; both sides by their names."""
    one, other = dict(_flat(before, "")), dict(_flat(after, ""))
    names = dict.fromkeys([*one, *other])
    return tuple(
        (name, one.get(name, "") or _ABSENT, other.get(name, "") or _ABSENT)
        for name in names
        if not _same(one.get(name, ""), other.get(name, ""))
    )


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _flat(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _flat_list(value, name)
        else:
            yield name, text_of(value)


def _flat_list(values: Sequence[object], name: str) -> Iterator[tuple[str, str]]:
    """Plain lists are one text; tables, such as the SAEs of a set, one text a field."""
    if all(isinstance(value, Mapping) and "sae_id" in value for value in values):
        for place, value in enumerate(values):
            if isinstance(value, Mapping):
                yield from _flat(value, f"{name}.{place}.")
        return
    yield name, ", ".join(_entry(value) for value in values)


def _entry(value: object) -> str:
    if isinstance(value, Mapping):  # a held feature
        weight = text_of(value.get("weight", 1.0))
        index = text_of(value.get("feature"))
        return index if weight == "1" else f"{index}:{weight}"
    return text_of(value)


def _data_defaults() -> dict[str, str]:
    """Fields of every kind of data, so that a changed choice finds its defaults."""
    file = FilePreferences(path="-").model_dump(mode="json")
    hub = HubPreferences(name="-").model_dump(mode="json")
    both = {**file, **hub, "path": "", "name": ""}
    del both["kind"]
    return dict(_flat(both, "data.")) | {"data.content_hash": ""}

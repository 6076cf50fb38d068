"""The SAEs of a constraint set in a form: which, and how the features of each are treated.

A list of features is typed as indices or feature ids, apart by commas, spaces or lines; a weight
may follow a colon: ``12, 873:2.5, gemma-2-2b/12-gemmascope-res-16k/8437``. Which of them came from
a tag goes along in a field that nobody types.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from pydantic import TypeAdapter, ValidationError

from app.services.align.offers import Offers
from app.services.problems import FieldProblem
from app.web import align_text
from app.web.i18n import gettext
from core.domain.alignment import ConstraintSae, HeldFeature, TagSource
from core.domain.feature_choice import sources_left

OWN = "own"
ALL, SOME = "all", "some"
_PLAIN = ("k", "index_set", "weight")
_SOURCE = ("source.kind", "source.location", "source.release_id", "source.hook_name")
_ENTRY = re.compile(r"(?:(?P<sae>[^\s:/]+/[^\s:/]+)/)?(?P<index>[0-9]{1,9})(?::(?P<weight>.+))?")
_DEFAULTS = ConstraintSae.model_fields
_SOURCES: TypeAdapter[tuple[TagSource, ...]] = TypeAdapter(tuple[TagSource, ...])


def row_of(name: str) -> int | None:
    """The row that a field belongs to; None for fields of no SAE."""
    parts = name.split(".")
    known = len(parts) > 2 and parts[0] == "constraint" and parts[1].isascii()
    return int(parts[1]) if known and parts[1].isdigit() and len(parts[1]) < 4 else None


def fresh(row: int, *, others: Mapping[str, str]) -> dict[str, str]:
    """Texts of a new row: the paper's settings; k as in the row before."""
    before = others.get(f"constraint.{row - 1}.k") or str(_DEFAULTS["k"].default)
    texts = {name: align_text.text_of(_DEFAULTS[name].default) for name in ("weight", "others")}
    texts |= {"index_set": str(_DEFAULTS["index_set"].default.value), "k": before}
    texts |= {"pick": OWN, "treat": ALL, "held": "", "free": "", "sae_id": "", "from_tags": ""}
    texts |= {"source.kind": "hub", **dict.fromkeys(_SOURCE[1:], "")}
    return {f"constraint.{row}.{name}": text for name, text in texts.items()}


def texts(row: int, entry: ConstraintSae, model_id: str, offers: Offers) -> dict[str, str]:
    """Texts of a row that means these settings."""
    known = offers.pick_of(model_id, entry.sae_id, entry.source)
    plain = not entry.held and not entry.free and entry.others == 1.0
    found = {
        "pick": known if known is not None else OWN,
        "sae_id": entry.sae_id,
        "source.kind": entry.source.kind.value,
        "source.location": entry.source.location,
        "source.release_id": entry.source.release_id or "",
        "source.hook_name": entry.source.hook_name or "",
        "k": str(entry.k),
        "index_set": entry.index_set.value,
        "weight": align_text.text_of(entry.weight),
        "treat": ALL if plain else SOME,
        "others": align_text.text_of(entry.others),
        "held": held_text(entry.held),
        "free": ", ".join(map(str, entry.free)),
        "from_tags": written_sources(entry.tags),
    }
    return {f"constraint.{row}.{name}": text for name, text in found.items()}


def held_text(held: Iterable[HeldFeature]) -> str:
    """Held features as they are typed.

    >>> held_text([HeldFeature(feature=3), HeldFeature(feature=7, weight=2.5)])
    '3, 7:2.5'
    """
    entries = (
        f"{one.feature}" if one.weight == 1.0 else f"{one.feature}:{align_text.text_of(one.weight)}"
        for one in held
    )
    return ", ".join(entries)


def values(typed: Mapping[str, str], rows: Iterable[int], offers: Offers) -> list[object]:
    """Nested values of every row; what cannot be read in a list is left out here."""
    return [_row_values(typed, row, offers) for row in rows]


def problems(typed: Mapping[str, str], rows: Iterable[int]) -> tuple[FieldProblem, ...]:
    """What cannot be read in the lists of features."""
    return tuple(problem for row in rows for problem in _row_problems(typed, row))


def features_in(text: str) -> list[str]:
    """The entries of a list, as typed."""
    return text.replace(",", " ").replace(";", " ").split()


def indices_in(text: str) -> list[int]:
    """The indices that a list names, in its order, each once.

    >>> indices_in("3, 7:2.5 m/1-a/9 three 3")
    [3, 7, 9]
    """
    return list(dict.fromkeys(int(match["index"]) for match in _matches(text)))


def add_to_list(text: str, found: Iterable[int]) -> str:
    """A list with more indices; those that it names already stay as they are."""
    there = {match["index"] for match in map(_ENTRY.fullmatch, features_in(text)) if match}
    more = [str(index) for index in dict.fromkeys(found) if str(index) not in there]
    return ", ".join([*features_in(text), *more])


def put_in_list(text: str, found: Iterable[int], weight: float) -> str:
    """A list with some indices of this weight, whatever weight they had.

    >>> put_in_list("3:4, 9", [3, 5], 2.5)
    '9, 3:2.5, 5:2.5'
    """
    held = [HeldFeature(feature=index, weight=weight) for index in dict.fromkeys(found)]
    kept = take_from_list(text, (one.feature for one in held))
    return ", ".join(filter(None, (kept, held_text(held))))


def sources(typed: Mapping[str, str], row: int) -> tuple[TagSource, ...]:
    """Tags that features of a row's lists came from and are still in; what is no such text is none.

    The features of the lists count: one that was taken out of them belongs to no tag any more.
    """
    at = f"constraint.{row}"
    text = typed.get(f"{at}.from_tags", "")
    try:
        found = _SOURCES.validate_json(text) if text else ()
    except ValidationError:
        return ()
    held, free = (indices_in(typed.get(f"{at}.{name}", "")) for name in ("held", "free"))
    return sources_left(found, held=held, free=free)


def written_sources(found: Iterable[TagSource]) -> str:
    """Tags with their features as the field holds them; empty without any."""
    kept = tuple(found)
    return _SOURCES.dump_json(kept).decode() if kept else ""


def take_from_list(text: str, gone: Iterable[int]) -> str:
    """A list without some indices."""
    names = {str(index) for index in gone}
    kept = [
        entry
        for entry in features_in(text)
        if not (match := _ENTRY.fullmatch(entry)) or match["index"] not in names
    ]
    return ", ".join(kept)


def _row_values(typed: Mapping[str, str], row: int, offers: Offers) -> dict[str, object]:
    def text(name: str) -> str:
        return typed.get(f"constraint.{row}.{name}", "").strip()

    found: dict[str, object] = {name: text(name) for name in _PLAIN if text(name)}
    chosen = offers.sae(text("pick"))
    if chosen is not None:
        found |= {"sae_id": chosen.sae_id, "source": chosen.source.model_dump(mode="json")}
    else:
        source = {name.split(".")[1]: text(name) for name in _SOURCE if text(name)}
        found |= {"source": source} | ({"sae_id": text("sae_id")} if text("sae_id") else {})
    if text("treat") != SOME:
        return found
    found |= {"others": text("others")} if text("others") else {}
    found["held"] = [
        {"feature": int(match["index"])} | ({"weight": match["weight"]} if match["weight"] else {})
        for match in _matches(text("held"))
    ]
    found["free"] = [int(match["index"]) for match in _matches(text("free"))]
    came_from = sources(typed, row)
    if came_from:
        found["tags"] = [source.model_dump(mode="json") for source in came_from]
    return found


def _matches(text: str) -> Iterator[re.Match[str]]:
    return (match for match in map(_ENTRY.fullmatch, features_in(text)) if match is not None)


def _row_problems(typed: Mapping[str, str], row: int) -> Iterator[FieldProblem]:
    if typed.get(f"constraint.{row}.treat") != SOME:
        return
    sae_id = typed.get(f"constraint.{row}.sae_id", "").strip()
    pick = typed.get(f"constraint.{row}.pick", OWN)
    expected = sae_id if pick in {"", OWN} else pick.rpartition("/")[2]
    for name in ("held", "free"):
        path = f"constraint.{row}.{name}"
        entries = features_in(typed.get(path, ""))
        unread = [entry for entry in entries if not _ENTRY.fullmatch(entry)]
        if unread:
            yield FieldProblem(
                path=path,
                message=gettext("%(text)s names no feature.") % {"text": repr(unread[0][:60])},
                hint=gettext("Write indices or feature ids, e.g. 12, 873:2.5, model/sae/8437."),
            )
        foreign = [
            match["sae"]
            for match in _matches(typed.get(path, ""))
            if match["sae"] and match["sae"].rpartition("/")[2] != expected
        ]
        if foreign:
            yield FieldProblem(
                path=path,
                message=gettext("%(id)s is another SAE.") % {"id": foreign[0]},
                hint=gettext("List features of this SAE only; add a row for the other one."),
            )

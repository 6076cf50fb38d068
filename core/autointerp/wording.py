"""Prompt templates and few-shot examples: data files, named by a hash of their content."""

import hashlib
import json
import tomllib
from enum import StrEnum
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict

from core.autointerp.text import visible
from core.domain.activation import ActivationRecord

_ROOM = files("core.autointerp")
_STAND_INS = ("⇥", "⏎", "␍", "⟨U+", "<·", "[·")


class Language(StrEnum):
    """Language of prompts, and so of explanations."""

    EN = "en"
    ZH = "zh"


class PromptName(StrEnum):
    """One kind of prompt; also the name of its section in a template file."""

    EXPLAIN_RECORDS = "explain_records"
    EXPLAIN_HIGHLIGHTS = "explain_highlights"
    EXPLAIN_TOKENS = "explain_tokens"
    SIMULATE_TEXT = "simulate_text"
    SIMULATE_TOKEN = "simulate_token"  # noqa: S105 - a template's name
    SIMULATE_SCHEMA = "simulate_schema"
    DETECT = "detect"
    FUZZ = "fuzz"


_EXAMPLES = {
    PromptName.EXPLAIN_RECORDS: "records",
    PromptName.EXPLAIN_HIGHLIGHTS: "highlights",
    PromptName.EXPLAIN_TOKENS: "top_tokens",
    PromptName.SIMULATE_TEXT: "records",
    PromptName.SIMULATE_TOKEN: "tokens",
    PromptName.SIMULATE_SCHEMA: "schema",
    PromptName.DETECT: "judged",
    PromptName.FUZZ: "judged",
}


class Wording(BaseModel):
    """The texts of one prompt in one language.

    Attributes:
        label: prompt, language, version and hash, e.g. ``detect/en/v1/1a2b3c4d5e6f``; stored with
            every result.
        parts: the section's texts by name, with ``$name`` where values go.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PromptName
    language: Language
    label: str
    find: str
    legend: str
    parts: dict[str, str]
    verdicts: dict[str, str]
    repair: str

    def fill(self, part: str, **values: object) -> str:
        """The text of one part with its values; values are inserted as they are."""
        text = Template(self.parts[part])
        return text.substitute(find=self.find, **values)

    def system(self, *, shown: str, **values: object) -> str:
        """The system message; explains stand-ins when the shown text has any."""
        legend = f" {self.legend}" if any(mark in shown for mark in _STAND_INS) else ""
        return self.fill("system", legend=legend, **values)

    def ask_again(self, problem: str) -> str:
        """What to say when an answer could not be used."""
        return Template(self.repair).substitute(problem=problem)


@cache
def wording(name: PromptName, language: Language) -> Wording:
    """The texts of a prompt; the hash covers the template and its few-shot examples."""
    data = tomllib.loads(_read(f"templates/{language.value}.toml"))
    used = {key: data[key] for key in ("find", "legend", "verdicts", "repair", name.value)}
    content = json.dumps(used, sort_keys=True, ensure_ascii=False) + _read(_examples_path(name))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Wording(
        name=name,
        language=language,
        label=f"{name.value}/{language.value}/v{data['version']}/{digest}",
        find=data["find"],
        legend=data["legend"],
        parts=data[name.value],
        verdicts=data["verdicts"],
        repair=data["repair"]["user"],
    )


class FewShotRecord(BaseModel):
    """Tokens with raw activations, written for this project."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[str, ...]
    activations: tuple[float, ...]

    def record(self) -> ActivationRecord:
        """The domain's record."""
        return ActivationRecord(tokens=self.tokens, activations=self.activations)


class FewShotNeuron(BaseModel):
    """An invented neuron with its explanation in every language.

    Attributes:
        first_revealed: per record, how many first tokens hide their activation when simulating.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: dict[Language, str]
    records: tuple[FewShotRecord, ...]
    first_revealed: tuple[int, ...] = ()


class FewShotToken(BaseModel):
    """One token at the end of a text, with its own explanation and activation 0–10."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: dict[Language, str]
    tokens: tuple[str, ...]
    activation: int


class FewShotDocument(BaseModel):
    """One document whose activations are asked for as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: dict[Language, str]
    record: FewShotRecord


class FewShotTopTokens(BaseModel):
    """Top tokens and logit effect of an invented feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: dict[Language, str]
    tokens: tuple[str, ...]
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


class FewShotJudged(BaseModel):
    """Documents with the verdicts a judge should give; ``{}`` stand for the marks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: dict[Language, str]
    texts: tuple[str, ...]
    verdicts: tuple[int, ...]


@cache
def few_shot_neurons() -> tuple[FewShotNeuron, ...]:
    """Invented neurons for prompts of rows."""
    return tuple(FewShotNeuron.model_validate(n) for n in _examples("records")["neurons"])


@cache
def few_shot_features() -> tuple[FewShotNeuron, ...]:
    """Invented features for prompts of marked documents."""
    return tuple(FewShotNeuron.model_validate(n) for n in _examples("highlights")["features"])


@cache
def few_shot_tokens() -> tuple[FewShotToken, ...]:
    """Single tokens with activations."""
    return tuple(FewShotToken.model_validate(t) for t in _examples("tokens")["tokens"])


@cache
def few_shot_documents() -> tuple[FewShotDocument, ...]:
    """Documents with activations."""
    return tuple(FewShotDocument.model_validate(d) for d in _examples("schema")["documents"])


@cache
def few_shot_top_tokens() -> tuple[FewShotTopTokens, ...]:
    """Features by their top tokens."""
    return tuple(FewShotTopTokens.model_validate(f) for f in _examples("top_tokens")["features"])


@cache
def few_shot_judged(name: PromptName) -> tuple[FewShotJudged, ...]:
    """Judged documents for detection or fuzzing."""
    return tuple(FewShotJudged.model_validate(j) for j in _examples("judged")[name.value])


def token_list(tokens: tuple[str, ...]) -> str:
    """Tokens in quotes, made visible, in one line; a dash for none."""
    return ", ".join(f"'{visible(token)}'" for token in tokens) or "-"


def _examples(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_read(f"few_shot/{name}.json"))
    return data


def _examples_path(name: PromptName) -> str:
    return f"few_shot/{_EXAMPLES[name]}.json"


def _read(path: str) -> str:
    return _ROOM.joinpath(path).read_text(encoding="utf-8")

"""The form of an endpoint: settings as typed, presets of common servers, and what they mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import SecretStr

from app.services.problems import FieldProblem
from core.domain.endpoint import EndpointSettings
from core.domain.views_explain import EndpointCard, KeySource

SECRET = "api_key"  # noqa: S105 - the field's name
SETTINGS = tuple(EndpointSettings.model_fields)
FIELDS = (*SETTINGS, "key_source", SECRET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPreset:
    """A common server with what its endpoints are like.

    Attributes:
        title: the server's own name.
        typed: fields that differ from the defaults.
    """

    title: str
    typed: Mapping[str, str]


PRESETS = {
    "openai": ServerPreset(
        title="OpenAI",
        typed={
            "name": "OpenAI",
            "base_url": "https://api.openai.com/v1",
            "key_source": KeySource.ENVIRONMENT.value,
            "key_variable": "OPENAI_API_KEY",
            "tokens_field": "max_completion_tokens",
            "concurrency": "16",
        },
    ),
    "vllm": ServerPreset(
        title="vLLM",
        typed={
            "name": "vLLM",
            "base_url": "http://localhost:8000/v1",
            "concurrency": "64",
        },
    ),
    "sglang": ServerPreset(
        title="SGLang",
        typed={
            "name": "SGLang",
            "base_url": "http://localhost:30000/v1",
            "concurrency": "64",
        },
    ),
    "llamacpp": ServerPreset(
        title="llama.cpp",
        typed={
            "name": "llama.cpp",
            "base_url": "http://localhost:8080/v1",
            "concurrency": "4",
            "timeout_seconds": "300",
        },
    ),
    "ollama": ServerPreset(
        title="Ollama",
        typed={
            "name": "Ollama",
            "base_url": "http://localhost:11434/v1",
            "concurrency": "4",
            "timeout_seconds": "300",
        },
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointForm:
    """What stands in the fields; the key never does.

    Attributes:
        typed: text of each field by its name.
        api_key: what was typed as the key, to be sealed; None for nothing.
    """

    typed: Mapping[str, str]
    api_key: SecretStr | None = None
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
        return tuple(problem for problem in self.problems if problem.path not in FIELDS)

    @property
    def forget_key(self) -> bool:
        """Whether a stored key is no longer wanted."""
        return self.text("key_source") != KeySource.STORED

    def values(self) -> dict[str, object]:
        """Values for the check: empty fields left out, the key's variable only where it is used."""
        values: dict[str, object] = {
            name: self.typed[name].strip()
            for name in SETTINGS
            if self.text(name).strip() and name not in {"with_sampling", "key_variable"}
        }
        values["with_sampling"] = self.text("with_sampling") == "1"
        if self.text("key_source") == KeySource.ENVIRONMENT:
            values["key_variable"] = self.text("key_variable").strip()
        return values

    def with_problems(self, problems: tuple[FieldProblem, ...]) -> "EndpointForm":
        """The form with what has to be mended."""
        return replace(self, problems=problems)


def from_preset(name: str) -> EndpointForm:
    """A form filled for a common server; any other name gives the defaults."""
    preset = PRESETS.get(name)
    return EndpointForm(typed={**_defaults(), **(preset.typed if preset else {})})


def from_card(card: EndpointCard) -> EndpointForm:
    """A form filled with an endpoint's settings."""
    typed = {name: _text(getattr(card, name)) for name in SETTINGS}
    return EndpointForm(typed={**typed, "key_source": card.key_source.value})


def from_post(posted: Iterable[tuple[str, str]]) -> EndpointForm:
    """A form as somebody sent it."""
    fields = {name: value for name, value in posted if name in FIELDS}
    key = fields.pop(SECRET, "").strip()
    wanted = fields.get("key_source") == KeySource.STORED
    return EndpointForm(typed=fields, api_key=SecretStr(key) if key and wanted else None)


def _defaults() -> dict[str, str]:
    given = {
        name: _text(field.default)
        for name, field in EndpointSettings.model_fields.items()
        if not field.is_required()
    }
    return {**given, "key_source": KeySource.NONE.value}


def _text(value: object) -> str:
    """A setting as it stands in a field.

    >>> _text(True), _text(None), _text(120.0), _text(0.15)
    ('1', '', '120', '0.15')
    """
    match value:
        case None | False:
            return ""
        case True:
            return "1"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)

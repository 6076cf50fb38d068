"""A corpus opened from its description."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import assert_never

from core.domain.corpus import (
    CorpusSpec,
    DemoCorpusSpec,
    FileCorpusSpec,
    FolderCorpusSpec,
    HubCorpusSpec,
    corpus_name,
)
from worker.corpus.demo import fetch_demo, read_demo
from worker.corpus.document import Corpus, RawDocument
from worker.corpus.files import read_file, read_folder
from worker.corpus.hub import read_hub


def open_corpus(spec: CorpusSpec, *, cache_dir: Path, count_tokens: Callable[[str], int]) -> Corpus:
    """The corpus that a description names; nothing is read before its first document is asked for.

    Args:
        spec: where the text comes from.
        cache_dir: downloaded packages are kept below it.
        count_tokens: tokens of a text, for ``max_tokens``.
    """

    def read() -> Iterator[RawDocument]:
        match spec:
            case DemoCorpusSpec():
                return read_demo(spec.slice, cache_dir=cache_dir)
            case FileCorpusSpec():
                return read_file(Path(spec.path).expanduser(), column=spec.column)
            case FolderCorpusSpec():
                return read_folder(Path(spec.path).expanduser(), suffixes=spec.suffixes)
            case HubCorpusSpec():
                return read_hub(spec)
            case _:
                assert_never(spec)

    return Corpus(
        name=corpus_name(spec),
        read=read,
        max_documents=spec.max_documents,
        max_tokens=spec.max_tokens,
        count_tokens=count_tokens,
    )


def fetch_corpus(spec: CorpusSpec, *, cache_dir: Path) -> None:
    """Downloads what a corpus needs before its first document; nothing where it reads as it goes.

    Raises:
        DownloadFailed: a package cannot be fetched or its hash differs.
        DiskFull: no room below ``cache_dir``.
    """
    if isinstance(spec, DemoCorpusSpec):
        fetch_demo(cache_dir=cache_dir)

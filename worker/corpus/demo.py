"""The demo corpus: prose and code of pinned packages, shuffled by hash and split in two."""

import bz2
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from core.domain.corpus import DemoSlice
from worker.corpus.archive import read_members
from worker.corpus.demo_sources import DEMO_SOURCES, DemoSource, Layout
from worker.corpus.document import RawDocument
from worker.corpus.pieces import split_pieces
from worker.corpus.wikitext import read_articles
from worker.packages import fetch_package, fetch_packages

_PIECE_CHARACTERS = 4_000
_MIN_CHARACTERS = 200
_HARVEST_ONE_IN = 8


def read_demo(
    which: DemoSlice, *, cache_dir: Path, sources: tuple[DemoSource, ...] = DEMO_SOURCES
) -> Iterator[RawDocument]:
    """The documents of one slice, ordered by hash, so that every prefix mixes all sources.

    Equal texts are kept once. A document belongs to the harvest slice if its hash is divisible
    by eight, so the slices never share one.

    Raises:
        DownloadFailed: a package cannot be fetched or its hash differs.
    """
    fetch_demo(cache_dir=cache_dir, sources=sources)
    wanted = which is DemoSlice.HARVEST
    by_hash: dict[bytes, RawDocument] = {}
    for source in sources:
        by_hash |= _sample(source, cache_dir=cache_dir)
    for digest in sorted(by_hash):
        if (digest[-1] % _HARVEST_ONE_IN == 0) is wanted:
            yield by_hash[digest]


def fetch_demo(*, cache_dir: Path, sources: tuple[DemoSource, ...] = DEMO_SOURCES) -> None:
    """Every package of the demo corpus, below ``cache_dir``.

    Raises:
        DownloadFailed: a package cannot be fetched or its hash differs.
        DiskFull: no room.
    """
    pinned = {source.package.filename: source.package for source in sources}
    fetch_packages(pinned.values(), cache_dir=cache_dir / "packages")


def _sample(source: DemoSource, *, cache_dir: Path) -> dict[bytes, RawDocument]:
    documents = {_text_hash(document.text): document for document in _read(source, cache_dir)}
    kept: dict[bytes, RawDocument] = {}
    n_characters = 0
    for digest in sorted(documents):
        n_characters += len(documents[digest].text)
        if kept and n_characters > source.max_characters:
            break
        kept[digest] = documents[digest]
    return kept


def _read(source: DemoSource, cache_dir: Path) -> Iterator[RawDocument]:
    archive = fetch_package(source.package, cache_dir=cache_dir / "packages")
    for name, content in read_members(archive, re.compile(source.pattern)):
        for title, text in _texts(name, content, source.layout):
            if len(text) >= _MIN_CHARACTERS:
                yield RawDocument(source=source.label, title=title, text=text)


def _texts(name: str, content: bytes, layout: Layout) -> Iterable[tuple[str, str]]:
    match layout:
        case Layout.WIKIPEDIA:
            articles = read_articles(bz2.decompress(content))
            return ((title, piece) for title, text in articles for piece in _pieces(text))
        case Layout.LINES:
            return ((name, line) for line in _decode(content).splitlines())
        case Layout.PIECES:
            return ((name, piece) for piece in _pieces(_decode(content)))


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:  # a few of the old files are Latin-1
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n")


def _pieces(text: str) -> Iterator[str]:
    return split_pieces(text, max_characters=_PIECE_CHARACTERS)


def _text_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()

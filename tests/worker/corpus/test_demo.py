"""The demo corpus: split, order, sampling and clean prose, on a made-up package."""

import bz2
import hashlib
import zipfile

import pytest

from core.domain.corpus import DemoSlice
from worker.corpus.demo import read_demo
from worker.corpus.demo_sources import DEMO_SOURCES, DemoSource, Layout
from worker.corpus.wikitext import strip_wikitext
from worker.packages import PinnedPackage

PAGE = """<mediawiki xmlns="x"><page><title>{title}</title>{redirect}
<revision><text>{text}</text></revision></page></mediawiki>"""


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "packages" / "texts-1.0-py3-none-any.whl"
    path.parent.mkdir()
    prose = "\n\n".join(f"Paragraph {i} " + f"says {i} things. " * 20 for i in range(400))
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("texts/book.txt", prose)
        wheel.writestr("texts/news.cor", "\n".join(f"Story {i} " + "word " * 60 for i in range(99)))
        wheel.writestr("texts/short.txt", "too short")
        wheel.writestr("texts/other.bin", "not matched " * 99)
        page = PAGE.format(title="Algae", redirect="", text="'''Algae''' are [[x|green]]. " * 20)
        wheel.writestr("texts/wiki.bz2", bz2.compress(page.encode()))
    return PinnedPackage(
        name="texts",
        version="1.0",
        filename=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="MIT",
    )


@pytest.fixture
def sources(package):
    def source(label, pattern, **options):
        return DemoSource(label=label, package=package, pattern=pattern, **options)

    return (
        source("books", r"texts/.*\.txt", max_characters=60_000),
        source("news", r"texts/news\.cor", layout=Layout.LINES),
        source("wikipedia", r"texts/wiki\.bz2", layout=Layout.WIKIPEDIA),
    )


def read(which, sources, tmp_path):
    return list(read_demo(which, cache_dir=tmp_path, sources=sources))


def test_slices_share_nothing_and_together_are_everything(sources, tmp_path):
    harvest = read(DemoSlice.HARVEST, sources, tmp_path)
    training = read(DemoSlice.TRAINING, sources, tmp_path)
    assert harvest
    assert not {d.text for d in harvest} & {d.text for d in training}
    both = [*harvest, *training]
    assert sum(d.source == "news" for d in both) == 99
    assert sum(d.source == "wikipedia" for d in both) == 1
    assert 0.03 < len(harvest) / len(both) < 0.3


def test_order_is_fixed_and_mixes_sources(sources, tmp_path):
    training = read(DemoSlice.TRAINING, sources, tmp_path)
    assert training == read(DemoSlice.TRAINING, sources, tmp_path)
    assert {d.source for d in training[:30]} >= {"books", "news"}


def test_large_source_is_sampled_to_its_limit(sources, tmp_path):
    both = [d for which in DemoSlice for d in read(which, sources, tmp_path)]
    n_characters = sum(len(d.text) for d in both if d.source == "books")
    assert 50_000 < n_characters <= 60_000
    assert max(len(d.text) for d in both) <= 4_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a {{x|{{y}}\n}} b", "a  b"),
        ("see [[File:x.png|thumb|a [[nested]] caption]]end", "see end"),
        ("[[Category:Plants]]text", "text"),
        ("{|\n! t\n|-\n{|\n|}\n|}after", "after"),
        ("x<ref name=a/> y<ref>note {{z}}</ref>.", "x y."),
        ("* one\n* two", "one\ntwo"),
        ("[http://x.org the site] &amp;nbsp;", "the site &nbsp;"),
        ("kept\n== References ==\nlost", "kept"),
        ("<!-- gone -->&lt;b&gt;", "<b>"),
    ],
)
def test_wikitext_becomes_prose(source, expected):
    assert strip_wikitext(source) == expected


def test_every_source_is_pinned_and_licensed():
    for source in DEMO_SOURCES:
        assert len(source.package.sha256) == 64
        assert source.package.licence
        assert source.package.version in source.package.filename

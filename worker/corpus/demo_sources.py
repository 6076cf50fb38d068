"""The packages whose text makes the demo corpus, pinned by hash, and what is taken of each."""

from dataclasses import dataclass
from enum import StrEnum

from worker.packages import PinnedPackage

GENSIM = PinnedPackage(
    name="gensim",
    version="4.3.3",
    filename="gensim-4.3.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="d662bf96e3d741b6ab61a54be842a7cbf5e45193008b2f4225c758cafd7f9cdc",
    licence="LGPL-2.1-only",
)
BROTLI = PinnedPackage(
    name="Brotli",
    version="1.1.0",
    filename="Brotli-1.1.0.tar.gz",
    sha256="81de08ac11bcb85841e440c13611c00b67d3bf82698314928d0b676362546724",
    licence="MIT",
)
SENTENCEPIECE = PinnedPackage(
    name="sentencepiece",
    version="0.2.0",
    filename="sentencepiece-0.2.0.tar.gz",
    sha256="a52c19171daaf2e697dc6cbe67684e0fa341b1248966f6aebb541de654d15843",
    licence="Apache-2.0",
)
DJANGO = PinnedPackage(
    name="Django",
    version="5.2",
    filename="Django-5.2.tar.gz",
    sha256="1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89",
    licence="BSD-3-Clause",
)
SQLALCHEMY = PinnedPackage(
    name="SQLAlchemy",
    version="2.0.41",
    filename="sqlalchemy-2.0.41.tar.gz",
    sha256="edba70118c4be3c2b1f90754d308d0b79c6fe2c0fdc52d8ddf603916f83f4db9",
    licence="MIT",
)
CELERY = PinnedPackage(
    name="celery",
    version="5.5.2",
    filename="celery-5.5.2.tar.gz",
    sha256="4d6930f354f9d29295425d7a37261245c74a32807c45d764bedc286afd0e724e",
    licence="BSD-3-Clause",
)
NILEARN = PinnedPackage(
    name="nilearn",
    version="0.11.1",
    filename="nilearn-0.11.1.tar.gz",
    sha256="a01df08fc6c8ded3cd6fb7a211634603ad46a6df780504b6d05222c2e7a972fe",
    licence="BSD-3-Clause",
)
SYMPY = PinnedPackage(
    name="sympy",
    version="1.13.3",
    filename="sympy-1.13.3-py3-none-any.whl",
    sha256="54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73",
    licence="BSD-3-Clause",
)
NETWORKX = PinnedPackage(
    name="networkx",
    version="3.4.2",
    filename="networkx-3.4.2-py3-none-any.whl",
    sha256="df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f",
    licence="BSD-3-Clause",
)
NLTK = PinnedPackage(
    name="nltk",
    version="3.9.1",
    filename="nltk-3.9.1-py3-none-any.whl",
    sha256="4fa26829c5b00715afe3061398a8989dc643b92ce7dd93fb4585a70930d168a1",
    licence="Apache-2.0",
)


class Layout(StrEnum):
    """How a file of a package is made into documents."""

    PIECES = "pieces"  # cut at paragraph borders
    LINES = "lines"  # one document a line
    WIKIPEDIA = "wikipedia"  # bz2-packed MediaWiki dump


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSource:
    """One label of the demo corpus: which files of which package, and how much of them.

    Attributes:
        label: shown beside each context.
        pattern: regular expression on file names.
        max_characters: characters kept, in hash order; larger sources are sampled down to it.
        text_licence: licence of the text itself, where it is not the package's.
    """

    label: str
    package: PinnedPackage
    pattern: str
    layout: Layout = Layout.PIECES
    max_characters: int = 10_000_000
    text_licence: str = ""


_DATA = r"gensim/test/test_data/"
_PUBLIC_DOMAIN = "public domain"
_LEE = "research corpus of ABC news mail (Lee, Pincombe, Welsh 2005), distributed by gensim"

DEMO_SOURCES: tuple[DemoSource, ...] = (
    DemoSource(
        label="wikipedia",
        package=GENSIM,
        pattern=_DATA + r"enwiki-(latest-pages-articles1.*-shortened|table-markup\.xml)\.bz2",
        layout=Layout.WIKIPEDIA,
        text_licence="CC-BY-SA-3.0",
    ),
    DemoSource(
        label="news",
        package=GENSIM,
        pattern=_DATA + r"lee(_background)?\.cor",
        layout=Layout.LINES,
        text_licence=_LEE,
    ),
    DemoSource(
        label="books",
        package=BROTLI,
        pattern=r"tests/testdata/(alice29|asyoulik|lcet10|plrabn12)\.txt",
        text_licence=_PUBLIC_DOMAIN,
    ),
    DemoSource(
        label="books",
        package=SENTENCEPIECE,
        pattern=r"test/botchan\.txt",
        text_licence=_PUBLIC_DOMAIN,
    ),
    DemoSource(
        label="django-docs",
        package=DJANGO,
        pattern=r"docs/(topics|ref|howto|intro|faq|internals|misc)/.*\.txt",
        max_characters=1_300_000,
    ),
    DemoSource(
        label="sqlalchemy-docs",
        package=SQLALCHEMY,
        pattern=r"doc/build/(core|orm|faq|tutorial|glossary|errors|intro).*\.rst",
        max_characters=900_000,
    ),
    DemoSource(
        label="celery-docs",
        package=CELERY,
        pattern=r"docs/(userguide|getting-started|internals|tutorials)/[a-z/-]*\.rst",
        max_characters=500_000,
    ),
    DemoSource(
        label="neuroscience-docs",
        package=NILEARN,
        pattern=r"(doc/(?!changes).*\.rst|nilearn/datasets/description/.*\.rst|examples/.*\.py)",
        max_characters=900_000,
    ),
    DemoSource(
        label="math-python",
        package=SYMPY,
        pattern=r"sympy/(?!.*/tests/)"
        r"(combinatorics|concrete|geometry|ntheory|physics|sets|solvers|stats)/.*\.py",
        max_characters=900_000,
    ),
    DemoSource(
        label="graph-python",
        package=NETWORKX,
        pattern=r"networkx/(algorithms|generators|drawing)/(?!.*tests/).*\.py",
        max_characters=700_000,
    ),
    DemoSource(
        label="language-python",
        package=NLTK,
        pattern=r"nltk/(?!test/).*\.py",
        max_characters=700_000,
    ),
    DemoSource(
        label="web-python",
        package=DJANGO,
        pattern=r"django/(?!conf/locale|contrib/gis).*\.py",
        max_characters=800_000,
    ),
    DemoSource(
        label="web-javascript",
        package=DJANGO,
        pattern=r"(django/contrib/admin/static/admin/(js/(?!vendor).*\.js|css/(?!vendor).*\.css)"
        r"|django/.*/templates/.*\.html|js_tests/.*\.js)",
        max_characters=400_000,
    ),
    DemoSource(
        label="translations",
        package=DJANGO,
        pattern=r"django/(conf|contrib/(admin|auth))/locale/(de|es|fr|it)/LC_MESSAGES/django\.po",
        max_characters=200_000,
    ),
    DemoSource(
        label="compression-c",
        package=BROTLI,
        pattern=r"c/(common|dec|enc|tools)/(?!.*dictionary|static_dict).*\.[ch]",
        max_characters=500_000,
    ),
)

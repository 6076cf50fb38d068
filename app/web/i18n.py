"""Languages of the pages: catalogues compiled in memory, the locale, numbers and dates."""

import io
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import format_datetime
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_compact_decimal, format_decimal, format_percent
from babel.support import NullTranslations, Translations

LOCALE_DIR = Path(__file__).parents[1] / "locale"
LANGUAGES = {"en": "English", "zh_CN": "中文"}
DEFAULT = "en"
_HOURS_TOLD = 48  # a longer time is told in days

current: ContextVar[str] = ContextVar("language", default=DEFAULT)


@cache
def _messages(language: str) -> Catalog | None:
    path = LOCALE_DIR / language / "LC_MESSAGES" / "messages.po"
    if language not in LANGUAGES or not path.is_file():
        return None
    with path.open("rb") as file:
        return read_po(file, locale=language)


@cache
def catalogue(language: str) -> NullTranslations:
    """The translations of a language; English is the source text itself."""
    messages = _messages(language)
    if messages is None:
        return NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    return Translations(compiled)


def entries(language: str, context: str) -> list[tuple[str, str]]:
    """Messages of a context with their translations; none for English."""
    return [
        (str(message.id), str(message.string))
        for message in _messages(language) or ()
        if message.context == context and message.string
    ]


def gettext(message: str) -> str:
    """A message in the request's language."""
    return catalogue(current.get()).ugettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """A message with a number in the request's language."""
    return catalogue(current.get()).ungettext(singular, plural, n)


def choose_language(*wishes: str | None, accept: str = "") -> str:
    """The first known language of explicit wishes, then of an Accept-Language header.

    >>> choose_language(None, "xx", accept="fr, zh-TW;q=0.8, en;q=0.5")
    'zh_CN'
    """
    for wish in wishes:
        if wish in LANGUAGES:
            return str(wish)
    for entry in accept.split(",")[:10]:
        match entry.split(";")[0].strip().lower()[:2]:
            case "zh":
                return "zh_CN"
            case "en":
                return "en"
            case _:
                continue
    return DEFAULT


def html_lang() -> str:
    """The request's language as HTML names it.

    >>> html_lang()
    'en'
    """
    return current.get().replace("_", "-")


def locale() -> Locale:
    """The request's locale."""
    return Locale.parse(current.get())


def number(value: float, digits: int = 2) -> str:
    """A number with so many decimals, grouped; integers have none, and a rounded 0 no sign.

    >>> number(24117248), number(42.068), number(-1.3), number(-0.001)
    ('24,117,248', '42.07', '−1.30', '0.00')
    """
    if round(value, digits) == 0:
        value = abs(value)
    pattern = "#,##0" if isinstance(value, int) or digits == 0 else "#,##0." + "0" * digits
    return format_decimal(value, format=pattern, locale=locale()).replace("-", "−")


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without exponent where it stays short.

    >>> significant(0.000312), significant(0.0), significant(1234.5)
    ('0.000312', '0', '1,230')
    """
    if value == 0:
        return "0"
    if abs(value) < 1e-5:
        return f"{value:.{digits - 1}e}".replace("e-0", "e−").replace("e-", "e−")
    rounded = float(f"{value:.{digits}g}")
    return format_decimal(rounded, format="#,##0.##########", locale=locale()).replace("-", "−")


def percent(share: float, digits: int = 3) -> str:
    """A share as a percentage to so many significant digits.

    >>> percent(0.00412), percent(0.0000031), percent(1.0)
    ('0.412%', '0.00031%', '100%')
    """
    if share == 0:
        return format_percent(0, locale=locale())
    rounded = float(f"{share:.{digits}g}")
    if rounded < 1e-4:
        rounded = float(f"{share:.2g}")
    return format_percent(rounded, format="#,##0.########%", locale=locale())


def compact(value: float) -> str:
    """A large count, short.

    >>> compact(24_117_248), compact(1200), compact(7)
    ('24.1M', '1.2K', '7')
    """
    return format_compact_decimal(value, fraction_digits=1, locale=locale())


def moment(at: datetime) -> str:
    """A date and time, UTC.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 11, 24, 23, 5, tzinfo=UTC))
    '2026-11-24 23:05'
    """
    return format_datetime(at, "yyyy-MM-dd HH:mm", locale=locale())


def duration(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> duration(8), duration(215), duration(7300), duration(13_858_500)
    ('8 s', '3 min 35 s', '2 h 1 min', '160 d 9 h')
    """
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours >= _HOURS_TOLD:
        days, hours = divmod(hours, 24)
        return gettext("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return gettext("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return gettext("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": secs}
    return gettext("%(seconds)d s") % {"seconds": secs}


def size(n_bytes: float) -> str:
    """An amount of memory or disk.

    >>> size(1_500), size(2_147_483_648)
    ('1.5 kB', '2.15 GB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{significant(n_bytes / factor)} {unit}"
    return f"{round(n_bytes)} B"

"""TOML as text: settings written so that ``tomllib`` reads the same values back."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence


def write_toml(values: Mapping[str, object]) -> str:
    """A table of JSON-like values; fields that are None are left out, since TOML has none.

    >>> print(write_toml({"kind": "x", "rate": 5e-7, "part": {"n": 2, "gone": None}}), end="")
    kind = "x"
    rate = 5e-07
    <BLANKLINE>
    [part]
    n = 2
    """
    return "\n".join(_table(values, ())).lstrip("\n") + "\n"


def _table(values: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    kept = {key: value for key, value in values.items() if value is not None}
    tables = {key: value for key, value in kept.items() if isinstance(value, Mapping)}
    rows = {key: value for key, value in kept.items() if _is_rows(value)}
    for key, value in kept.items():
        if key not in tables and key not in rows:
            yield f"{_key(key)} = {_inline(value)}"
    for key, table in tables.items():
        yield ""
        yield f"[{'.'.join(map(_key, (*path, key)))}]"
        yield from _table(table, (*path, key))
    for key, entries in rows.items():
        for entry in entries if isinstance(entries, Sequence) else ():
            yield ""
            yield f"[[{'.'.join(map(_key, (*path, key)))}]]"
            yield from _table(entry, (*path, key))


def _is_rows(value: object) -> bool:
    """Whether a list holds tables that hold tables; flat ones fit in a line each."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(
            isinstance(entry, Mapping) and any(isinstance(v, Mapping) for v in entry.values())
            for entry in value
        )
    )


def _inline(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if math.isnan(value):
            return "nan"
        case float() if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        case int() | float():
            return repr(value)
        case Mapping():
            pairs = (f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None)
            return "{" + ", ".join(pairs) + "}"
        case Sequence() if not isinstance(value, str):
            return "[" + ", ".join(map(_inline, value)) + "]"
        case _:
            return _quoted(str(value))


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _quoted(key)


def _quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for the one that JSON lets pass."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Long texts cut into pieces at paragraph borders."""

from collections.abc import Iterator


def split_pieces(text: str, *, max_characters: int) -> Iterator[str]:
    r"""Pieces of whole paragraphs of at most ``max_characters``; a longer one is cut at line ends.

    A single line longer than the limit stays whole. Nothing is lost but blank lines at borders.

    >>> list(split_pieces("one\n\ntwo\n\nthree", max_characters=9))
    ['one\n\ntwo', 'three']
    >>> list(split_pieces("a\nb\nc", max_characters=3))
    ['a\nb', 'c']
    >>> list(split_pieces("  ", max_characters=9))
    []
    """
    for block in _pack(text.split("\n\n"), "\n\n", max_characters):
        if len(block) > max_characters:
            yield from _with_text(_pack(block.split("\n"), "\n", max_characters))
        else:
            yield from _with_text([block])


def _pack(parts: list[str], separator: str, max_characters: int) -> Iterator[str]:
    kept: list[str] = []
    length = 0
    for part in parts:
        added = len(part) + (len(separator) if kept else 0)
        if kept and length + added > max_characters:
            yield separator.join(kept)
            kept, length, added = [], 0, len(part)
        kept.append(part)
        length += added
    yield separator.join(kept)


def _with_text(pieces: Iterator[str] | list[str]) -> Iterator[str]:
    for piece in pieces:
        if piece.strip():
            yield piece.strip("\n")

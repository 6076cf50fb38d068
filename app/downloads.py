"""Answers that browsers save as a file."""

from collections.abc import Iterable

from fastapi.responses import StreamingResponse


def download(
    pieces: Iterable[bytes] | Iterable[str], *, name: str, media_type: str
) -> StreamingResponse:
    """A file of this name, sent piece by piece."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type=media_type, headers=headers)

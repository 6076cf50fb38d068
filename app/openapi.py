"""Prints the API's OpenAPI document: ``python -m app.openapi > openapi.json``."""

import json
import sys

from app.api.document import openapi_document


def openapi_text() -> str:
    """The document as it is committed."""
    return json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())

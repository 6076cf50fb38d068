"""Lines to copy: Python that reads what a page shows, commands that do what a form does."""

import json
from collections.abc import Mapping

from core.domain.ids import FeatureId


def feature_snippet(base_url: str, feature: FeatureId, *, harvest_id: int | None) -> str:
    """Lines that fetch a feature's contexts with its activations; standard library only."""
    query = "" if harvest_id is None else f"?harvest={harvest_id}"
    url = (
        f"{base_url.rstrip('/')}/api/v1/models/{feature.model_id}/saes/{feature.sae_id}"
        f"/features/{feature.index}{query}"
    )
    return (
        "import json\n"
        "from urllib.request import urlopen\n"
        "\n"
        f"feature = json.load(urlopen({url!r}))\n"
        'for context in feature["contexts"]:\n'
        '    print(context["band"], max(context["activations"]))\n'
    )


def curl_snippet(base_url: str, path: str, values: Mapping[str, object]) -> str:
    """A command that sends settings to the API, to paste into a shell.

    >>> print(curl_snippet("http://h:1/", "/api/v1/x", {"n": 2}).splitlines()[0])
    curl -X POST http://h:1/api/v1/x -H 'Content-Type: application/json' -d '{
    """
    quote = "'\\''"  # ends the shell's quotes, writes one, and opens them anew
    body = json.dumps(values, indent=2, ensure_ascii=False).replace("'", quote)
    url = f"{base_url.rstrip('/')}{path}"
    return f"curl -X POST {url} -H 'Content-Type: application/json' -d '{body}'"

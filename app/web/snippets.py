"""Lines to copy: Python that reads what a page shows, a reference to it, commands of a form."""

import json
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import version

from core.domain.ids import FeatureId
from core.domain.views import FeaturePage


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


def feature_citation(base_url: str, page: FeaturePage) -> str:
    """A BibTeX entry that names everything a feature's numbers depend on, by its hash."""
    feature, harvest = page.stats.index, page.harvest
    url = (
        f"{base_url.rstrip('/')}/{page.model_id}/{page.sae.sae_id}/{feature}"
        f"?harvest={harvest.harvest_id}"
    )
    made = harvest.finished_at
    fields = {
        "title": _tex(f"Feature {feature} of {page.sae.sae_id} on {page.model_id}"),
        "howpublished": f"\\url{{{url}}}",
        "year": str(made.year) if made else "",
        "note": _tex(
            f"Sparsight {version('sparsight')},\n    harvest {harvest.spec_hash},\n"
            f"    SAE weights {page.sae.revision},\n    model {harvest.model_revision},\n"
            f"    corpus {harvest.corpus_name} {harvest.corpus_hash}"
        ),
    }
    key = re.sub(r"[^A-Za-z0-9]+", "-", f"{page.model_id}-{page.sae.sae_id}-{feature}")
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@misc{{{key},\n" + ",\n".join(lines) + "\n}"


def _tex(text: str) -> str:
    r"""Text for LaTeX.

    >>> print(_tex("50% of a_b"))
    50\% of a\_b
    """
    text = text.replace("\\", "/")  # only in names of files
    return re.sub(r"([&%$#_{}])", r"\\\1", text).replace("~", r"\~{}").replace("^", r"\^{}")


def curl_snippet(
    base_url: str, path: str, values: Mapping[str, object], *, method: str = "POST"
) -> str:
    """A command that sends settings to the API, to paste into a shell.

    >>> print(curl_snippet("http://h:1/", "/api/v1/x", {"n": 2}).splitlines()[0])
    curl -X POST http://h:1/api/v1/x -H 'Content-Type: application/json' -d '{
    """
    quote = "'\\''"  # ends the shell's quotes, writes one, and opens them anew
    body = json.dumps(values, indent=2, ensure_ascii=False).replace("'", quote)
    url = shlex.quote(f"{base_url.rstrip('/')}{path}")
    return f"curl -X {method} {url} -H 'Content-Type: application/json' -d '{body}'"

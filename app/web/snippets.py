"""Python that reads what a page shows, to copy into a notebook."""

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

"""Datasets of the Hugging Face hub as streams of documents."""

from collections.abc import Iterator

from core.domain.corpus import HubCorpusSpec
from core.errors import CorpusUnreadable, DownloadFailed
from worker.corpus.document import RawDocument


def read_hub(spec: HubCorpusSpec) -> Iterator[RawDocument]:
    """One document a row of a dataset, in the dataset's order, without downloading all of it.

    Raises:
        DownloadFailed: the hub cannot be reached, or has no such dataset or revision.
        CorpusUnreadable: the configuration, split or column does not exist.
    """
    # datasets takes seconds to import and is needed for this kind of corpus only.
    import datasets

    source = spec.name.rsplit("/", 1)[-1]
    try:
        rows = datasets.load_dataset(
            spec.name, spec.config, split=spec.split, revision=spec.revision, streaming=True
        )
        for number, row in enumerate(rows):
            yield RawDocument(source=source, title=f"{source}:{number}", text=_text(spec, row))
    except ValueError as error:  # an unknown configuration or split
        raise CorpusUnreadable(
            f"Dataset {spec.name} cannot be read: {error}",
            hint="Check its configuration and split on the hub.",
        ) from error
    except OSError as error:  # covers the hub's own errors, all of which are OSErrors
        raise DownloadFailed(
            f"The hub did not deliver dataset {spec.name}: {error}",
            hint="Check the name and the network, or use a local file.",
        ) from error


def _text(spec: HubCorpusSpec, row: dict[str, object]) -> str:
    text = row.get(spec.column)
    if not isinstance(text, str):
        raise CorpusUnreadable(
            f"Dataset {spec.name} has no text in column {spec.column!r}; "
            f"there is {', '.join(row)}.",
            hint="Name the column that holds the text.",
        )
    return text

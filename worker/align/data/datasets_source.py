"""Splits of the hub, or of a folder that the ``datasets`` library reads or has saved."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from core.domain.alignment import HubPreferences
from core.errors import CorpusUnreadable, NotFound
from worker.hub import hub_errors

_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves, of several splits or one


def open_split(source: HubPreferences, split: str) -> Iterable[object]:
    """Rows of one split, in order; anything that is a folder of this machine is read there.

    Raises:
        NotFound: the hub has no such dataset, or the folder holds no data.
        DownloadFailed, ModelMissing, Invalid: the hub cannot be reached, or refuses.
        CorpusUnreadable: there is no such split or configuration, or it cannot be read.
    """
    import datasets  # slow to import, and most sources are files

    folder = Path(source.name).expanduser()
    try:
        if any((folder / name).is_file() for name in _SAVED):
            return _saved_split(datasets.load_from_disk(str(folder)), source, split)
        with hub_errors(source.name):
            found: Iterable[object] = datasets.load_dataset(
                str(folder) if folder.is_dir() else source.name,
                source.config,
                split=split,
                revision=source.revision,
            )
            return found
    except FileNotFoundError as error:  # DatasetNotFoundError and DataFilesNotFoundError are
        raise NotFound(
            f"There is no dataset {source.name}: {_first_line(error)}",
            hint="Write owner/name as on the hub, or a folder of the worker's machine. A private "
            "or gated dataset needs: hf auth login",
        ) from error
    except (ValueError, datasets.exceptions.DatasetsError) as error:
        raise CorpusUnreadable(
            f"{source.name} has no split {split!r} that can be read: {_first_line(error)}",
            hint="Look at the dataset's page for its configurations and splits.",
        ) from error


def _saved_split(
    found: Mapping[str, Iterable[object]] | Iterable[object], source: HubPreferences, split: str
) -> Iterable[object]:
    if isinstance(found, Mapping):
        if split not in found:
            raise CorpusUnreadable(
                f"{source.name} has no split {split!r}.",
                hint=f"It holds {', '.join(map(str, found))}.",
            )
        return found[split]
    if source.eval_split is not None:
        raise CorpusUnreadable(
            f"{source.name} was saved as one dataset, without splits.",
            hint="Leave the held-out split empty; a share of the prompts is held out.",
        )
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]

"""Deleting a harvest; one of 26 SAEs with 16,384 features takes about a minute."""

import logging
import threading

from app.services.features import catalog
from core.db.session import SessionScope
from core.errors import SparsightError

PATIENCE_SECONDS = 2.0

logger = logging.getLogger(__name__)


def delete_soon(
    scope: SessionScope, harvest_id: int, *, patience: float = PATIENCE_SECONDS
) -> bool:
    """Deletes a harvest; goes on beside the caller when that takes longer than ``patience``.

    It is gone whole at the end, or still there whole if this process ends before.

    Returns:
        True when it is deleted, False while the deletion goes on.

    Raises:
        NotFound: no such harvest.
    """
    with scope() as session:
        catalog.get_harvest(session, harvest_id)
    beside = threading.Thread(target=_delete, args=(scope, harvest_id), daemon=True)
    beside.start()
    beside.join(patience)
    return not beside.is_alive()


def _delete(scope: SessionScope, harvest_id: int) -> None:
    try:
        with scope() as session:
            catalog.delete_harvest(session, harvest_id)
    except SparsightError as error:  # somebody else deleted it, or the database stopped
        logger.warning("Harvest %d was not deleted: %s", harvest_id, error.message)

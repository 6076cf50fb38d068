"""Raw answers by what decides them, and the ledger of what was asked and what it cost."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from core.db.base import plain_table
from core.db.copy import copy_rows
from core.db.models.explanation import LlmAnswer, LlmSpending
from core.domain.llm import Purpose
from core.domain.views_explain import Spending
from core.llm.ledger import LedgerRow

_LAST = 500
_LEDGER = plain_table(LlmSpending)
_COLUMNS = (
    *("job_id", "endpoint_id", "purpose", "item", "model"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "estimated"),
    *("attempts", "seconds", "cost", "price_version", "code", "request_id", "from_cache"),
)
_ARRAYS = [func.unnest(bindparam(name, type_=ARRAY(Text))) for name in ("keys", "texts")]
_GET = select(LlmAnswer.key, LlmAnswer.reply).where(
    LlmAnswer.key == any_(bindparam("keys", type_=ARRAY(Text)))
)
_PUT = (
    upsert(plain_table(LlmAnswer))
    .from_select(["key", "reply"], select(*_ARRAYS))
    .on_conflict_do_nothing()
)


def get_replies(session: Session, keys: Sequence[str]) -> dict[str, str]:
    """The stored texts of these keys; keys without one are absent."""
    rows = session.connection().execute(_GET, {"keys": list(keys)})
    return {row.key: row.reply for row in rows}


def put_replies(session: Session, replies: Mapping[str, str]) -> None:
    """Keep texts; a key that is there already keeps its first text."""
    if replies:
        columns = {"keys": list(replies), "texts": list(replies.values())}
        session.connection().execute(_PUT, columns)


def add_rows(
    session: Session,
    rows: Iterable[tuple[int | None, LedgerRow]],
    *,
    job_id: int | None,
) -> None:
    """Add rows to the ledger, each with the endpoint that was asked."""
    values = [(job_id, endpoint_id, *_values(row)) for endpoint_id, row in rows]
    if values:
        copy_rows(session, _LEDGER, columns=_COLUMNS, rows=values)


def spending_of(session: Session, job_ids: Sequence[int]) -> dict[int, Spending]:
    """What each job's requests used, over all its attempts; jobs that asked nothing are absent."""
    sent = ~LlmSpending.from_cache
    query = (
        select(
            LlmSpending.job_id,
            func.count(),
            func.count().filter(LlmSpending.from_cache),
            func.count().filter(LlmSpending.code.is_not(None)),
            func.coalesce(func.sum(LlmSpending.attempts), 0),
            func.coalesce(func.sum(LlmSpending.prompt_tokens).filter(sent), 0),
            func.coalesce(func.sum(LlmSpending.completion_tokens).filter(sent), 0),
            func.sum(LlmSpending.cost).filter(sent),
        )
        .where(LlmSpending.job_id.in_(list(job_ids)))
        .group_by(LlmSpending.job_id)
    )
    return {
        job_id: Spending(
            requests=n,
            from_cache=cached,
            failed=failed,
            attempts=int(attempts),
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
            cost=float(cost) if cost is not None else 0.0 if n == cached else None,
        )
        for job_id, n, cached, failed, attempts, prompt, completion, cost in session.execute(query)
        if job_id is not None
    }


def mean_seconds(session: Session, endpoint_id: int) -> float | None:
    """How long an endpoint's last answers took on average; None when it has answered nothing."""
    last = (
        select(LlmSpending.seconds)
        .where(
            LlmSpending.endpoint_id == endpoint_id,
            ~LlmSpending.from_cache,
            LlmSpending.code.is_(None),
            LlmSpending.purpose != Purpose.PROBE.value,
        )
        .order_by(LlmSpending.id.desc())
        .limit(_LAST)
        .subquery()
    )
    mean = session.execute(select(func.avg(last.c.seconds))).scalar_one()
    return None if mean is None else float(mean)


def _values(row: LedgerRow) -> tuple[object, ...]:
    used = row.usage
    return (
        *(row.purpose.value, row.item, row.model.replace("\x00", "")),
        *(used.prompt, used.cached, used.completion, used.reasoning, used.estimated),
        *(row.attempts, row.seconds, row.cost, row.price_version),
        *(None if row.code is None else row.code.value, row.request_id.replace("\x00", "")),
        row.from_cache,
    )

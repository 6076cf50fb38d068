"""A session commits once, at its end, or not at all; failures of the machine have names."""

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from core.db.repositories import catalog
from core.db.session import make_engine, session_scope
from core.errors import DatabaseUnavailable, DiskFull, Invalid, NotFound
from tests.support.builders import save_sample_model


def test_a_block_that_ends_well_is_committed(session_scope):
    with session_scope() as session:
        save_sample_model(session)
    with session_scope() as session:
        assert len(catalog.list_models(session)) == 1


def test_a_block_that_fails_leaves_nothing(session_scope):
    with pytest.raises(NotFound), session_scope() as session:
        catalog.get_sae(session, model_id=save_and_miss(session), sae_id="nothing")
    with session_scope() as session:
        assert catalog.list_models(session) == ()


def save_and_miss(session):
    """Write a model, and name one that is not there."""
    save_sample_model(session)
    return "nothing"


def test_a_server_that_is_gone_is_named():
    scope = session_scope(make_engine("postgresql://ann:secret@127.0.0.1:1/nothing"))
    with pytest.raises(DatabaseUnavailable, match="does not answer") as caught, scope() as session:
        session.execute(text("SELECT 1"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrapped", [False, True], ids=["from a COPY", "from a query"])
def test_a_full_disk_is_named(engine, wrapped):
    full = psycopg.errors.DiskFull("could not extend file")
    error = OperationalError("INSERT", {}, full) if wrapped else full
    with pytest.raises(DiskFull, match="nothing of this step was stored"), session_scope(engine)():
        raise error


@pytest.mark.parametrize(
    ("query", "value", "message"),
    [
        ("SELECT CAST(:value AS jsonb)", '"\\u0000"', "NUL"),
        ("SELECT CAST(:value AS jsonb)", '"\\ud800"', "surrogate"),
        ("SELECT CAST(:value AS text)", "a\0b", "NUL"),
        ("SELECT CAST(:value AS bigint)", 10**30, "too large"),
    ],
)
def test_what_no_column_holds_is_the_callers_to_mend(engine, query, value, message):
    with pytest.raises(Invalid, match=message), session_scope(engine)() as session:
        session.execute(text(query), {"value": value})


def test_a_fault_of_the_program_keeps_its_own_error(engine):
    with pytest.raises(ProgrammingError), session_scope(engine)() as session:
        session.execute(text("SELECT nothing FROM nowhere"))

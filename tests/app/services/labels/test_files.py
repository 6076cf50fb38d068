"""Labels go out as files and come back the same; every row that is refused says why."""

import io
import json

import pytest

from app.services.features.export import ExportFormat
from app.services.labels import files, labels
from app.services.labels.files import RowFault, form_of
from core.db.session import session_scope
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, Existing, LabelQuery
from core.errors import Invalid
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.database import empty
from tests.support.explained import HOSTILE_TEXT

SAE = f"{MODEL_ID}/{SAE_ID}"
FORMS = (ExportFormat.JSONL, ExportFormat.CSV)


@pytest.fixture
def scope(engine):
    """Transactions that really commit, over a sample."""
    opened = session_scope(engine)
    with opened() as session:
        publish_sample(session)
    yield opened
    empty(engine)


def save(scope, index: int, **text) -> None:
    with scope() as session:
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)
        labels.save(session, feature, version=None, **text)


def exported(scope, form=ExportFormat.JSONL, **query) -> bytes:
    return b"".join(files.export_labels(scope, LabelQuery(**query), form))


def put_in(scope, content: bytes, form=ExportFormat.JSONL, **more):
    with scope() as session:
        return files.import_labels(session, io.BytesIO(content), form, **more)


def forget(scope, engine) -> None:
    empty(engine)
    with scope() as session:
        publish_sample(session)


@pytest.mark.parametrize("form", FORMS)
def test_labels_come_back_exactly_as_they_went_out(scope, engine, form):
    save(
        scope, 1, name='a, "b"; =1+1', note='two\nlines, "quoted"', tags=["x", "语气"], author="安"
    )
    save(scope, 2, name=HOSTILE_TEXT[:100], note=HOSTILE_TEXT)
    save(scope, 3, name="", tags=["only-tags"])
    save(scope, 11, name="'", note="[1]", tags=["1"])
    before = exported(scope, form)
    forget(scope, engine)
    report = put_in(scope, before, form)
    assert (report.n_rows, report.n_new, report.rejected) == (4, 4, ())
    assert exported(scope, form) == before


@pytest.mark.parametrize("form", FORMS)
def test_a_dry_run_tells_the_same_and_writes_nothing(scope, engine, form):
    save(scope, 1, name="one")
    save(scope, 2, name="two")
    content = exported(scope, form)
    forget(scope, engine)
    save(scope, 2, name="other")
    told = put_in(scope, content, form, dry_run=True)
    assert (told.n_new, [f.index for f in told.kept], told.dry_run) == (1, [2], True)
    assert [json.loads(line)["name"] for line in exported(scope).splitlines()] == ["other"]
    done = put_in(scope, content, form)
    assert (done.n_new, done.kept) == (told.n_new, told.kept)


def test_another_label_is_kept_or_replaced_and_stays_in_the_history(scope):
    save(scope, 1, name="one", tags=["mine"])
    row = json.dumps({"feature": f"{SAE}/1", "name": "uno", "author": "Eva"}).encode()
    assert put_in(scope, row).kept == (FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=1),)
    report = put_in(scope, row, existing=Existing.REPLACE)
    assert (report.n_replaced, report.n_written) == (1, 1)
    assert put_in(scope, row).n_same == 1
    with scope() as session:
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=1)
        new, old = labels.history(session, feature)
    assert (new.kind, new.text.name, new.author) == (ChangeKind.IMPORT, "uno", "Eva")
    assert (old.text.name, old.text.tags) == ("one", ("mine",))


def test_every_refused_row_is_told_with_its_line_and_reason(scope):
    rows = [
        b"\xef\xbb\xbf" + json.dumps({"feature": f"{SAE}/1", "name": "good"}).encode(),
        b"{not json",
        b"[1]",
        b'{"feature": "\xff"}',
        b'{"name": "no feature"}',
        json.dumps({"feature": "m/1-x/3", "name": "x"}).encode(),
        json.dumps({"feature": f"{SAE}/24", "name": "x"}).encode(),
        json.dumps({"feature": f"{SAE}/2", "name": "x" * 121}).encode(),
        json.dumps({"feature": f"{SAE}/3", "name": "x", "tags": [1]}).encode(),
        json.dumps({"feature": f"{SAE}/4", "name": "x", "tags": ["a/b"]}).encode(),
        json.dumps({"feature": f"{SAE}/5", "name": 5}).encode(),
        json.dumps({"feature": f"{SAE}/6", "name": "x", "changed_at": "yesterday"}).encode(),
        json.dumps({"feature": f"{SAE}/7", "name": "\u200b"}).encode(),
        b"",
        json.dumps({"feature": f"{SAE}/1", "name": "again"}).encode(),
    ]
    report = put_in(scope, b"\n".join(rows))
    assert [(row.line, row.fault) for row in report.rejected] == [
        (2, RowFault.NOT_JSON),
        (3, RowFault.NOT_AN_OBJECT),
        (4, RowFault.ENCODING),
        (5, RowFault.FEATURE),
        (6, RowFault.UNKNOWN_SAE),
        (7, RowFault.NO_SUCH_FEATURE),
        (8, RowFault.TEXT),
        (9, RowFault.TEXT),
        (10, RowFault.TEXT),
        (11, RowFault.TEXT),
        (12, RowFault.TIME),
        (13, RowFault.EMPTY),
        (15, RowFault.DUPLICATE),
    ]
    assert all(row.message for row in report.rejected)
    assert (report.n_rows, report.n_new) == (14, 1)


def test_csv_of_a_table_program_is_read(scope):
    content = (
        "\ufefffeature,name,colour,tags\r\n"
        f'{SAE}/1,"a, b",red,"x, y"\r\n'
        f"{SAE}/2,two\r\n"
        f"{SAE}/3,three,red,,too,many,cells\r\n"
    ).encode()
    report = put_in(scope, content, ExportFormat.CSV)
    assert (report.n_new, report.ignored) == (2, ("colour",))
    assert [(row.line, row.fault) for row in report.rejected] == [(4, RowFault.COLUMNS)]
    first = json.loads(exported(scope).splitlines()[0])
    assert (first["name"], first["tags"], first["author"]) == ("a, b", ["x", "y"], "somebody")


@pytest.mark.parametrize(
    "content",
    [b"", b"name,tags\r\nx,y\r\n", b'feature,name\r\n"open', b"feature,name\r\n\xff,x\r\n"],
)
def test_a_file_that_is_no_such_csv_is_refused_whole(scope, content):
    with pytest.raises(Invalid):
        put_in(scope, content, ExportFormat.CSV)


def test_a_file_is_told_by_its_name():
    assert form_of("Labels.JSONL") is ExportFormat.JSONL
    assert form_of("labels.csv") is ExportFormat.CSV
    with pytest.raises(Invalid, match="neither"):
        form_of("labels.xlsx")


def test_an_export_can_be_of_one_tag_or_sae(scope):
    save(scope, 1, name="one", tags=["x"])
    save(scope, 2, name="two")
    assert len(exported(scope, tag="x").splitlines()) == 1
    assert exported(scope, sae_id="none") == b""
    assert exported(scope, ExportFormat.CSV, tag="none") == (
        b"feature,name,note,tags,author,changed_at\r\n"
    )

"""Pages of labels and tags: written in place, lost by nobody, filtered by, tagged in bulk."""

import re

import pytest

from app.services.labels import labels, tags
from core.db.repositories import labels as label_rows
from core.domain.explanation import ExplanationMethod
from core.domain.ids import FeatureId
from core.domain.label import LabelText
from tests.support.explained import HOSTILE_TEXT, add_explanation

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}


def write(scope, feature: FeatureId, **text) -> None:
    with scope() as session:
        labels.save(session, feature, version=None, **text)


def said(scope, feature: FeatureId):
    with scope() as session:
        return labels.get_label(session, feature)


@pytest.fixture
def feature(sample, scope) -> FeatureId:
    """A living feature without a label."""
    with scope() as session:
        label = labels.get_label(session, sample.living)
        if not label.text.empty:
            labels.delete(session, sample.living, version=None)
    living: FeatureId = sample.living
    return living


def value_of(pattern: str, page: str) -> str:
    """What the pattern's group is on the page."""
    found = re.search(pattern, page)
    assert found, pattern
    return found[1]


def form(scope, feature, **fields) -> dict[str, str]:
    return {"version": str(said(scope, feature).version), "author": "Ann", **fields}


def test_a_label_is_written_without_scripts(client, scope, feature):
    page = client.get(f"/{feature}/label/edit").text
    assert 'name="version"' in page
    data = form(scope, feature, name="rivers", tags="Water, 语气", note="one\r\ntwo")
    answer = client.post(f"/{feature}/label", data=data, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/{feature}")
    found = said(scope, feature)
    assert (found.text.name, found.text.tags, found.author) == ("rivers", ("water", "语气"), "Ann")
    page = client.get(f"/{feature}").text
    assert re.search(r'<span class="named"><bdi class="said">rivers', page)
    assert f'/{feature.model_id}/{feature.sae_id}?tags=%E8%AF%AD%E6%B0%94"' in page
    assert "<title>" in page
    assert "rivers" in page.partition("</title>")[0]


def test_a_label_is_written_in_place_and_the_name_stands_in_the_heading(client, scope, feature):
    part = client.get(f"/{feature}/label/edit", headers=PARTIAL).text
    assert part.lstrip().startswith("<form")
    data = form(scope, feature, name="lakes")
    answer = client.post(f"/{feature}/label", data=data, headers=PARTIAL).text
    assert 'id="feature-label"' in answer
    assert '<hx-partial hx-target="#headline"' in answer
    assert "lakes" in answer


def test_who_comes_late_sees_both_and_loses_nothing(client, scope, feature):
    data = form(scope, feature, name="mine", tags="my-tag", note="my note")
    write(scope, feature, name="theirs", tags=["their-tag"], author="Bo")
    answer = client.post(f"/{feature}/label", data=data, headers=PARTIAL)
    assert answer.status_code == 409
    for text in ("theirs", "their-tag", "Bo", "mine", "my-tag", "my note"):
        assert text in answer.text
    again = data | {"version": value_of(r'name="version" value="(\d+)"', answer.text)}
    assert client.post(f"/{feature}/label", data=again, follow_redirects=False).status_code == 303
    assert said(scope, feature).text.name == "mine"


def test_what_has_to_be_mended_is_told_at_its_field(client, scope, feature):
    data = form(scope, feature, name="x" * 121, tags="a/b, good", note="kept")
    answer = client.post(f"/{feature}/label", data=data)
    assert answer.status_code == 422
    assert 'id="problem-name"' in answer.text
    assert 'id="problem-tags"' in answer.text
    assert "a/b, good" in answer.text
    assert "kept" in answer.text
    assert said(scope, feature).text.empty


def test_any_version_can_be_brought_back_and_a_label_deleted(client, scope, feature):
    write(scope, feature, name="first", note="a note", tags=["t"])
    write(scope, feature, name="second")
    page = client.get(f"/{feature}/label").text
    assert page.index("second") < page.index("first")
    data = form(scope, feature, name="first", note="a note", tags="t")
    client.post(f"/{feature}/label", data=data)
    assert said(scope, feature).text.note == "a note"
    assert "Delete this label?" in client.get(f"/{feature}/label/delete").text
    version = {"version": str(said(scope, feature).version)}
    client.post(f"/{feature}/label/delete", data=version)
    assert said(scope, feature).text.empty
    assert "first" in client.get(f"/{feature}/label").text


def test_a_deletion_of_what_changed_meanwhile_is_refused(client, scope, feature):
    write(scope, feature, name="first")
    answer = client.post(f"/{feature}/label/delete", data={"version": "0"})
    assert answer.status_code == 409
    assert said(scope, feature).text.name == "first"


def test_hostile_labels_are_text_everywhere(client, scope, feature):
    write(scope, feature, name=HOSTILE_TEXT[:110], note=HOSTILE_TEXT, tags=["t"], author="<b>")
    base = f"/{feature.model_id}/{feature.sae_id}"
    for path in (f"/{feature}", f"/{feature}/label", f"/{feature}/label/edit", base, "/tags/t"):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "\u202e" not in page
        assert "\u200b" not in page


def test_a_list_shows_labels_and_is_filtered_by_them(client, scope, feature):
    write(scope, feature, name="polite words", tags=["tone"])
    base = f"/{feature.model_id}/{feature.sae_id}"
    for query in ("tags=tone", "labelled=yes", "words=polite", "words=POLITE&tags=tone"):
        page = client.get(f"{base}?{query}").text
        assert "polite words" in page
        assert page.count('name="feature"') == 1
    assert "No feature matches" in client.get(f"{base}?tags=never").text
    assert "polite words" not in client.get(f"{base}?labelled=no").text
    wrong = client.get(f"{base}?tags=a/b")
    assert wrong.status_code == 422
    assert 'id="problem-tags"' in wrong.text
    lines = client.get(f"{base}.csv?tags=tone").text.splitlines()
    assert "polite words" in lines[1]


def test_ticked_features_are_tagged_and_the_list_says_how_many(client, scope, feature):
    base = f"/{feature.model_id}/{feature.sae_id}"
    ids = [f"{base}/{index}".strip("/") for index in (1, 2)]
    data = {
        "feature": [*ids, "m/other-sae/3", "nonsense"],
        "tags": "Bulk",
        "back": f"{base}?sort=max",
    }
    answer = client.post(f"{base}/tag?do=add", data=data, follow_redirects=False)
    assert answer.headers["location"] == f"{base}?sort=max&tagged=2"
    assert "2 features changed" in client.get(answer.headers["location"]).text
    part = client.post(f"{base}/tag?do=add", data=data, headers=PARTIAL).text
    assert part.lstrip().startswith("<section")
    assert "0 features changed" in part
    client.post(f"{base}/tag?do=remove", data=data)
    with scope() as session:
        assert "bulk" not in {card.name for card in tags.list_tags(session)}


def test_tagging_never_leaves_the_site(client, feature):
    base = f"/{feature.model_id}/{feature.sae_id}"
    data = {"feature": str(feature), "tags": "x", "back": "https://evil.example/"}
    answer = client.post(f"{base}/tag?do=add", data=data, follow_redirects=False)
    assert answer.headers["location"].startswith(base)


def test_nothing_ticked_is_said(client, feature):
    base = f"/{feature.model_id}/{feature.sae_id}"
    assert client.post(f"{base}/tag?do=add", data={"tags": "x"}).status_code == 422


def test_all_that_match_are_tagged_after_a_look_at_their_number(client, scope, feature):
    base = f"/{feature.model_id}/{feature.sae_id}"
    page = client.get(f"{base}/tag?alive=dead&sort=max&after=3").text
    n = int(value_of(r'name="n" value="(\d+)"', page))
    assert n > 0
    query = value_of(r'name="query" value="([^"]*)"', page).replace("&amp;", "&")
    data = {"query": query, "n": str(n), "tags": "silent", "do": "add", "author": "Ann"}
    late = client.post(f"{base}/tag/all", data=data | {"n": "1"})
    assert late.status_code == 409
    assert "Nothing was tagged" in late.text
    wrong = client.post(f"{base}/tag/all", data=data | {"tags": ""})
    assert wrong.status_code == 422
    answer = client.post(f"{base}/tag/all", data=data, follow_redirects=False)
    assert answer.headers["location"].endswith(f"tagged={n}")
    with scope() as session:
        assert tags.get_tag(session, "silent").n_features == n


def test_tags_are_listed_renamed_merged_and_deleted(client, scope, feature):
    write(scope, feature, name="x", tags=["one", "two"])
    page = client.get("/tags").text
    assert ">one</bdi>" in page
    assert client.get("/labels/names").text.count("<option") >= 2
    shown = client.get("/tags/one").text
    assert f"/align/new?tag=one&amp;sae={feature.model_id}/{feature.sae_id}&amp;treat=held" in shown
    taken = client.post("/tags/one/rename", data={"new": "two"})
    assert taken.status_code == 409
    assert "already" in taken.text
    assert client.post("/tags/one/rename", data={"new": "!"}).status_code == 422
    client.post("/tags/one/rename", data={"new": "三 uno"})
    assert client.get("/tags/三-uno").status_code == 200
    client.post("/tags/三-uno/merge", data={"into": "two"})
    assert said(scope, feature).text.tags == ("two",)
    assert client.post("/tags/two/merge", data={"into": "two"}).status_code == 422
    client.post("/tags/two/delete")
    assert said(scope, feature).text.tags == ()
    assert client.get("/tags/two").status_code == 404
    write(scope, feature, name="x", tags=["names", "import"])
    assert client.get("/tags/names").status_code == 200


def test_labels_go_out_and_come_in_as_files(client, scope, feature):
    write(scope, feature, name="rivers", tags=["water"])
    exported = client.get("/labels.csv")
    assert exported.headers["content-disposition"].endswith('"labels.csv"')
    write(scope, feature, name="lakes")
    files = {"file": ("labels.csv", exported.content)}
    asked = {"existing": "replace", "dry_run": "true"}
    told = client.post("/labels/import", files=files, data=asked).text
    assert "dry run: nothing was written" in told
    assert said(scope, feature).text.name == "lakes"
    client.post("/labels/import", files=files, data={"existing": "replace"})
    assert said(scope, feature).text.name == "rivers"
    bad = {"file": ("labels.jsonl", b'{"feature": "<b>"}\n')}
    page = client.post("/labels/import", files=bad).text
    assert "&lt;b&gt;" in page
    assert client.post("/labels/import", files={"file": ("x.pdf", b"1")}).status_code == 422
    assert client.post("/labels/import", data={"existing": "keep"}).status_code == 422


def test_features_of_a_tag_fill_the_form_of_a_run(client, scope, feature):
    write(scope, feature, name="x", tags=["steer"])
    key = f"{feature.model_id}/{feature.sae_id}"
    page = client.get(f"/align/new?tag=steer&sae={key}&treat=held").text
    held = value_of(r'name="constraint\.0\.held"[^>]*>([^<]*)<', page)
    assert held.strip() == str(feature.index)
    assert "&#34;tag&#34;:&#34;steer&#34;" in page
    gone = client.get(f"/align/new?tag=gone&sae={key}&treat=free").text
    assert "bears the tag" in gone


def test_a_tag_s_page_says_what_its_features_are_as_lists_do(client, scope, feature):
    write(scope, feature, name="", tags=["unnamed"])
    gone = FeatureId(model_id="gone", sae_id="gone-sae", index=3)
    with scope() as session:
        text = LabelText(name="elsewhere", tags=("unnamed",))
        label_rows.put(session, gone, text, author="", version=None)
    page = client.get("/tags/unnamed").text
    assert '<span title="strongest on">' in page
    with scope() as session:
        add_explanation(
            session, feature, text="rivers <b>and</b> lakes", method=ExplanationMethod.HUMAN
        )
    page = client.get("/tags/unnamed").text
    assert "rivers &lt;b&gt;and&lt;/b&gt; lakes" in page
    assert "no name" not in page
    write(scope, feature, name="water", tags=["unnamed"])
    page = client.get("/tags/unnamed").text
    assert page.index("water</bdi>") < page.index("rivers &lt;b&gt;")
    assert "elsewhere" in page


def test_the_name_of_the_author_is_kept_in_any_script(client, scope, feature):
    data = form(scope, feature, name="x") | {"author": "安娜"}
    client.post(f"/{feature}/label", data=data)
    assert 'value="安娜"' in client.get(f"/{feature}/label/edit").text

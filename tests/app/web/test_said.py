"""English sentences of core and worker stand on Chinese pages in Chinese, values as they are."""

import re

import pytest
from pydantic import JsonValue

from app.services.problems import FieldProblem
from app.web import i18n, render
from app.web.phrases import PLACEHOLDER
from app.web.said import log_text, said, told
from app.web.said_texts import CONTEXT
from app.web.words import error_word
from core.db.repositories import attempts
from core.domain.job import JobFailure
from core.domain.job_lines import sentence
from core.jobs import control
from core.jobs.recovery import Crash
from tests.support.jobs import job_spec

OWNER = "here:1:1"


@pytest.fixture
def chinese():
    token = i18n.current.set("zh_CN")
    yield
    i18n.current.reset(token)


def shown(template: str, **values: object) -> str:
    """What a template of ours makes of values."""
    return render.environment().from_string(template).render(values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The disk is full.", "磁盘已满。"),
        ("There is no file /data/100%.jsonl.", "没有文件 /data/100%.jsonl。"),
        ("There is no job 12. See the list of jobs.", "没有任务 12。请查看任务列表。"),
        ("There is no file a. b.jsonl. Check the path.", "没有文件 a. b.jsonl。请检查路径。"),
        ("Job 3 is running.", "任务 3 的状态是“运行中”。"),
        ("A user turn follows a user turn.", "用户的发言后面是用户的发言。"),
        ("Memory ran out while running the model.", "运行模型时内存用完了。"),
        (
            "gpt answers nothing more (timeout): The server took too long.",
            "gpt 不再回答（timeout）：服务器用时太长。",
        ),
        ("Input should be greater than or equal to 1.", "请写不小于 1 的数。"),
        ("Each context starts with the BOS token <bos>.", "每个语境以 BOS 词元 <bos> 开头。"),
        ("Explain features of m/s", "解释 m/s 的特征"),
        ("Something that nobody of us says.", "Something that nobody of us says."),
        ("", ""),
    ],
)
def test_a_sentence_is_said_in_the_readers_language(chinese, text, words):
    assert said(text) == words


def test_every_sentence_of_the_catalogue_is_recognised_with_its_values(chinese):
    """Of two templates that fit one text, both must say the same."""
    for template, words in i18n.entries("zh_CN", CONTEXT):
        values = {name: f"‹{place}›" for place, name in enumerate(PLACEHOLDER.findall(template))}
        assert said(template % values) == words % values, template


def test_every_way_in_which_an_attempt_dies_is_said(chinese):
    for crash in Crash:
        for text in (crash.value.message, crash.value.hint):
            assert re.search("[\u4e00-\u9fff]", said(text)), text


def test_english_pages_say_what_was_said_and_speak_of_fields_plainly():
    assert said("There is no job 12.") == "There is no job 12."
    assert said("Field required.") == "This field is needed."


def test_a_problem_is_one_text_and_says_nothing_twice(chinese):
    needed = FieldProblem(path="k", message="Field required.", hint="This field is needed.")
    assert told(needed) == "此项必填。"
    gone = FieldProblem(path="p", message="There is no file x.", hint="Check the path.")
    assert told(gone) == "没有文件 x。请检查路径。"


def test_markup_in_a_value_stays_text(chinese):
    text = "There is no folder <img src=x onerror=alert(1)>."
    assert shown("{{ text|said }}", text=text) == (
        "没有文件夹 &lt;img src=x onerror=alert(1)&gt;。"
    )


def test_a_value_that_looks_like_a_placeholder_is_no_placeholder(chinese):
    assert said("There is no folder %(path)s %d.") == "没有文件夹 %(path)s %d。"


def test_a_long_text_is_looked_at_no_further(chinese):
    text = "There is no folder " + "x. " * 4_000
    assert said(text) == text.strip()


def test_a_line_of_a_known_kind_is_told_in_the_readers_language(chinese):
    values: dict[str, JsonValue] = {"harvest_id": 1200}
    found = log_text(sentence("harvest_known", values), "harvest_known", values)
    assert found == "采集 1,200 与本次完全相同，直接使用。"


def test_a_code_in_a_line_is_told_by_its_headline(chinese):
    kind = "attempt_ended_early"
    values: dict[str, JsonValue] = {"attempt": 2, "code": "worker_lost"}
    found = log_text(sentence(kind, values), kind, values)
    assert error_word("worker_lost") in found


@pytest.mark.parametrize(
    ("kind", "values"), [(None, {}), ("of_another_version", {"n": 1}), ("harvest_known", {})]
)
def test_free_text_and_lines_of_other_versions_stay_as_they_are(chinese, kind, values):
    assert log_text("plain", kind, values) == "plain"


def test_a_failed_item_in_a_log_is_told_in_the_readers_language(chinese):
    values: dict[str, JsonValue] = {"item": "17", "message": "The server took too long."}
    assert sentence("item_failed", values) == "17: The server took too long."
    assert log_text("", "item_failed", values) == "17：服务器用时太长。"


def test_a_failing_form_is_told_in_chinese(client):
    fields = {"preset": "own", "model_id": "My Model", "model.kind": "folder"}
    fields |= {"model.location": "/no/<where>", "device": "tpu"}
    page = client.post("/jobs", data=fields, params={"lang": "zh_CN"})
    assert page.status_code == 422
    assert "My Model&#39; 不是模型 id。请使用 1–80 个小写字母" in page.text
    assert "没有文件夹 /no/&lt;where&gt;。请给出本机上的文件夹。" in page.text
    assert "没有设备 &#39;tpu&#39;。" in page.text


def test_a_failed_job_is_told_in_chinese(client, scope):
    with scope() as session:
        job_id = control.submit(session, job_spec("work"))
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner=OWNER)
        assert claim is not None
        failure = JobFailure(
            code="model_missing",
            message="The Hugging Face hub has no model no/such.",
            hint="Check the spelling; for a private one log in first: hf auth login",
        )
        attempts.fail(session, claim, failure)
    page = client.get(f"/jobs/{job_id}", params={"lang": "zh_CN"}).text
    assert "<p>Hugging Face Hub 上没有模型 no/such。</p>" in page
    assert "请检查拼写；私有仓库请先登录：hf auth login" in page
    same = client.get(f"/api/v1/jobs/{job_id}", headers={"Accept-Language": "zh-CN"}).json()
    assert same["job"]["error"]["message"] == "The Hugging Face hub has no model no/such."


def test_what_is_not_there_is_told_in_chinese_alone(client):
    page = client.get("/jobs/987654", params={"lang": "zh_CN"})
    assert page.status_code == 404
    assert "没有任务 987654。" in page.text
    assert "请查看任务列表。" in page.text
    assert '<p lang="en">' not in page.text
    toast = client.get(
        "/jobs/987654",
        params={"lang": "zh_CN"},
        headers={"HX-Request": "true", "HX-Request-Type": "partial"},
    )
    assert "没有任务 987654。请查看任务列表。" in toast.text

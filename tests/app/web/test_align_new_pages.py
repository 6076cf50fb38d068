"""A run is set up on its page: filled, checked, written as a file, submitted exactly."""

import html
import json
import re
import tomllib

import pytest
from pydantic import JsonValue

from app.services.align import launch as align_launch
from app.services.align import offers as align_offers
from app.services.explain import explanations
from app.services.labels import tags
from app.web import align_features, align_form
from core.db.repositories import attempts, jobs
from core.domain.align_check import CheckItem, CheckReport, Estimate
from core.domain.align_preset import list_align_presets, load_align_preset
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.ids import FeatureId
from core.interchange.preferences import write_preferences
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.pairs import some_pairs

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


def offers_of(scope):
    with scope() as session:
        return align_offers.list_offers(session)


def fields_of(text):
    """What a browser would send of a page's launch form."""
    found = {}
    form = text.split('id="launch-form"')[1].split("</form>")[0]
    for tag in re.findall(r"<input [^>]*>", form):
        name = re.search(r'name="([^"]+)"', tag)
        kind = re.search(r'type="(\w+)"', tag)
        if name is None or (kind and kind[1] in {"radio", "checkbox"} and " checked" not in tag):
            continue
        value = re.search(r'value="([^"]*)"', tag)
        found[name[1]] = html.unescape(value[1]) if value else ""
    for name, body in re.findall(
        r'<select[^>]* name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL
    ):
        options = re.findall(r'value="([^"]*)"( selected)?', body)
        found[name] = next((value for value, selected in options if selected), options[0][0])
    areas = re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL)
    return found | dict(areas)


@pytest.fixture
def pairs_file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_preferences(some_pairs(12, 3), path)
    return path


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 300}'
    )
    return folder


@pytest.fixture
def sae_folder(tmp_path):
    folder = tmp_path / "sae"
    folder.mkdir()
    (folder / "cfg.json").write_text(
        '{"d_in": 16, "d_sae": 32, "hook_name": "blocks.1.hook_resid_post", "architecture": "relu"}'
    )
    return folder


@pytest.fixture
def own_fields(client, sample, pairs_file, model_folder):
    """The blank form, filled in for a model and pairs on this disk."""
    fields = fields_of(client.get("/align/new?preset=own").text)
    return fields | {
        "model.kind": "folder",
        "model.location": str(model_folder),
        "model_id": "mine",
        "aligned_id": "mine-aligned",
        "data.kind": "file",
        "data.path": str(pairs_file),
        "method": "dpo",
        "device": "cpu",
    }


@pytest.mark.parametrize("name", list_align_presets())
def test_a_preset_comes_back_from_its_form_unchanged(name, scope):
    offers = offers_of(scope)
    spec = load_align_preset(name)
    form = align_form.from_spec(spec, offers, preset=name)
    assert align_launch.check_settings(form.values(offers)) == spec
    assert form.differences(offers) == ()


def test_every_preset_of_a_kind_has_its_page(client):
    for kind in ("align", "sft"):
        for preset in align_launch.presets(kind):
            page = client.get(f"/align/new?preset={preset.name}")
            assert page.status_code == 200, page.text
            assert 'aria-current="true"' in page.text


def test_every_field_has_a_sentence_of_help(client):
    text = client.get("/align/new").text
    for name in (
        "training.optimizer.learning_rate",
        "constraint.0.k",
        "lengths.max_length",
        "beta",
    ):
        place = text.index(f'name="{name}"')
        assert 'class="hint"' in text[place : place + 700], name


def test_a_run_is_submitted_with_exactly_what_the_form_says(client, scope, own_fields, pairs_file):
    answer = client.post("/align/new", data=own_fields, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    job_id = int(answer.headers["location"].rpartition("/")[2])
    with scope() as session:
        spec = AlignSpec.model_validate(jobs.get_spec(session, job_id))
    assert spec.method == "dpo"
    assert spec.data.model_dump() == {
        "kind": "file",
        "path": str(pairs_file),
        "held_out_share": 0.05,
    }
    assert spec.constraint == ()
    assert spec.training.lora is None


def test_a_fine_tuning_run_is_submitted(client, scope, own_fields, model_folder, tmp_path):
    talks = tmp_path / "talks.jsonl"
    talks.write_text('{"prompt": "Hi", "completion": "Hello."}\n' * 2)
    fields = fields_of(client.get("/align/new?kind=sft&preset=own").text) | {
        "model.kind": "folder",
        "model.location": str(model_folder),
        "model_id": "mine",
        "tuned_id": "mine-tuned",
        "data.kind": "file",
        "data.path": str(talks),
        "device": "cpu",
    }
    shown = client.post("/align/new/checks", data=fields, headers=HTMX).text
    assert "1 of 2 rows are not used" in shown
    answer = client.post("/align/new", data=fields, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    with scope() as session:
        job_id = int(answer.headers["location"].rpartition("/")[2])
        spec = SftSpec.model_validate(jobs.get_spec(session, job_id))
    assert spec.tuned_id == "mine-tuned"


def test_a_wrong_form_comes_back_with_what_was_typed_and_each_problem_at_its_field(
    client, own_fields
):
    wrong = own_fields | {
        "beta": "much",
        "data.path": "/no/such/file.jsonl",
        "aligned_id": "Not An Id",
        "training.batch_size": "0",
    }
    answer = client.post("/align/new", data=wrong)
    assert answer.status_code == 422
    for name in ("beta", "aligned_id", "training-batch_size"):
        assert f'id="problem-{name}"' in answer.text, name
    assert 'value="much"' in answer.text
    mended = own_fields | {"data.path": "/no/such/file.jsonl"}
    answer = client.post("/align/new", data=mended)
    assert answer.status_code == 422
    assert 'id="problem-data-path"' in answer.text
    assert "/no/such/file.jsonl does not exist." in answer.text


def test_checks_are_a_fragment_that_follows_the_form(client, own_fields):
    answer = client.post("/align/new/checks", data=own_fields, headers=HTMX)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "12 to train on, 3 held out." in answer.text
    assert "1 steps of 32" in answer.text
    assert "150 warm-up steps of 1" in answer.text
    assert "1 warning" in answer.text
    assert "all passed" not in answer.text
    missing = client.post("/align/new/checks", data=own_fields | {"beta": ""}, headers=HTMX)
    assert missing.status_code == 200


def test_an_sae_of_another_width_keeps_a_run_from_starting(
    client, own_fields, model_folder, sae_folder
):
    (model_folder / "config.json").write_text(
        '{"hidden_size": 24, "num_hidden_layers": 1, "vocab_size": 300}'
    )
    fields = fields_of(client.post("/align/new", data=own_fields | {"action": "add"}).text)
    fields |= {
        "method": "fpo",
        "constraint.0.sae_id": "1-mine",
        "constraint.0.source.kind": "folder",
        "constraint.0.source.location": str(sae_folder),
        "constraint.0.treat": "some",
        "constraint.0.held": "3, 99",
        "constraint.0.k": "8",
    }
    answer = client.post("/align/new", data=fields)
    assert answer.status_code == 422
    assert "The SAE reads 16 numbers a token, the model has 24." in answer.text
    (model_folder / "config.json").write_text(
        '{"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 300}'
    )
    answer = client.post("/align/new", data=fields)
    assert answer.status_code == 422
    assert 'id="problem-constraint-0-held"' in answer.text
    assert "1-mine has features 0 to 31; 99 is not one." in answer.text
    answer = client.post(
        "/align/new", data=fields | {"constraint.0.held": "3:2"}, follow_redirects=False
    )
    assert answer.status_code == 303, answer.text


def test_features_of_a_contrast_are_carried_into_the_form(client, sample):
    ids = [f"{MODEL_ID}/{SAE_ID}/{index}" for index in (3, 5)]
    address = "/align/new?treat=only&data=demo" + "".join(f"&feature={name}" for name in ids)
    fields = fields_of(client.get(address + f"&model=model:{MODEL_ID}").text)
    assert fields["start"] == f"model:{MODEL_ID}"
    assert fields["constraint.0.pick"] == f"{MODEL_ID}/{SAE_ID}"
    assert fields["constraint.0.held"] == "3, 5"
    assert fields["constraint.0.others"] == "0"
    assert fields["constraint.0.treat"] == "some"


def test_features_join_the_settings_of_an_earlier_run(client, own_fields, sample):
    fields = fields_of(client.post("/align/new", data=own_fields | {"action": "add"}).text)
    fields |= {"method": "dpo", "constraint.0.pick": f"{MODEL_ID}/{SAE_ID}", "constraint.0.k": "7"}
    offered = client.post("/align/new/config.json", data=fields)
    assert offered.status_code == 422  # the sample's SAE is not on this disk
    made = client.post("/align/new", data=own_fields, follow_redirects=False)
    job_id = made.headers["location"].rpartition("/")[2]
    address = f"/align/new?from={job_id}&treat=free&feature={MODEL_ID}/{SAE_ID}/4"
    carried = fields_of(client.get(address).text)
    assert carried["method"] == "fpo"
    assert carried["aligned_id"] == "mine-aligned"
    assert carried["constraint.0.free"] == "4"


def test_chosen_features_are_shown_with_what_they_are_about(client, scope, sample):
    with scope() as session:
        explanations.add_human(
            session,
            FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0),
            text="Apologies of the assistant",
        )
    ids = "".join(f"&feature={MODEL_ID}/{SAE_ID}/{index}" for index in range(20))
    text = client.get(f"/align/new?treat=free{ids}").text
    assert "Apologies of the assistant" in text
    assert f'href="/{MODEL_ID}/{SAE_ID}/0"' in text
    assert "and 4 more" in text


def test_a_preset_that_fits_the_model_is_chosen(client, sample):
    fields = fields_of(client.get(f"/align/new?model=model:{MODEL_ID}").text)
    assert fields["preset"] == "own"
    assert fields["aligned_id"] == f"{MODEL_ID}-aligned"
    assert fields_of(client.get("/align/new?kind=sft").text)["preset"].startswith("sft-")


def test_layers_are_picked_with_what_stands_in_the_form_kept(client, own_fields):
    fields = own_fields | {"method": "fpo", "beta": "0.7"}
    page = client.post("/align/new/layers", data=fields | {"start": f"model:{MODEL_ID}"})
    assert page.status_code == 200, page.text
    assert SAE_ID in page.text
    assert "0.750" in page.text
    assert 'name="beta" value="0.7"' in page.text
    picked = fields | {"action": "pick", "pick": f"{MODEL_ID}/{SAE_ID}"}
    back = fields_of(client.post("/align/new", data=picked).text)
    assert back["constraint.0.pick"] == f"{MODEL_ID}/{SAE_ID}"
    assert back["beta"] == "0.7"
    unpicked = back | {"action": "pick"}
    assert "constraint.0.pick" not in fields_of(client.post("/align/new", data=unpicked).text)


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_config_file_holds_the_exact_settings_and_fills_the_form(client, scope, own_fields, kind):
    fields = own_fields | {"training.optimizer.max_grad_norm": "", "training.lora.on": "true"}
    file = client.post(f"/align/new/config.{kind}", data=fields)
    assert file.status_code == 200
    assert f'filename="mine-aligned.{kind}"' in file.headers["content-disposition"]
    values = tomllib.loads(file.text) if kind == "toml" else json.loads(file.text)
    assert values["training"]["lora"]["rank"] == 16
    back = client.post("/align/new/config", files={"config": (f"run.{kind}", file.content)})
    assert back.status_code == 200, back.text
    offers = offers_of(scope)
    sent = align_form.from_post(fields_of(back.text).items(), filled={})
    spec = align_launch.check_settings(sent.values(offers))
    assert spec.training.optimizer.max_grad_norm is None
    original = align_form.from_post(fields.items(), filled={})
    assert spec == align_launch.check_settings(original.values(offers))


def test_a_file_that_is_no_config_is_told(client):
    back = client.post("/align/new/config", files={"config": ("x.toml", b"= nothing")})
    assert back.status_code == 422
    assert "x.toml is neither TOML nor JSON" in back.text
    assert client.get("/align/new/config").status_code == 200


def test_a_measurement_is_shown_when_it_has_ended(client, scope, own_fields):
    shown = client.post("/align/new/measure", data=own_fields, headers=HTMX)
    assert shown.status_code == 200, shown.text
    (number,) = re.findall(r'name="measure_job" value="(\d+)"', shown.text)
    job_id = int(number)
    with scope() as session:
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="test:1:1")
        report = CheckReport(
            passed=False,
            checks=(CheckItem(name="steps", passed=False, message="Too slow.", hint="Wait."),),
            estimate=Estimate(
                n_steps=12,
                seconds_per_step=2.0,
                seconds_reference=8.0,
                seconds_evaluations=30.0,
                seconds=62.0,
                tokens_per_second=110.0,
                peak_memory_bytes=3 * 10**9,
                memory_bytes=8 * 10**9,
                disk_bytes=5 * 10**9,
                disk_free_bytes=60 * 10**9,
                losses=(0.69, 0.68),
                device="cpu",
            ),
        )
        assert claim is not None
        result: dict[str, JsonValue] = {"passed": False, "report": report.model_dump(mode="json")}
        attempts.succeed(session, claim, result)
    fragment = client.get(f"/align/new/measure/{job_id}", headers=HTMX).text
    for words in ("1 min 2 s", "3 GB", "110 tokens/s", "Too slow.", "Wait."):
        assert words in fragment, words
    assert "hx-trigger" not in fragment
    again = client.post("/align/new/checks", data=own_fields | {"measure_job": str(job_id)})
    assert "The settings have changed since" not in again.text
    other = own_fields | {"measure_job": str(job_id), "beta": "0.9"}
    assert "The settings have changed since" in client.post("/align/new/checks", data=other).text


def test_differences_from_the_preset_are_shown(client):
    fields = fields_of(client.get("/align/new?preset=demo").text) | {"beta": "3"}
    text = client.post("/align/new/checks", data=fields, headers=HTMX).text
    assert "1 difference from the preset" in text
    assert "<code>beta</code>" in text


def test_words_and_contrasts_that_find_nothing_are_told_at_their_field(client, sample):
    ids = f"feature={MODEL_ID}/{SAE_ID}/3"
    fields = fields_of(client.get(f"/align/new?treat=held&{ids}").text)
    fields |= {"constraint.0.find.words": "nothing like it", "constraint.0.find.n": "5"}
    answer = client.post("/align/new", data=fields | {"action": "find.0.held"})
    assert answer.status_code == 422
    assert 'id="problem-constraint-0-find-words"' in answer.text


def test_a_tag_is_held_with_a_weight_and_named_in_the_settings(client, scope, sample):
    with scope() as session:
        tags.tag_features(
            session, model_id=MODEL_ID, sae_id=SAE_ID, indices=[3, 5], add=["tone"], author="Ann"
        )
    ids = f"feature={MODEL_ID}/{SAE_ID}/5&feature={MODEL_ID}/{SAE_ID}/9"
    fields = fields_of(client.get(f"/align/new?preset=demo&treat=held&{ids}").text)
    fields |= {"constraint.0.tag.name": "tone", "constraint.0.tag.weight": "2,5"}
    answer = client.post("/align/new", data=fields | {"action": "tag.0.held"})
    assert answer.status_code == 200
    found = fields_of(answer.text)
    assert found["constraint.0.held"] == "9, 3:2.5, 5:2.5"
    with scope() as session:
        offers = align_offers.list_offers(session)
    (entry,) = align_features.values(found, range(1), offers)
    assert isinstance(entry, dict)
    assert entry["tags"] == [{"tag": "tone", "treatment": "held", "features": [3, 5]}]
    freed = fields_of(client.post("/align/new", data=found | {"action": "tag.0.free"}).text)
    assert (freed["constraint.0.held"], freed["constraint.0.free"]) == ("9", "3, 5")
    assert '"free"' in freed["constraint.0.from_tags"]
    light = client.post(
        "/align/new",
        data=fields | {"constraint.0.tag.weight": "0.5", "action": "tag.0.held"},
    )
    assert light.status_code == 422
    assert "Write 1 or more." in light.text
    gone = fields | {"constraint.0.tag.name": "gone", "action": "tag.0.held"}
    assert "bears the tag" in client.post("/align/new", data=gone).text


def test_a_run_can_start_from_the_settings_of_another(client, own_fields):
    made = client.post("/align/new", data=own_fields, follow_redirects=False)
    job_id = made.headers["location"].rpartition("/")[2]
    fields = fields_of(client.get(f"/align/new?from={job_id}").text)
    assert fields["aligned_id"] == "mine-aligned"
    assert client.get("/align/new?from=999999").status_code == 404

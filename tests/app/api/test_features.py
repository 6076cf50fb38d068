"""Features by REST: the same numbers as the database holds, page by page."""

import csv
import io
import json

import pytest

from app.services.features import catalog, features
from core.domain.activation import Band
from core.domain.views import FeatureQuery


@pytest.fixture
def kept_page(scope, sample):
    """The living feature's page as the service gives it."""
    with scope() as session:
        return features.feature_page(session, feature=sample.living, include_random=True)


def all_rows(client, url, **query):
    """Every row of a list, page by page."""
    rows, after = [], None
    while True:
        params = query | ({"after": after} if after else {})
        answer = client.get(url, params=params)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["features"]
        after = answer.json()["next_after"]
        if after is None:
            assert len(rows) == answer.json()["n_matching"]
            return rows


def test_health_tells_how_many_models_there_are(client, sample):
    body = client.get("/api/v1/health").json()
    assert (body["status"], body["n_models"]) == ("ok", 1)


def test_the_catalog_names_model_sae_and_harvest(client, sample):
    (model,) = client.get("/api/v1/models").json()["models"]
    assert model["model_id"] == sample.model_id
    assert client.get(f"/api/v1/models/{sample.model_id}").json() == model
    assert client.get(sample.url).json()["sae_id"] == sample.sae_id
    saes = client.get(f"/api/v1/models/{sample.model_id}/saes").json()["saes"]
    assert sample.sae_id in [sae["sae_id"] for sae in saes]
    (harvest,) = client.get("/api/v1/harvests").json()["harvests"]
    assert harvest["harvest_id"] == sample.harvest_id
    assert client.get(f"/api/v1/harvests/{sample.harvest_id}").json() == harvest


@pytest.mark.parametrize("sort", ["index", "density", "max_activation", "mean_activation"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_together_are_the_whole_list_in_order(client, sample, sort, descending):
    url = f"{sample.url}/features"
    rows = all_rows(client, url, sort=sort, descending=descending, limit=3)
    n_features = client.get(sample.url).json()["n_features"]
    assert sorted(row["index"] for row in rows) == list(range(n_features))
    keys = [row[sort] for row in rows]
    assert keys == sorted(keys, reverse=descending)


def test_filters_of_a_list_hold(client, sample):
    url = f"{sample.url}/features"
    living = all_rows(client, url, dead=False)
    assert living
    assert all(not row["dead"] for row in living)
    dead = all_rows(client, url, dead=True)
    assert all(row["dead"] and row["preview"] is None for row in dead)
    least = sorted(row["density"] for row in living)[len(living) // 2]
    assert all(row["density"] >= least for row in all_rows(client, url, min_density=least))
    token = living[0]["peak_token"]["text"]
    found = all_rows(client, url, token=token)
    assert living[0]["index"] in [row["index"] for row in found]
    assert all(token.casefold() in row["peak_token"]["text"].casefold() for row in found)


def test_a_features_page_has_the_numbers_of_the_database(client, sample, kept_page):
    body = client.get(f"{sample.url}/features/{sample.living.index}").json()
    assert body["stats"]["n_active"] == kept_page.stats.n_active
    assert body["stats"]["density"] == kept_page.stats.density
    assert body["histogram"]["counts"] == kept_page.histogram.counts.tolist()
    assert sum(body["histogram"]["counts"]) == kept_page.stats.n_active
    assert [t["token_id"] for t in body["promoted"]] == [t.token_id for t in kept_page.promoted]
    assert [n["index"] for n in body["coactivation"]] == [n.index for n in kept_page.coactivation]
    assert body["band_counts"]["top"] == kept_page.band_counts[Band.TOP]
    assert body["next_index"] == kept_page.next_index


def test_contexts_have_exactly_the_stored_activations(client, sample, kept_page):
    url = f"{sample.url}/features/{sample.living.index}/contexts"
    given = client.get(url).json()["contexts"]
    kept = [context for context in kept_page.contexts if context.band is not Band.RANDOM]
    assert len(given) == len(kept) > 0
    for body, context in zip(given, kept, strict=True):
        assert body["token_ids"] == context.token_ids.tolist()
        assert len(body["tokens"]) == len(body["activations"]) == len(context.token_ids)
        exact = [abs(a - b) for a, b in zip(body["activations"], context.activations, strict=True)]
        assert max(exact) < 1e-6 * max(1, body["max_activation"])
        assert body["band"] == context.band.name.lower()
        assert body["activations"][body["peak"]] == body["max_activation"]


@pytest.mark.parametrize("band", [band.name.lower() for band in Band])
def test_contexts_of_one_band_are_only_those(client, sample, kept_page, band):
    url = f"{sample.url}/features/{sample.living.index}/contexts"
    given = client.get(url, params={"band": band}).json()["contexts"]
    assert len(given) == sum(c.band.name.lower() == band for c in kept_page.contexts)
    assert {context["band"] for context in given} <= {band}


def test_raw_records_are_token_tab_number_from_0_to_10(client, sample):
    url = f"{sample.url}/features/{sample.living.index}/records"
    body = client.get(url).json()
    top = body["max_activation"]
    assert body["records"][0]["scaled"].count(10) >= 1
    for record in body["records"]:
        rows = record["text"].split("\n")
        assert len(rows) == len(record["tokens"]) == len(record["scaled"])
        assert [int(row.split("\t")[1]) for row in rows] == record["scaled"]
        assert all(row.count("\t") == 1 for row in rows)
        expected = [min(10, int(10 * max(0, a) / top + 1e-9)) for a in record["activations"]]
        assert record["scaled"] == expected


def test_the_nonzero_form_leaves_out_rows_of_zero(client, sample):
    url = f"{sample.url}/features/{sample.living.index}/records"
    body = client.get(url, params={"only_nonzero": True, "band": "top"}).json()
    for record in body["records"]:
        numbers = [int(row.split("\t")[1]) for row in record["text"].split("\n") if row]
        assert numbers == [number for number in record["scaled"] if number]


def test_a_dead_feature_has_a_page_without_contexts(client, sample):
    body = client.get(f"{sample.url}/features/{sample.dead.index}").json()
    assert body["stats"]["dead"]
    assert body["contexts"] == []
    records = client.get(f"{sample.url}/features/{sample.dead.index}/records").json()
    assert records["records"] == []


def test_neighbours_are_those_of_the_page(client, sample):
    whole = client.get(f"{sample.url}/features/{sample.living.index}").json()
    near = client.get(f"{sample.url}/features/{sample.living.index}/neighbours").json()
    assert near == {name: whole[name] for name in ("coactivation", "decoder_cosine")}


def test_the_scatter_has_a_place_for_every_feature(client, sample):
    body = client.get(f"{sample.url}/features/scatter").json()
    rows = all_rows(client, f"{sample.url}/features")
    assert body["density"] == pytest.approx([row["density"] for row in rows])
    assert body["max_activation"] == pytest.approx([row["max_activation"] for row in rows])


def test_a_random_feature_lives_and_comes_again_with_its_seed(client, sample):
    url = f"{sample.url}/features/random"
    living = {row["index"] for row in all_rows(client, f"{sample.url}/features", dead=False)}
    drawn = {client.get(url).json()["index"] for _ in range(20)}
    assert drawn <= living
    assert client.get(url, params={"seed": 3}).json() == client.get(url, params={"seed": 3}).json()


def test_another_harvest_that_is_not_there_is_told(client, sample):
    answer = client.get(f"{sample.url}/features/{sample.living.index}", params={"harvest": 999})
    assert answer.status_code == 404


@pytest.mark.parametrize("sort", ["index", "density"])
def test_a_list_is_read_backwards_page_by_page(client, sample, sort):
    query = {"sort": sort, "limit": 3, "descending": True}
    url = f"{sample.url}/features"
    first = client.get(url, params=query).json()
    second = client.get(url, params=query | {"after": first["next_after"]}).json()
    assert first["previous_after"] is None
    assert second["previous_after"].startswith("before_")
    assert client.get(url, params=query | {"after": second["previous_after"]}).json() == first


def test_the_vocabulary_gives_exact_bytes(client, sample, scope):
    url = f"/api/v1/models/{sample.model_id}/vocabulary"
    with scope() as session:
        words = catalog.vocabulary(session, model_id=sample.model_id)
    found, after = [], -1
    while after is not None:
        body = client.get(url, params={"after": after, "limit": 100}).json()
        found += body["tokens"]
        after = body["next_after"]
    assert [bytes.fromhex(token["bytes_hex"]) for token in found] == list(words.tokens)
    assert {token["token_id"] for token in found if token["special"]} == words.special_ids
    by_id = client.get(url, params={"token_id": [2, 0, 10**6]}).json()
    assert [token["token_id"] for token in by_id["tokens"]] == [2, 0]


def test_a_list_is_exported_whole_in_every_format(client, sample):
    url = f"{sample.url}/features"
    query = {"dead": False, "sort": "max_activation", "descending": True}
    rows = all_rows(client, url, **query)
    lines = client.get(f"{url}.jsonl", params=query | {"limit": 1})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert ".jsonl" in lines.headers["content-disposition"]
    objects = [json.loads(line) for line in lines.text.splitlines()]
    assert [o["index"] for o in objects] == [row["index"] for row in rows]
    assert client.get(f"{url}.json", params=query).json() == objects
    table = list(csv.DictReader(io.StringIO(client.get(f"{url}.csv", params=query).text)))
    assert [int(row["index"]) for row in table] == [o["index"] for o in objects]
    assert [row["peak_token"] for row in table] == [o["peak_token"] for o in objects]


def test_a_feature_is_exported_with_exact_bytes(client, sample, kept_page, scope):
    url = f"{sample.url}/features/{sample.living.index}"
    with scope() as session:
        words = catalog.page_vocabulary(session, kept_page)
    lines = client.get(f"{url}.jsonl", params={"include_random": True}).text.splitlines()
    assert len(lines) == len(kept_page.contexts)
    for line, context in zip(map(json.loads, lines), kept_page.contexts, strict=True):
        raw = [bytes.fromhex(token) for token in line["tokens_hex"]]
        assert raw == [words.tokens[i] for i in context.token_ids]
        assert line["activations"] == pytest.approx(context.activations.tolist(), rel=1e-6)


def test_nothing_to_export_is_an_empty_file(client, sample):
    url = f"{sample.url}/features/{sample.dead.index}"
    assert client.get(f"{url}.jsonl").text == ""
    assert client.get(f"{url}.json").json() == []
    assert client.get(f"{url}.csv").text.count("\r\n") == 1


def test_an_export_of_many_pages_is_whole(client, sample, scope):
    with scope() as session:
        listed = features.list_features(
            session, model_id=sample.model_id, sae_id=sample.sae_id, query=FeatureQuery(limit=500)
        )
    lines = client.get(f"{sample.url}/features.jsonl").text.splitlines()
    assert len(lines) == listed.n_matching


def test_neuronpedia_reads_every_living_feature(client, sample):
    text = client.get(f"{sample.url}/export/neuronpedia-upload.jsonl").text
    batches = [json.loads(line) for line in text.splitlines()]
    living = {row["index"] for row in all_rows(client, f"{sample.url}/features", dead=False)}
    assert {feature["index"] for body in batches for feature in body["features"]} == living
    assert all(len(body["features"]) <= 128 for body in batches)


def test_saedashboards_batches_hold_every_feature(client, sample):
    n_features = client.get(sample.url).json()["n_features"]
    first = client.get(f"{sample.url}/export/saedashboard/batch-0.json").json()
    assert [f["feature_index"] for f in first["features"]] == list(range(min(128, n_features)))
    beyond = client.get(f"{sample.url}/export/saedashboard/batch-1000.json")
    assert beyond.status_code == 404


def test_neuronpedias_own_address_answers_in_its_words(client, sample):
    feature = sample.living
    body = client.get(f"/api/feature/{feature.model_id}/{feature.sae_id}/{feature.index}").json()
    assert body["index"] == str(feature.index)
    assert body["layer"] == feature.sae_id
    assert body["maxActApprox"] == max(a["maxValue"] for a in body["activations"])

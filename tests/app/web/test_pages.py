"""Every page answers, in both languages, whole and as a fragment, with what it should say."""

import re
import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.web import i18n

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture(scope="module")
def addresses(sample):
    """Addresses of pages over the sample harvest."""
    base = f"/{sample.model_id}/{sample.sae_id}"
    return {
        "home": "/",
        "model": f"/{sample.model_id}",
        "list": base,
        "feature": f"/{sample.living}",
        "dead": f"/{sample.dead}",
        "raw": f"/{sample.living}?view=raw",
        "jobs": "/jobs",
        "new": "/jobs/new",
        "gemma": "/jobs/new?preset=gemma-2-2b",
        "own": "/jobs/new?preset=own",
        "api": "/api",
    }


def query(address):
    """Query parameters of an address."""
    return dict(parse_qsl(urlsplit(address).query))


PAGES = ["home", "model", "list", "feature", "dead", "raw", "jobs", "new", "gemma", "own", "api"]


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_answers_in_both_languages(client, addresses, name, language):
    response = client.get(addresses[name], params={"lang": language, **query(addresses[name])})
    assert response.status_code == 200, response.text
    assert f'<html lang="{language.replace("_", "-")}"' in response.text
    assert "</html>" in response.text


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_inline_style_or_script(client, addresses, name):
    text = client.get(addresses[name]).text
    assert not re.search(r"<[^>]*\s(style|on\w+)=", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize(
    ("name", "start"),
    [("feature", '<section class="panel contexts"'), ("list", '<section class="panel"')],
)
def test_htmx_gets_the_fragment_only(client, addresses, name, start):
    response = client.get(addresses[name], headers=HTMX)
    assert response.text.lstrip().startswith(start)
    assert "<html" not in response.text
    assert "HX-Request-Type" in response.headers["vary"]


def test_a_boosted_or_history_request_gets_the_whole_page(client, addresses):
    for kind in ({"HX-Boosted": "true"}, {"HX-History-Restore-Request": "true"}):
        response = client.get(addresses["feature"], headers={"HX-Request": "true", **kind})
        assert "<html" in response.text


def test_a_page_that_has_not_changed_is_not_sent_again(client, addresses):
    first = client.get(addresses["feature"])
    again = client.get(addresses["feature"], headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content
    assert "content-security-policy" in again.headers


def test_pages_forbid_inline_code(client, addresses):
    policy = client.get(addresses["home"]).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("band", ["top", "75-100", "50-75", "25-50", "0-25", "random", "all"])
@pytest.mark.parametrize("view", ["heat", "raw"])
def test_every_band_has_both_views(client, addresses, band, view):
    response = client.get(f"{addresses['feature']}?band={band}&view={view}&width=narrow&scale=row")
    assert response.status_code == 200


def test_the_raw_view_is_a_token_a_tab_and_a_number(client, addresses):
    text = client.get(addresses["raw"]).text
    (first, *_) = re.findall(r"<pre id=\"raw-\d+\" tabindex=\"0\">\n(.*?)</pre>", text, re.DOTALL)
    for line in first.splitlines():
        assert re.fullmatch(r".*\t(10|[0-9])", line)


def test_a_dead_feature_says_so(client, addresses):
    text = client.get(addresses["dead"]).text
    assert "This feature never fired" in text


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_a_page_is_a_file_at_the_same_address(client, addresses, form):
    for page in ("list", "feature"):
        response = client.get(f"{addresses[page]}.{form}")
        assert response.status_code == 200
        assert f".{form}" in response.headers["content-disposition"]
        assert response.content


def test_filters_of_the_list_narrow_it(client, addresses):
    living = client.get(f"{addresses['list']}?alive=living&sort=density&dir=desc").text
    dead = client.get(f"{addresses['list']}?alive=dead").text
    assert '<span class="pill warn">dead</span>' not in living
    assert '<span class="pill warn">dead</span>' in dead
    nothing = client.get(f"{addresses['list']}?token=no-such-token").text
    assert "No feature matches" in nothing


def test_a_filter_that_is_no_number_is_kept_and_told(client, addresses):
    response = client.get(f"{addresses['list']}?dmin=much")
    assert response.status_code == 422
    assert 'value="much"' in response.text
    assert "Write a number from 0." in response.text


def test_jumps_lead_to_numbers_ids_and_tokens(client, sample):
    base = f"/{sample.model_id}/{sample.sae_id}"
    for text, place in [
        ("7", f"{base}/7"),
        (str(sample.living), f"/{sample.living}"),
        ("the", f"{base}?token=the"),
    ]:
        jump = client.get("/go", params={"q": text, "from": base}, follow_redirects=False)
        assert jump.status_code == 303
        assert jump.headers["location"] == place


def test_a_random_feature_is_a_living_one(client, addresses):
    moved = client.get(f"{addresses['list']}/random", follow_redirects=False)
    assert moved.status_code == 303
    assert "This feature never fired" not in client.get(moved.headers["location"]).text


@pytest.mark.parametrize("address", ["/no-model", "/{base}/999999", "/jobs/999999", "/x/y/z"])
def test_what_is_not_there_is_told_on_a_page(client, sample, address):
    place = address.format(base=f"{sample.model_id}/{sample.sae_id}")
    response = client.get(place, headers={"Accept": "text/html"})
    assert response.status_code in {404, 422}
    assert "All models and SAEs" in response.text


def test_what_is_not_there_is_a_toast_for_htmx(client):
    response = client.get("/jobs/999999", headers=HTMX)
    assert response.status_code == 404
    assert '<template id="toast-error">' in response.text


def test_choices_are_kept_in_cookies_and_lead_back(client):
    chosen = client.post(
        "/settings", data={"theme": "dark", "next": "/jobs"}, follow_redirects=False
    )
    assert chosen.status_code == 303
    assert chosen.headers["location"] == "/jobs"
    assert "theme=dark" in chosen.headers["set-cookie"]
    away = client.post(
        "/settings", data={"lang": "zh_CN", "next": "//evil.example"}, follow_redirects=False
    )
    assert away.headers["location"] == "/"
    client.cookies.clear()


def test_a_change_from_another_site_is_refused(client):
    answer = client.post("/settings", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_static_files_never_expire_and_their_address_names_their_content(client):
    page = client.get("/jobs").text
    (css,) = re.findall(r'href="(/static/[0-9a-f]{12}/css/app\.css)"', page)
    response = client.get(css)
    assert response.status_code == 200
    assert "immutable" in response.headers["cache-control"]


def test_pages_are_small(client, addresses):
    sizes = {page: len(client.get(addresses[page]).content) for page in PAGES}
    assert max(sizes.values()) < 400_000, sizes


def test_the_server_renders_a_feature_page_quickly(client, addresses, capsys):
    client.get(addresses["feature"])
    start = time.perf_counter()
    client.get(addresses["feature"])
    with capsys.disabled():
        taken = 1000 * (time.perf_counter() - start)
        print(f"\nfeature page of the sample: {taken:.0f} ms")  # noqa: T201  (a measurement to read)

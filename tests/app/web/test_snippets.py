"""Lines to copy are what they should be in the program they are pasted into."""

import dataclasses

from app.web.snippets import feature_citation
from tests.support.feature_pages import living_page


def test_a_citation_names_all_that_a_features_numbers_depend_on():
    page = living_page()
    entry = feature_citation("http://h:1/", page)
    first, *_, last = entry.splitlines()
    assert first == f"@misc{{m-12-res-1k-l0-9-{page.stats.index},"
    assert last == "}"
    assert f"\\url{{http://h:1/m/12-res-1k__l0-9/{page.stats.index}?harvest=" in entry
    assert "12-res-1k\\_\\_l0-9" in entry
    harvest = page.harvest
    for name in (harvest.spec_hash, harvest.corpus_hash, page.sae.revision, harvest.model_revision):
        assert name in entry
    assert "year = {2026}" in entry


def test_no_name_breaks_out_of_its_braces():
    page = living_page()
    harvest = dataclasses.replace(page.harvest, corpus_name="50% {of} a\\b & $c", finished_at=None)
    entry = feature_citation("http://h:1", dataclasses.replace(page, harvest=harvest))
    assert "corpus 50\\% \\{of\\} a/b \\& \\$c " in entry
    assert "year" not in entry
    plain = entry.replace("\\{", "").replace("\\}", "")
    assert plain.count("{") == plain.count("}")

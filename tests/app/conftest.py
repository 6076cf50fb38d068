"""The app over the test database, and a small harvest in it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.services.features import catalog, features
from core.db.session import SessionScope, session_scope
from core.domain.ids import FeatureId
from core.domain.views import FeatureQuery
from core.settings import Settings
from tests.support.builders import publish_sample
from tests.support.database import empty

HERE = "http://127.0.0.1:8750"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where the harvest of the module's tests is."""

    model_id: str
    sae_id: str
    harvest_id: int
    living: FeatureId
    dead: FeatureId

    @property
    def url(self) -> str:
        """Address of its SAE in the API."""
        return f"/api/v1/models/{self.model_id}/saes/{self.sae_id}"


@pytest.fixture(scope="module")
def scope(engine: Engine) -> Iterator[SessionScope]:
    """Transactions that really commit; every table is emptied after the module."""
    yield session_scope(engine)
    empty(engine)


@pytest.fixture(scope="module")
def sample(scope: SessionScope) -> Sample:
    """A small harvest, there for all tests of the module."""
    with scope() as session:
        publish_sample(session)
    with scope() as session:
        (model,) = catalog.list_models(session)
        sae = model.saes[0]
        found = {}
        for dead in (False, True):
            listed = features.list_features(
                session,
                model_id=model.model_id,
                sae_id=sae.sae_id,
                query=FeatureQuery(dead=dead, limit=1),
            )
            index = listed.cards[0].stats.index
            found[dead] = FeatureId(model_id=model.model_id, sae_id=sae.sae_id, index=index)
        return Sample(
            model_id=model.model_id,
            sae_id=sae.sae_id,
            harvest_id=model.harvests[0].harvest_id,
            living=found[False],
            dead=found[True],
        )


@pytest.fixture(scope="module")
def web_app(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The whole app, pages and API."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(database_url=database_url, data_dir=folder, cache_dir=folder)
    return create_app(settings)


@pytest.fixture(scope="module")
def client(web_app: FastAPI, scope: SessionScope) -> Iterator[TestClient]:
    """A program that talks to the app; what the server would raise comes as its answer."""
    with TestClient(web_app, base_url=HERE, raise_server_exceptions=False) as client:
        yield client

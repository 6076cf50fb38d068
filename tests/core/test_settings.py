"""Settings come from the environment or a file, and the example shows all of them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings, example

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No ``.env`` and no settings of the machine."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SPARSIGHT_{name.upper()}", raising=False)


def test_the_example_in_the_repository_is_current():
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert text == example(), "regenerate with: python -m core.settings > .env.example"


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())


def test_without_a_setting_the_defaults_hold():
    settings = Settings()
    assert (settings.database_url, settings.port, settings.data_dir) == (None, 8750, Path("data"))
    assert "~" not in str(settings.cache_dir)


def test_the_environment_comes_before_the_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("SPARSIGHT_PORT=1000\nSPARSIGHT_HOST=file\nOTHER=1\n")
    monkeypatch.setenv("SPARSIGHT_PORT", "2000")
    monkeypatch.setenv("SPARSIGHT_DATABASE_URL", "")
    settings = Settings()
    assert (settings.port, settings.host, settings.database_url) == (2000, "file", None)


def test_a_wrong_value_is_named(monkeypatch):
    monkeypatch.setenv("SPARSIGHT_PORT", "70000")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("SPARSIGHT_SECRET_KEY", "hush-hush")
    monkeypatch.setenv("SPARSIGHT_DATABASE_URL", "postgresql://ann:whisper@db/x")
    shown = repr(Settings())
    assert "hush" not in shown
    assert "whisper" not in shown


def test_the_example_is_itself_a_valid_file(tmp_path):
    lines = [line.removeprefix("#") for line in example().splitlines() if "SPARSIGHT_" in line]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert Settings().model_dump() == Settings(_env_file=None).model_dump()

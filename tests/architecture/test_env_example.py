"""The example of settings names every setting as the code knows it."""

from pathlib import Path

from core.settings import PREFIX, Settings, example

ROOT = Path(__file__).parents[2]


def test_the_example_is_what_the_code_writes():
    written = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert written == example(), "write it anew: python -m core.settings > .env.example"


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"{PREFIX}{name.upper()}=" in example()

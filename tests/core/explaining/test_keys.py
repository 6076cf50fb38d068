import threading

import pytest
from pydantic import SecretStr

from core.errors import Invalid
from core.explaining.keys import KEY_FILE, KeyRing

KEY = SecretStr("sk-abcdefgh")


def ring(folder, *, secret=None, **environment):
    return KeyRing(secret_key=secret, data_dir=folder, environment=environment)


def test_a_sealed_key_comes_back_by_the_same_file_only(tmp_path):
    sealed = ring(tmp_path).seal(KEY)
    assert b"abcdefgh" not in sealed
    assert ring(tmp_path).unseal(sealed) == KEY
    with pytest.raises(Invalid, match="secret key has changed"):
        ring(tmp_path / "other").unseal(sealed)


def test_a_secret_of_the_settings_leaves_no_file(tmp_path):
    secret = SecretStr("a long secret")
    sealed = ring(tmp_path, secret=secret).seal(KEY)
    assert ring(tmp_path / "moved", secret=secret).unseal(sealed) == KEY
    assert not (tmp_path / KEY_FILE).exists()
    with pytest.raises(Invalid, match="Enter the API key again"):
        ring(tmp_path, secret=SecretStr("another")).unseal(sealed)


def test_the_key_file_is_its_owners_alone_and_made_once_by_many_at_once(tmp_path):
    sealed = []
    threads = [
        threading.Thread(target=lambda: sealed.append(ring(tmp_path).seal(KEY))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ring(tmp_path).unseal(one) for one in sealed] == [KEY] * 8
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_the_environment_gives_keys_by_name_and_nothing_else(tmp_path):
    environment = {"OPENAI_API_KEY": "sk-env", "SPARSIGHT_SECRET_KEY": "secret", "PATH": "/bin"}
    keys = ring(tmp_path, **environment)
    assert keys.from_environment("OPENAI_API_KEY") == SecretStr("sk-env")
    for name in ("PATH", "SPARSIGHT_SECRET_KEY", "SPARSIGHT_A_API_KEY"):
        with pytest.raises(Invalid, match="may not be read"):
            keys.from_environment(name)
    with pytest.raises(Invalid, match="is not set"):
        keys.from_environment("OTHER_API_KEY")

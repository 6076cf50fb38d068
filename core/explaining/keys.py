"""API keys of endpoints: sealed for the database, opened only to send a request.

The key that seals them is never in the database: it is the setting ``secret_key``, else a file in
the data folder that only its owner can read.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from core.domain.endpoint import check_key_variable
from core.errors import Invalid

KEY_FILE = "secret.key"
_PURPOSE = b"sparsight: API keys of endpoints\n"


class KeyRing:
    """Seals and opens API keys, and reads those that the environment holds.

    Args:
        secret_key: what sealed keys depend on; None takes the key file of the data folder, made
            when it is first needed.
        environment: variables that endpoints may name.
    """

    def __init__(
        self, *, secret_key: SecretStr | None, data_dir: Path, environment: Mapping[str, str]
    ) -> None:
        self._secret = secret_key
        self._file = data_dir / KEY_FILE
        self._environment = environment

    def seal(self, key: SecretStr) -> bytes:
        """The key, encrypted."""
        return self._fernet().encrypt(key.get_secret_value().encode())

    def unseal(self, sealed: bytes) -> SecretStr:
        """The key that was sealed.

        Raises:
            Invalid: it was sealed under another secret key.
        """
        try:
            return SecretStr(self._fernet().decrypt(sealed).decode())
        except InvalidToken as error:
            raise Invalid(
                "The endpoint's stored API key cannot be opened: the secret key has changed.",
                hint="Enter the API key again, or set SPARSIGHT_SECRET_KEY as it was.",
            ) from error

    def from_environment(self, name: str) -> SecretStr:
        """The key that a variable holds.

        Raises:
            Invalid: the variable is not set here, or may not be read.
        """
        try:
            check_key_variable(name)
        except ValueError as error:
            raise Invalid(
                f"{name!r} may not be read as an API key.",
                hint="Name a variable that ends in _API_KEY, such as OPENAI_API_KEY.",
            ) from error
        value = self._environment.get(name, "")
        if not value:
            raise Invalid(
                f"The variable {name} is not set.",
                hint="Set it for the web process and for the worker, then restart them.",
            )
        return SecretStr(value)

    def _fernet(self) -> Fernet:
        secret = self._secret.get_secret_value().encode() if self._secret else self._file_key()
        digest = hashlib.sha256(_PURPOSE + secret).digest()
        return Fernet(base64.urlsafe_b64encode(digest))

    def _file_key(self) -> bytes:
        """The key file's content; of two processes that make it at once, the first wins."""
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent)  # readable by the owner only
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(Fernet.generate_key())
                os.link(name, self._file)
            except FileExistsError:
                pass
            finally:
                Path(name).unlink()
        return self._file.read_bytes()

"""Identifiers of models, SAEs and features, as the field writes them.

A feature is ``gemma-2-2b/12-gemmascope-res-16k/8437``: model, SAE (layer, dash, set name) and
index. The same text is the path of its page.
"""

import re
from dataclasses import dataclass

from core.errors import Invalid

MODEL_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
# An id that ended like a file would read as the address of an export.
SAE_ID = re.compile(r"(?!.*\.(?:csv|jsonl?)$)[a-z0-9][a-z0-9._-]{0,119}")


def check_model_id(text: str) -> str:
    """A valid model id, or Invalid.

    >>> check_model_id("gemma-2-2b")
    'gemma-2-2b'
    """
    if not MODEL_ID.fullmatch(text):
        raise Invalid(
            f"{text!r} is not a model id.",
            hint="Use 1–80 lower-case letters, digits, dots, dashes or underscores.",
        )
    return text


def check_sae_id(text: str) -> str:
    """A valid SAE id, or Invalid."""
    if not SAE_ID.fullmatch(text):
        raise Invalid(
            f"{text!r} is not an SAE id.",
            hint="Use 1–120 lower-case letters, digits, dots, dashes or underscores, and no ending "
            "like .json or .csv.",
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FeatureId:
    """One feature: which model, which SAE, which index (from 0)."""

    model_id: str
    sae_id: str
    index: int

    def __str__(self) -> str:
        return f"{self.model_id}/{self.sae_id}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> "FeatureId":
        """A feature id from its text.

        >>> str(FeatureId.parse("gemma-2-2b/12-gemmascope-res-16k/8437"))
        'gemma-2-2b/12-gemmascope-res-16k/8437'
        """
        parts = text.split("/")
        if len(parts) != 3 or not re.fullmatch(r"[0-9]{1,9}", parts[2]):
            raise Invalid(f"{text!r} is not a feature id.", hint="Write model/sae/index.")
        return cls(
            model_id=check_model_id(parts[0]),
            sae_id=check_sae_id(parts[1]),
            index=int(parts[2]),
        )

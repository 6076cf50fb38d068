"""Features on answers computed the slow way: one answer, one position, one feature at a time."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from core.domain.alignment import Lengths
from core.domain.preference import PreferencePair
from tests.support.tiny_tokenizer import tiny_tokenizer
from worker.align.data.pairs import TokenSequence, encode_pairs


class SlowModel:
    """A transformers folder run by itself, without padding, without hooks of ours."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def residual(self, ids: np.ndarray, layer: int) -> np.ndarray:
        """The stream behind a layer, "pos d_in"; not of the last layer."""
        given = torch.tensor(np.asarray(ids, np.int64))[None]
        states = self._model(input_ids=given, output_hidden_states=True).hidden_states
        stream: np.ndarray = states[layer + 1][0].double().numpy()
        return stream


class SlowSae:
    """A JumpReLU SAE from its file, by the definition."""

    def __init__(self, folder: Path) -> None:
        tensors = load_file(folder / "sae_weights.safetensors")
        self._t = {name: value.double().numpy() for name, value in tensors.items()}

    @property
    def W_dec(self) -> np.ndarray:
        """Decoder rows, "feature d_in"."""
        return self._t["W_dec"]

    def encode(self, row: np.ndarray) -> np.ndarray:
        """Activations at one position."""
        pre = row @ self._t["W_enc"] + self._t["b_enc"]
        return np.where((pre > self._t["threshold"]) & (pre > 0), pre, 0.0)

    def decode(self, acts: np.ndarray) -> np.ndarray:
        """What the activations stand for."""
        decoded: np.ndarray = acts @ self._t["W_dec"] + self._t["b_dec"]
        return decoded


def sides_of(pair: PreferencePair, lengths: Lengths) -> tuple[TokenSequence, TokenSequence]:
    """Tokens of the chosen and the rejected answer."""
    encoded = encode_pairs([pair], tokenizer=tiny_tokenizer(None), lengths=lengths)[0]
    return encoded.chosen, encoded.rejected


def answer_rows(model: SlowModel, sequence: TokenSequence, layer: int) -> np.ndarray:
    """Residuals at the positions whose next token is part of the answer."""
    stream = model.residual(sequence.ids, layer)
    n = len(sequence.ids)
    rows: np.ndarray = stream[[t for t in range(n - 1) if sequence.is_response[t + 1]]]
    return rows

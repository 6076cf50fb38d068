"""The exact KL between reference and policy on a fixed set of response positions.

The reference's whole log-distributions at those positions are kept on disk (rows × vocab), so the
reference model need not be in memory. Positions come from held-out answers, chosen and rejected in
turn, the first ones until there are enough.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from worker.align.data.pairs import TokenBatch, TokenPair, TokenSequence, collate
from worker.align.logps import CHUNK_ROWS, row_chunks
from worker.align.reference_cache import FORMAT, ReferenceModel, data_digest
from worker.align.storage import canonical, is_sound, save_tensors
from worker.align.unembedding import Unembedding

_BATCH_SEQUENCES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeKl:
    """Mean KL over the probe's positions, in nats a token.

    Attributes:
        forward: KL(reference ‖ policy).
        reverse: KL(policy ‖ reference).
    """

    forward: float
    reverse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Sequences with the reference's log-probabilities on their first response rows.

    Attributes:
        rows: response rows that count, of each sequence.
        reference_logp: log-softmax of the reference, in sequence and row order.
    """

    sequences: tuple[TokenSequence, ...]
    rows: tuple[int, ...]
    reference_logp: Float[Tensor, "row vocab"]
    pad_id: int

    @torch.no_grad()
    def measure(self, policy: nn.Module, device: torch.device) -> ProbeKl:
        """KL of the policy as it is now."""
        sums = torch.zeros(2, dtype=torch.float64)
        done = 0
        for start in range(0, len(self.sequences), _BATCH_SEQUENCES):
            piece = slice(start, start + _BATCH_SEQUENCES)
            n_rows = sum(self.rows[piece])
            reference = self.reference_logp[done : done + n_rows]
            sums += _forward(policy, self, piece, device, _kl_sums(reference))
            done += n_rows
        forward, reverse = (sums / max(1, done)).tolist()
        return ProbeKl(forward=forward, reverse=reverse)


@torch.no_grad()
def make_probe(
    pairs: Sequence[TokenPair],
    *,
    policy: nn.Module,
    model: ReferenceModel,
    n_rows: int,
    root: Path,
    pad_id: int,
    device: torch.device,
) -> Probe:
    """The probe of a reference, from disk or computed from the model, which is still the reference.

    Args:
        pairs: held-out pairs; without any there is no position and every KL is 0.
        policy: the model before its first step.
        model: name of the reference.
        n_rows: positions wanted.
        root: folder of all probes.
        pad_id: id that padding is written with.
        device: where the model is.
    """
    sequences, rows = _choose(pairs, n_rows)
    key = canonical(
        {
            "format": FORMAT,
            "model": model.revision,
            "compute": str(model.compute),
            "data": data_digest(pairs),
            "rows": n_rows,
        }
    )
    path = root / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    probe = Probe(sequences=sequences, rows=rows, reference_logp=torch.zeros(0, 0), pad_id=pad_id)
    if not is_sound(path):
        parts = [
            _forward(policy, probe, slice(i, i + _BATCH_SEQUENCES), device, _log_softmax)
            for i in range(0, len(sequences), _BATCH_SEQUENCES)
        ]
        logp = torch.cat(parts) if parts else torch.zeros(0, 1)
        save_tensors({"logp": logp}, path, header={"format": str(FORMAT)})
    return Probe(
        sequences=sequences, rows=rows, reference_logp=load_file(path)["logp"], pad_id=pad_id
    )


def _choose(
    pairs: Sequence[TokenPair], n_rows: int
) -> tuple[tuple[TokenSequence, ...], tuple[int, ...]]:
    sequences, rows, left = [], [], n_rows
    for pair in pairs:
        for sequence in (pair.chosen, pair.rejected):
            if left > 0:
                sequences.append(sequence)
                rows.append(min(left, sequence.n_response))
                left -= rows[-1]
    return tuple(sequences), tuple(rows)


def _forward(
    policy: nn.Module, probe: Probe, piece: slice, device: torch.device, use: Callable[..., Tensor]
) -> Tensor:
    """``use`` of the final states of the piece's rows, called inside the policy's forward pass."""
    tokens = collate(probe.sequences[piece], pad_id=probe.pad_id).to(device)
    places = _places(tokens, probe.rows[piece])

    def read(hidden: Float[Tensor, "batch pos d_in"], head: Unembedding) -> Tensor:
        return use(hidden[places[:, 0], places[:, 1]], head)

    found: Tensor = policy(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        position_ids=tokens.position_ids,
        targets=tokens.targets,
        read=read,
    )
    return found


def _places(tokens: TokenBatch, rows: Sequence[int]) -> Int[Tensor, "row 2"]:
    mask = tokens.targets.mask
    first = mask.cumsum(1) <= torch.tensor(rows, device=mask.device)[:, None]
    return (mask & first).nonzero()


def _log_softmax(rows: Float[Tensor, "row d_in"], head: Unembedding) -> Tensor:
    parts = [head.logits(rows[i]).log_softmax(-1).cpu() for i in row_chunks(len(rows), CHUNK_ROWS)]
    return torch.cat(parts)


def _kl_sums(reference: Float[Tensor, "row vocab"]) -> Callable[..., Tensor]:
    def use(rows: Float[Tensor, "row d_in"], head: Unembedding) -> Tensor:
        sums = torch.zeros(2, dtype=torch.float64)
        for i in row_chunks(len(rows), CHUNK_ROWS):
            logp = head.logits(rows[i]).log_softmax(-1)
            ref = reference[i].to(logp)
            gap = ref - logp
            sums[0] += _expect(ref.exp(), gap)
            sums[1] += _expect(logp.exp(), -gap)
        return sums

    return use


def _expect(p: Float[Tensor, "row vocab"], values: Float[Tensor, "row vocab"]) -> float:
    """Σ p · values, where a token of no probability counts nothing even at −∞."""
    return float((p * values.masked_fill(p == 0, 0.0)).sum())

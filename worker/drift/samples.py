"""Generations of base and aligned model side by side, each prompt alone, from a fixed seed."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from core.domain.align_jobs import SamplingSpec
from core.domain.alignment import Lengths
from core.domain.preference import PreferencePair, turns_key
from core.domain.views_drift import Sample, SamplePair
from worker.align.data.pairs import TokenSequence, encode_pairs
from worker.lm.load import LoadedModel
from worker.memory import memory_errors


def choose_prompts(pairs: Iterable[PreferencePair], n: int) -> tuple[PreferencePair, ...]:
    """The first pair of each of the first ``n`` prompts."""
    found: dict[str, PreferencePair] = {}
    for pair in pairs:
        if len(found) == n:
            break
        found.setdefault(turns_key(pair.prompt), pair)
    return tuple(found.values())


def sample_pair(
    pair: PreferencePair,
    *,
    position: int,
    base: LoadedModel,
    aligned: LoadedModel,
    lengths: Lengths,
    sampling: SamplingSpec,
) -> SamplePair:
    """What both models write to a pair's prompt; both draw from the same seed."""
    encoded = encode_pairs([pair], tokenizer=base.tokenizer, lengths=lengths)[0].chosen
    prompt = _prompt(encoded)
    ends = _ends(base, encoded)
    return SamplePair(
        position=position,
        row=pair.row,
        prompt=pair.prompt,
        chosen=pair.chosen,
        rejected=pair.rejected,
        n_prompt_tokens=len(prompt),
        base=write(base, prompt, ends=ends, sampling=sampling, seed=sampling.seed + position),
        aligned=write(aligned, prompt, ends=ends, sampling=sampling, seed=sampling.seed + position),
    )


@torch.inference_mode()
def write(
    loaded: LoadedModel,
    prompt: Sequence[int],
    *,
    ends: frozenset[int],
    sampling: SamplingSpec,
    seed: int,
) -> Sample:
    """One answer, token by token.

    Args:
        loaded: the model.
        prompt: ids that it reads, not empty.
        ends: ids that end a turn.
        sampling: length, temperature and mass.
        seed: of the draws; unused at temperature 0.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = []
    cache = None
    ids = torch.tensor([list(prompt)], device=loaded.device)
    with memory_errors("writing a sample"):
        while len(drawn) < sampling.max_new_tokens and not (drawn and drawn[-1] in ends):
            out = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = _draw(out.logits[0, -1].float().cpu(), sampling, generator)
            drawn.append(token)
            ids = torch.tensor([[token]], device=loaded.device)
    ended = bool(drawn) and drawn[-1] in ends
    return Sample(text=_decode(loaded.tokenizer, drawn), token_ids=tuple(drawn), ended=ended)


def _draw(logits: Float[Tensor, " vocab"], sampling: SamplingSpec, g: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    p = (logits.double() / sampling.temperature).softmax(dim=-1)
    order: Int[Tensor, " vocab"]
    ranked, order = p.sort(descending=True, stable=True)
    before = ranked.cumsum(0) - ranked  # the likeliest token is always kept
    ranked = ranked.masked_fill(before >= sampling.top_p, 0.0)
    return int(order[torch.multinomial(ranked, 1, generator=g)])


def _prompt(encoded: TokenSequence) -> list[int]:
    n_before = int(encoded.is_response.argmax()) if encoded.is_response.any() else len(encoded.ids)
    prompt: list[int] = encoded.ids[:n_before].tolist()
    return prompt


def _ends(loaded: LoadedModel, encoded: TokenSequence) -> frozenset[int]:
    """What ends a turn: the model's own ends, and the special token that closes the data's."""
    configured = getattr(loaded.model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    found = [*listed, loaded.tokenizer.eos_token_id]
    last = int(encoded.ids[-1])
    if not encoded.answer_cut and last in loaded.tokenizer.all_special_ids:
        found.append(last)
    return frozenset(token for token in found if isinstance(token, int))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))

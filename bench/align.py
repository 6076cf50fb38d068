"""What the preference losses cost: ``python -m bench.align``.

Prints, of one run on one machine, one thread:

a. bytes that the constraint term alone saves for the backward pass, with Gemma-2's vocabulary
   (256,000) and SAEs of 16,384 and 65,536 features, counted by autograd's hooks;
b. time of a whole step (reference, forward, backward, Adam) of each method on a small model with
   that vocabulary and a 16k SAE, the methods in turn, and the same on the demo model;
c. peak resident memory of each method, each in a fresh process;
d. bytes of the offline reference on disk for each pair.

``--out FILE`` also writes the tables to a Markdown file; docs/what-fpo-saves.md is made from it.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from core.domain.alignment import AlignSpec, ConstraintSae, DemoPreferences, Method
from core.domain.model import Dtype, ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource
from worker.align.constraint import Constraint, encoder_of, make_constraint
from worker.align.data.pairs import TokenPair, TokenSequence, collate_pairs, encode_pairs, sides
from worker.align.data.sources import load_preferences
from worker.align.divergence import KlForm, feature_divergence, seq_kl
from worker.align.logps import Targets
from worker.align.losses import PairLogps, PairValues, tdpo2_loss
from worker.align.objective import OnlineReference, PreferenceObjective
from worker.align.policy import Policy
from worker.align.pooling import FeatureEncoder, pool_features
from worker.align.reference_cache import (
    ReferenceCache,
    ReferenceModel,
    build_reference,
    missing_shards,
    plan_reference,
)
from worker.align.training.memory import peak_memory_bytes, saved_for_backward
from worker.align.training.optim import make_optimizer
from worker.lm.gguf import DEMO_MODEL_LOCATION
from worker.lm.load import load_model
from worker.sae.load import load_sae

CPU = torch.device("cpu")
_CACHE = Path("~/.cache/sparsight").expanduser()
_DEMO_SAE = Path(__file__).parents[1] / "worker" / "demo_saes" / "15-demo-res-4k"
_VOCAB, _D_GEMMA, _K = 256_000, 2_304, 50
_CHUNKED, _WHOLE = "tdpo2, online, by chunks", "tdpo2, online, whole logits"
_RUNS = ("simpo", "dpo, cached", "fpo, cached", "dpo, online", _CHUNKED, _WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A model, its pairs, one SAE and a finished reference."""

    model: PreTrainedModel
    pairs: tuple[TokenPair, ...]
    constraints: tuple[Constraint, ...]
    cache: ReferenceCache


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(1)
    if options.peak:
        _say(str(_peak(options.world, options.peak, Path(options.root))))
        return
    lines = [*_machine(), *_saved_bytes()]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("wide", "demo"):
            lines += _measure(name, Path(folder), repeats=options.repeats)
    text = "\n".join(lines) + "\n"
    _say(text)
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.align", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="steps of each method")
    parser.add_argument("--out", help="also write the tables here")
    parser.add_argument("--peak", choices=_RUNS, help="inner use: one method's peak memory")
    parser.add_argument("--world", choices=("wide", "demo"), default="wide", help="inner use")
    parser.add_argument("--root", default="", help="inner use: folder of the reference")
    return parser.parse_args()


def _machine() -> list[str]:
    return [f"torch {torch.__version__}, one thread, float32.", ""]


# a. Bytes saved for backward -------------------------------------------------------------------


def _saved_bytes() -> list[str]:
    tokens = 64
    rows = [("KL, form of TDPO's own code", _kl_bytes(KlForm.NAIVE, tokens))]
    rows.append(("KL, p − p_ref kept once", _kl_bytes(KlForm.DIFFERENCE, tokens)))
    rows.append(("KL, recomputed by chunks", _kl_bytes(KlForm.RECOMPUTE, tokens)))
    for d_sae in (16_384, 65_536):
        rows.append((f"FPO, one pass, {d_sae:,} features", _fpo_bytes(d_sae, tokens, naive=True)))
        rows.append((f"FPO, two passes, {d_sae:,} features", _fpo_bytes(d_sae, tokens)))
    official = rows[0][1]
    lines = [
        "## Bytes saved for the backward pass by the constraint term",
        "",
        f"One answer of {tokens} tokens; vocabulary {_VOCAB:,}, d_in {_D_GEMMA:,}, k = {_K}. "
        "Inputs (logits or hidden states) and frozen weights are left out.",
        "",
        "| constraint | bytes | bytes a token | TDPO's own form / this |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {size:,} | {size / tokens:,.0f} | {official / max(size, 1):,.1f} × |"
        for name, size in rows
    ]
    return [*lines, ""]


def _kl_bytes(form: KlForm, tokens: int) -> int:
    g = torch.Generator().manual_seed(0)
    policy = torch.randn(1, tokens, _VOCAB, generator=g).requires_grad_()
    reference = torch.randn(1, tokens, _VOCAB, generator=g)
    mask = torch.ones(1, tokens, dtype=torch.bool)
    with saved_for_backward(leaving_out=(policy, reference)) as saved:
        kl = seq_kl(policy_logits=policy, reference_logits=reference, mask=mask, form=form)
    kl.sum().backward()
    return saved.total


def _fpo_bytes(d_sae: int, tokens: int, *, naive: bool = False) -> int:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, tokens, _D_GEMMA, generator=g)
    encoder = _random_encoder(hidden.flatten(0, 1), d_sae)
    mask = torch.ones(1, tokens, dtype=torch.bool)
    reference = pool_features(hidden=hidden * 1.01, mask=mask, encoder=encoder).means
    hidden.requires_grad_()
    weights = (hidden, encoder.W_enc, encoder.b_enc, _threshold(encoder), reference)
    with saved_for_backward(leaving_out=weights) as saved:
        if naive:
            value = _one_pass(hidden, encoder, reference)
        else:
            value = feature_divergence(
                hidden=hidden, mask=mask, reference_means=reference, encoder=encoder, k=_K
            ).values
    value.sum().backward()
    return saved.total


def _one_pass(hidden: Tensor, encoder: FeatureEncoder, reference: Tensor) -> Tensor:
    """The divergence as one writes it down: every feature in the graph."""
    pre = hidden @ encoder.W_enc + encoder.b_enc
    acts = pre * ((pre > _threshold(encoder)) & (pre > 0))
    means = acts.mean(1)
    chosen = torch.zeros_like(means, dtype=torch.bool)
    for values in (means.detach(), reference):
        chosen.scatter_(1, values.topk(_K).indices, value=True)
    return ((means - reference) ** 2 * chosen).sum(1) / _K


def _random_encoder(rows: Tensor, d_sae: int) -> FeatureEncoder:
    """A JumpReLU encoder on whose rows about 55 of 16,384 features fire, as Gemma Scope's do."""
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(rows.shape[1], d_sae, generator=g)
    weight /= (rows @ weight).std()
    return FeatureEncoder(
        W_enc=weight, b_enc=torch.zeros(d_sae), threshold=torch.full((d_sae,), 2.7)
    )


def _threshold(encoder: FeatureEncoder) -> Tensor:
    return torch.zeros(1) if encoder.threshold is None else encoder.threshold


# b. to d. Steps, peaks and cache ---------------------------------------------------------------


def _measure(name: str, root: Path, *, repeats: int) -> list[str]:
    world = _world(name, root)
    where = {
        "wide": "A small model with Gemma-2's vocabulary (256,000) and a 16k SAE",
        "demo": "SmolLM2-135M-Instruct (vocabulary 49,152) with its 4k SAE",
    }[name]
    n_tokens = sum(len(s.ids) for s in sides(world.pairs[:2]))
    steps = _step_times(world, repeats)
    per_pair = world.cache.bytes_per_pair
    del world
    gc.collect()
    peaks = {run: _peak_in_a_process(name, run, root) for run in _RUNS}
    simpo = statistics.median(steps["simpo"])
    lines = [
        f"## {where}",
        "",
        f"A step reads 2 pairs, {n_tokens} tokens; median of {repeats} steps in turn, CPU seconds "
        "of the process; peaks in fresh processes after 2 steps.",
        "",
        "| method | step (s) | least – most | / SimPO | peak memory | / DPO cached |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in _RUNS:
        seconds, peak = steps[run], peaks[run]
        lines.append(
            f"| {run} | {statistics.median(seconds):.2f} | {min(seconds):.2f} – {max(seconds):.2f} "
            f"| {statistics.median(seconds) / simpo:.2f} | {peak / 2**30:.2f} GiB "
            f"| {peak / peaks['dpo, cached']:.3f} |"
        )
    ratios = [
        f"{statistics.median(steps['fpo, cached']) / statistics.median(steps[run]):.2f} ({run})"
        for run in (_CHUNKED, _WHOLE)
    ]
    cache = ", ".join(f"{part} {size:,.0f}" for part, size in per_pair.items())
    return [
        *lines,
        "",
        f"FPO's step / TDPO2's: {', '.join(ratios)}. Cache bytes a pair on disk: {cache}.",
        "",
    ]


def _step_times(world: World, repeats: int) -> dict[str, list[float]]:
    optimizer = _optimizer(world.model)
    frozen = _copy(world.model)
    steps = {run: _stepper(world, run, optimizer=optimizer, frozen=frozen) for run in _RUNS}
    times: dict[str, list[float]] = {run: [] for run in _RUNS}
    for repeat in range(repeats + 1):
        for run, step in steps.items():
            started = time.process_time()
            step()
            if repeat:  # the first one warms up
                times[run].append(time.process_time() - started)
    return times


def _optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    return make_optimizer(model.parameters(), _spec(Method.DPO, ()).training.optimizer)


def _stepper(
    world: World, run: str, *, optimizer: torch.optim.Optimizer, frozen: PreTrainedModel | None
) -> Callable[[], None]:
    """One whole step of a method; the weights move by next to nothing and are shared."""
    name, _, kind = run.partition(", ")
    spec = _spec(Method(name), world.constraints)
    if run == _WHOLE:
        return _whole_logits_stepper(world, spec, optimizer=optimizer, frozen=frozen)
    policy = Policy(world.model, compute=torch.float32)
    online = None
    if kind.startswith("online"):
        online = OnlineReference(
            _policy(frozen), world.pairs, constraints=world.constraints, pad_id=0, device=CPU
        )
    objective = PreferenceObjective(
        spec=spec,
        pairs=world.pairs,
        places=range(len(world.pairs)),
        reference=online or world.cache,
        constraints=world.constraints,
        online=online if spec.needs_online_reference else None,
        pad_id=0,
        device=CPU,
    )
    batches = _forever(len(world.pairs))

    def step() -> None:
        objective.read(policy, next(batches), training=True).losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _whole_logits_stepper(
    world: World,
    spec: AlignSpec,
    *,
    optimizer: torch.optim.Optimizer,
    frozen: PreTrainedModel | None,
) -> Callable[[], None]:
    """A TDPO2 step as its own code does it: both models' whole logits, KL kept by autograd."""
    reference_model = _policy(frozen).model
    batches = _forever(len(world.pairs))

    def step() -> None:
        tokens = collate_pairs([world.pairs[i] for i in next(batches)], pad_id=0).tokens
        given = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        logits = world.model(**given, use_cache=False).logits
        with torch.no_grad():
            reference = reference_model(**given, use_cache=False).logits
        targets = tokens.targets
        kl = seq_kl(
            policy_logits=logits,
            reference_logits=reference,
            mask=targets.mask,
            form=KlForm.NAIVE,
        )
        loss = tdpo2_loss(
            policy=_pair(_gathered(logits, targets)),
            reference=_pair(_gathered(reference, targets)),
            seq_kl=PairValues(chosen=kl.chunk(2)[0], rejected=kl.chunk(2)[1]),
            beta=spec.beta,
            alpha=spec.alpha,
        )
        loss.losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _pair(summed: Tensor) -> PairLogps:
    chosen, rejected = summed.chunk(2)
    return PairLogps(chosen=chosen, rejected=rejected)


def _gathered(logits: Tensor, targets: Targets) -> Tensor:
    """Summed log-probabilities with everything kept, by log_softmax and gather."""
    logp = logits.log_softmax(-1).gather(2, targets.ids[..., None])[..., 0]
    return (logp * targets.mask).sum(1)


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    other = type(model)(model.config)
    other.load_state_dict(model.state_dict())
    return other.eval().requires_grad_(False)


def _policy(frozen: PreTrainedModel | None) -> Policy:
    if frozen is None:
        raise ValueError("An online method was given no frozen model.")
    return Policy(frozen, compute=torch.float32)


def _forever(n_pairs: int) -> Iterator[Sequence[int]]:
    while True:
        for start in range(0, n_pairs - 1, 2):
            yield (start, start + 1)


def _peak(name: str, run: str, root: Path) -> int:
    world = _world(name, root)
    frozen = _copy(world.model) if "online" in run else None
    step = _stepper(world, run, optimizer=_optimizer(world.model), frozen=frozen)
    step()
    step()
    return peak_memory_bytes(CPU)


def _peak_in_a_process(name: str, run: str, root: Path) -> int:
    command = [sys.executable, "-m", "bench.align", "--peak", run, "--world", name]
    done = subprocess.run(  # noqa: S603 - ourselves
        [*command, "--root", str(root)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


def _world(name: str, root: Path) -> World:
    model, pairs, constraints = _wide() if name == "wide" else _demo()
    plan = plan_reference(
        pairs,
        model=ReferenceModel(revision=name, compute=torch.float32),
        constraints=constraints,
        root=root / name,
    )
    build_reference(
        plan,
        pairs,
        policy=Policy(model, compute=torch.float32),
        constraints=constraints,
        batch_pairs=2,
        pad_id=0,
        device=CPU,
        shards=missing_shards(plan),
        after_batch=lambda _n: None,
    )
    model.requires_grad_(True)
    cache = ReferenceCache(plan, constraints)
    return World(model=model, pairs=pairs, constraints=constraints, cache=cache)


def _wide() -> tuple[PreTrainedModel, tuple[TokenPair, ...], tuple[Constraint, ...]]:
    config = Gemma2Config(
        vocab_size=_VOCAB,
        hidden_size=256,
        intermediate_size=1_024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
    )
    model = _random_model(config)
    rng = np.random.default_rng(0)
    pairs = tuple(
        TokenPair(chosen=_random_sequence(rng), rejected=_random_sequence(rng), row=i)
        for i in range(8)
    )
    g = torch.Generator().manual_seed(2)
    encoder = _random_encoder(torch.randn(64, 256, generator=g), 16_384)
    return model, pairs, (_constraint("2-random-16k", encoder, "blocks.2.hook_resid_post"),)


def _random_model(config: Gemma2Config) -> PreTrainedModel:
    model = Gemma2ForCausalLM(config).eval().requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.02)
    return model


def _random_sequence(rng: np.random.Generator) -> TokenSequence:
    ids = rng.integers(3, _VOCAB, size=80).astype(np.int32)
    return TokenSequence(ids=ids, is_response=np.arange(80) >= 32)


def _demo() -> tuple[PreTrainedModel, tuple[TokenPair, ...], tuple[Constraint, ...]]:
    source = ModelSource(kind=ModelKind.WHEEL, location=DEMO_MODEL_LOCATION)
    loaded = load_model(source, dtype=Dtype.FLOAT32, device="cpu", cache_dir=_CACHE)
    sae_source = SaeSource(kind=SaeKind.FOLDER, location=str(_DEMO_SAE))
    sae = load_sae(sae_source, device="cpu", cache_dir=_CACHE)
    pairs = encode_pairs(
        load_preferences(DemoPreferences()).pairs[:16],
        tokenizer=loaded.tokenizer,
        lengths=_spec(Method.DPO, ()).lengths,
    )
    return loaded.model, pairs, (_constraint(_DEMO_SAE.name, encoder_of(sae), sae.info.hook_name),)


def _constraint(sae_id: str, encoder: FeatureEncoder, hook_name: str) -> Constraint:
    entry = ConstraintSae(sae_id=sae_id, source=SaeSource(kind=SaeKind.FOLDER, location="-"), k=_K)
    return make_constraint(entry, encoder=encoder, hook_name=hook_name, revision=sae_id)


def _spec(method: Method, constraints: Sequence[Constraint]) -> AlignSpec:
    source = SaeSource(kind=SaeKind.FOLDER, location="-")
    return AlignSpec(
        model_id="bench",
        model=ModelSource(kind=ModelKind.FOLDER, location="-"),
        aligned_id="bench-aligned",
        method=method,
        constraint=tuple(ConstraintSae(sae_id=c.sae_id, source=source, k=c.k) for c in constraints),
    )


def _say(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")


if __name__ == "__main__":
    main()

"""A whole harvest against plain transformers and numpy: another code path to the same numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from core.db.session import session_scope
from core.domain.corpus import FileCorpusSpec
from core.domain.harvest import HarvestSpec
from tests.support.database import empty
from tests.support.harvests import (
    CONTEXT_SIZE,
    D_SAE,
    SINK_TOKEN,
    gemma_spec,
    harvested,
    llama_spec,
    sae_tensors,
    sink_spec,
)
from tests.support.jobs import claimed_job
from tests.worker.harvest import dense

BOS, EOS = 1, 2


def byte_ids(text: str) -> list[int]:
    """Ids of the tiny tokenizer: three special tokens, then GPT-2's bytes in sorted order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    signs = {byte: chr(byte) for byte in printable}
    signs |= {byte: chr(0x100 + n) for n, byte in enumerate(others)}
    place = {sign: 3 + n for n, sign in enumerate(sorted(signs.values()))}
    ids: list[int] = []
    for number, part in enumerate(text.split("<eos>")):
        ids += [EOS] * (number > 0) + [place[signs[byte]] for byte in part.encode()]
    return ids


def contexts_of(spec: HarvestSpec) -> list[tuple[int, int, list[int]]]:
    """(document, start, ids) of every context."""
    assert isinstance(spec.corpus, FileCorpusSpec)
    with Path(spec.corpus.path).open(encoding="utf-8") as file:
        texts = [text for line in file if (text := json.loads(line)["text"]).strip()]
    width = CONTEXT_SIZE - 1
    return [
        (number, start, [BOS, *ids[start : start + width]])
        for number, ids in enumerate(byte_ids(text) for text in texts)
        for start in range(0, len(ids), width)
    ]


def encode(kind: str, x, seed: int):
    """float64 activations by the published formulas."""
    w = {name: tensor.double().numpy() for name, tensor in sae_tensors(seed).items()}
    if kind == "standard":
        return np.maximum((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    pre = x @ w["W_enc"] + w["b_enc"]
    if kind == "topk":
        least = np.sort(pre, axis=-1)[..., -5:-4]
        return np.maximum(pre, 0) * (pre >= least)
    return np.maximum(pre, 0) * (pre > w["threshold"])


@torch.inference_mode()
def dense_activations(spec: HarvestSpec, kinds: list[tuple[str, int, int]], silent: set[int]):
    """One [context, pos, feature] array an SAE; each context runs alone, without padding."""
    model = AutoModelForCausalLM.from_pretrained(spec.model.location, dtype=torch.float32).eval()
    contexts = contexts_of(spec)
    found = [np.zeros((len(contexts), CONTEXT_SIZE, D_SAE)) for _ in kinds]
    for number, (_, _, ids) in enumerate(contexts):
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        scored = np.array([i > 0 and token not in silent for i, token in enumerate(ids)])
        for acts, (kind, layer, seed) in zip(found, kinds, strict=True):
            x = states[layer + 1][0].double().numpy()
            acts[number, : len(ids)] = encode(kind, x, seed) * scored[:, None]
    return model, contexts, found


SPECIAL = {0, BOS, EOS}
THREE_KINDS = [("standard", 0, 10), ("topk", 1, 11), ("jumprelu", 1, 11)]
CASES = {
    "gemma-2 with an npz": (gemma_spec, [("jumprelu", 1, 1)], SPECIAL),
    "llama with three kinds of SAE": (llama_spec, THREE_KINDS, SPECIAL),
    "llama with attention sinks": (sink_spec, THREE_KINDS, SPECIAL | {SINK_TOKEN}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("oracle")
    make, kinds, silent = CASES[request.param]
    spec = make(folder)
    with claimed_job(session_scope(engine), spec, folder) as job:
        stored, saes, facts = harvested(spec, job)
    model, contexts, acts = dense_activations(spec, kinds, silent)
    yield SimpleNamespace(
        spec=spec,
        stored=stored,
        saes=saes,
        facts=facts,
        model=model,
        contexts=contexts,
        acts=acts,
        kinds=kinds,
        silent=silent,
    )
    empty(engine)


def test_contexts_and_counts_are_those_of_the_corpus(case):
    stored, saes, facts, contexts = case.stored, case.saes, case.facts, case.contexts
    assert facts.n_contexts == len(contexts)
    assert facts.n_tokens == sum(len(ids) for _, _, ids in contexts)
    tokens = [token for _, _, ids in contexts for token in ids[1:]]
    assert facts.n_scored == sum(token not in SPECIAL for token in tokens)
    counted = sum(token not in case.silent for token in tokens)
    assert [sae.n_scored for sae in saes] == [counted] * len(saes)
    used = {c for sae in saes for c in sae.contexts.context_index.tolist()}
    assert stored.context_index.tolist() == sorted(used | set(dense.draw(11, len(contexts), 5)))
    for place, index in enumerate(stored.context_index):
        document, start, ids = contexts[index]
        assert (stored.document[place], stored.start[place]) == (document, start)
        assert stored.token_ids[place].tolist() == ids + [-1] * (CONTEXT_SIZE - len(ids))


def test_statistics_are_those_of_brute_force(case):
    saes, contexts, acts = case.saes, case.contexts, case.acts
    for sae, values in zip(saes, acts, strict=True):
        fires = values > 0
        assert sae.n_active.tolist() == fires.sum(axis=(0, 1)).tolist()
        assert sae.n_contexts.tolist() == fires.any(axis=1).sum(axis=0).tolist()
        np.testing.assert_allclose(sae.max_activation, values.max(axis=(0, 1)), rtol=1e-4)
        np.testing.assert_allclose(sae.sum_activation, values.sum(axis=(0, 1)), rtol=1e-4)
        for feature in range(D_SAE):
            exponent, counts = dense.histogram(values[:, :, feature][fires[:, :, feature]])
            assert sae.histogram_exponent[feature] == exponent
            assert sae.histogram[feature].tolist() == counts
            context, position = np.unravel_index(values[:, :, feature].argmax(), values.shape[:2])
            dead = not fires[:, :, feature].any()
            assert sae.peak_token[feature] == (-1 if dead else contexts[context][2][position])
        assert (sae.n_active > 0).any()


def rows_of(rows, feature: int):
    """(band, context, dense line) of each row of a feature."""
    for row in range(rows.row_offsets[feature], rows.row_offsets[feature + 1]):
        entry = slice(rows.nnz_offsets[row], rows.nnz_offsets[row + 1])
        line = np.zeros(CONTEXT_SIZE)
        line[rows.positions[entry]] = rows.values[entry]
        yield int(rows.band[row]), int(rows.context_index[row]), line


def test_every_row_and_its_band_is_that_of_brute_force_with_all_activations(case):
    spec, saes, acts = case.spec, case.saes, case.acts
    limits = {name: getattr(spec, name) for name in ("n_top", "n_sampled", "n_per_band", "seed")}
    for sae, values in zip(saes, acts, strict=True):
        for feature in range(D_SAE):
            found = list(rows_of(sae.contexts, feature))
            assert [row[:2] for row in found] == dense.kept(
                dense.peaks(values, feature), feature, **limits
            )
            for _, context, line in found:
                np.testing.assert_allclose(line, values[context, :, feature], rtol=1e-3, atol=1e-5)


def test_random_contexts_are_the_drawn_ones_with_all_activations(case):
    spec, saes, contexts, acts = case.spec, case.saes, case.contexts, case.acts
    drawn = dense.draw(spec.seed, len(contexts), spec.n_random)
    for sae, values in zip(saes, acts, strict=True):
        for feature in range(D_SAE):
            found = list(rows_of(sae.random, feature))
            assert sorted(row[1] for row in found) == sorted(drawn)
            for band, context, line in found:
                assert band == 5
                np.testing.assert_allclose(line, values[context, :, feature], rtol=1e-3, atol=1e-5)


def test_coactivation_is_phi_on_the_drawn_contexts(case):
    spec, saes, contexts, acts = case.spec, case.saes, case.contexts, case.acts
    drawn = dense.draw(spec.seed, len(contexts), spec.n_coactivation)
    scored = np.array(
        [
            [0 < i < len(ids) and ids[i] not in case.silent for i in range(CONTEXT_SIZE)]
            for _, _, ids in contexts
        ]
    )
    for sae, values in zip(saes, acts, strict=True):
        fires = (values > 0)[drawn][scored[drawn]]
        for feature in range(D_SAE):
            phi = [dense.phi(fires[:, feature], fires[:, other]) for other in range(D_SAE)]
            both = (fires & fires[:, [feature]]).sum(axis=0)
            good = [g for g in range(D_SAE) if g != feature and phi[g] > 1e-9 and both[g] >= 3]
            best = sorted(good, key=lambda g: (-round(phi[g], 9), g))[: spec.n_neighbours]
            found = [g for g in sae.coactivation.index[feature].tolist() if g >= 0]
            assert found == best
            support = sae.coactivation_support[feature][: len(best)]
            assert support.tolist() == both[best].tolist()
            np.testing.assert_allclose(
                sae.coactivation.value[feature][: len(best)], [phi[g] for g in best], rtol=1e-5
            )


def test_neighbours_and_logit_effects_are_those_of_the_weights(case):
    saes, model, kinds = case.saes, case.model, case.kinds
    gain = model.model.norm.weight.detach().double().numpy()
    gain = 1 + gain if "Gemma" in type(model).__name__ else gain
    head = model.lm_head.weight.detach().double().numpy()
    for sae, (_, _, seed) in zip(saes, kinds, strict=True):
        rows = sae_tensors(seed)["W_dec"].double().numpy()
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosine = unit @ unit.T - 9 * np.eye(D_SAE)
        assert sae.decoder_cosine.index.tolist() == np.argsort(-cosine)[:, :3].tolist()
        logits = (rows * gain) @ head.T
        assert sae.logit_effect.top_ids.tolist() == np.argsort(-logits)[:, :4].tolist()
        assert sae.logit_effect.bottom_ids.tolist() == np.argsort(logits)[:, :4].tolist()
        np.testing.assert_allclose(sae.logit_effect.top_values, -np.sort(-logits)[:, :4], rtol=1e-3)

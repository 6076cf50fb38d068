"""The training command on a two-layer model: capture, train, judge, record, go on."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.tiny_models import as_loaded
from worker.lm.capture import capture as capture_streams
from worker.lm.capture import replaced
from worker.lm.tokens import make_contexts
from worker.sae_training.__main__ import main
from worker.sae_training.activation_cache import capture_to_disk, open_cache
from worker.sae_training.inference_weights import load_weights
from worker.sae_training.metrics import loss_metrics

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
TEXTS = [f"story {i} tells of {i * 7} ships and {i % 5} stars at sea. " * 6 for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer():
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], show_progress=False)
    tokens.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>")  # noqa: S106 - a token, no password


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                bos_token_id=0,
                eos_token_id=0,
            )
        ).eval()


@pytest.fixture(scope="module")
def model_dir(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def arguments(model_dir, tmp_path):
    corpus = tmp_path / "texts.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    options = {
        "--model": model_dir,
        "--corpus": corpus,
        "--d-sae": 32,
        "--k": 4,
        "--epochs": 3,
        "--context-size": 16,
        "--set-name": "test",
        "--out-dir": tmp_path / "out",
        "--work-dir": tmp_path / "work",
        "--threads": 1,
    }
    return ["--layers", "0", "1", *(str(part) for pair in options.items() for part in pair)]


def test_command_writes_weights_and_record_and_repeats_itself(arguments, tmp_path):
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "1-test" / "record.json").read_text())
    assert record["hook_name"] == "blocks.1.hook_resid_post"
    assert record["held_out"]["n_tokens"] > 500
    assert record["held_out"]["l0"] == pytest.approx(4, rel=0.25)
    assert 0 < record["held_out"]["explained_variance"] < 1
    weights = tmp_path / "out" / "0-test" / "sae_weights.safetensors"
    assert load_file(weights)["W_enc"].dtype == torch.float16
    before = weights.read_bytes()
    assert main(arguments) == 0  # everything is found in the work folder
    assert weights.read_bytes() == before


def test_errors_end_the_command_with_a_sentence(arguments, caplog):
    at = arguments.index("--corpus") + 1
    assert main([*arguments[:at], "/nowhere.txt", *arguments[at + 1 :]]) == 2
    assert "There is no file /nowhere.txt" in caplog.text


def test_contexts_start_with_bos_and_keep_every_token(tokenizer):
    contexts = make_contexts(tokenizer, TEXTS[:3], context_size=16)
    assert (contexts.input_ids[:, 0] == 0).all()
    assert not contexts.scored[:, 0].any()
    n_tokens = sum(len(ids) for ids in tokenizer(TEXTS[:3])["input_ids"])
    assert int(contexts.scored.sum()) == n_tokens
    assert torch.equal(contexts.scored[:, 1:], contexts.attention_mask[:, 1:].bool())


def test_capture_equals_hidden_states_and_continues_after_a_stop(model, tokenizer, tmp_path):
    contexts = make_contexts(tokenizer, TEXTS[:8], context_size=16)
    calls = []

    def capture(ids, mask):
        calls.append(len(ids))
        if len(calls) == 3:
            raise KeyboardInterrupt
        found = capture_streams(as_loaded(model), ids, mask, HOOKS)
        return {name: rows.bfloat16() for name, rows in found.items()}

    options = {"hook_names": HOOKS, "folder": tmp_path, "batch_contexts": 4}
    with pytest.raises(KeyboardInterrupt):
        capture_to_disk(contexts, capture, **options)
    capture_to_disk(contexts, capture, **options)
    assert sum(calls) == len(contexts) + 4  # only the stopped batch ran twice
    with torch.inference_mode():
        states = model.model(
            input_ids=contexts.input_ids,
            attention_mask=contexts.attention_mask,
            output_hidden_states=True,
        ).hidden_states
    cache = open_cache(tmp_path, HOOKS[0])
    expected = states[1][contexts.scored]
    torch.testing.assert_close(cache.slice(0, len(cache)).float(), expected, atol=0.02, rtol=0.01)


def test_replacing_the_residual_by_itself_changes_nothing(model, tokenizer):
    contexts = make_contexts(tokenizer, TEXTS[:2], context_size=16)
    with torch.inference_mode():
        clean = model(input_ids=contexts.input_ids).logits
        with replaced(model, HOOKS[0], where=contexts.scored, replace=lambda rows: rows):
            same = model(input_ids=contexts.input_ids).logits
        with replaced(model, HOOKS[0], where=contexts.scored, replace=torch.zeros_like):
            zeroed = model(input_ids=contexts.input_ids).logits
        after = model(input_ids=contexts.input_ids).logits
    assert torch.equal(clean, same)
    assert torch.equal(clean, after)
    assert not torch.equal(clean, zeroed)
    assert torch.equal(clean[:, 0], zeroed[:, 0])  # BOS is never replaced


def test_loss_metrics_count_scored_targets(model, tokenizer, arguments, tmp_path):
    main(arguments)
    weights = load_weights(tmp_path / "out" / "0-test")
    contexts = make_contexts(tokenizer, TEXTS[:4], context_size=16)
    metrics = loss_metrics(
        model, contexts, weights, hook_name=HOOKS[0], mean=torch.zeros(16), batch_contexts=3
    )
    assert metrics.n_tokens == int(contexts.scored[:, 1:].sum())
    assert metrics.with_mean == metrics.with_zero  # the mean given here is zero
    with torch.inference_mode():
        logits = model(
            input_ids=contexts.input_ids, attention_mask=contexts.attention_mask
        ).logits.log_softmax(-1)
    chosen = logits[:, :-1].gather(-1, contexts.input_ids[:, 1:, None]).squeeze(-1)
    expected = -chosen[contexts.scored[:, 1:]].mean()
    assert metrics.clean == pytest.approx(float(expected), abs=1e-4)

"""A tiny Llama with a byte-level tokenizer as a GGUF file."""

from pathlib import Path

import gguf
import numpy as np

D_MODEL, D_FF, N_HEADS, N_LAYERS = 64, 64, 2, 2


def write_gguf(path: Path, *, seed: int) -> Path:
    """Random float32 weights; 259 tokens, one a byte and three special ones."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(D_MODEL)
    writer.add_feed_forward_length(D_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_HEADS)
    writer.add_rope_dimension_count(D_MODEL // N_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = _add_tokenizer(writer)
    for name, shape in _shapes(len(tokens)).items():
        values = rng.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(name, 1 + values if "norm" in name else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = sorted(bytes_to_unicode().values())
    tokens = ["<pad>", "<bos>", "<eos>", *letters, "ab"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control] * 3 + [normal] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    return tokens


def _shapes(vocab_size: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocab_size, D_MODEL),
        "output_norm.weight": (D_MODEL,),
        "output.weight": (vocab_size, D_MODEL),
    }
    for layer in range(N_LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.attn_{name}.weight": (D_MODEL, D_MODEL) for name in "qkv"}
        shapes |= {f"{block}.attn_output.weight": (D_MODEL, D_MODEL)}
        shapes |= {f"{block}.{name}_norm.weight": (D_MODEL,) for name in ("attn", "ffn")}
        shapes |= {f"{block}.ffn_{name}.weight": (D_FF, D_MODEL) for name in ("gate", "up")}
        shapes |= {f"{block}.ffn_down.weight": (D_MODEL, D_FF)}
    return shapes

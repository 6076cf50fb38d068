"""A tokenizer built like Gemma's: ▁ for space, no space in front, a token for every byte."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>")
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?()'\"-\né日本"
MERGES = (("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "▁"), ("i", "n"), ("日", "本"), ("\n", "\n"))


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """<bos> is id 2, as in Gemma; "▁▁" is an added token without being special, as there."""
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    pieces += ["".join(pair) for pair in MERGES]
    inner = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=list(MERGES),
            byte_fallback=True,
            fuse_unk=True,
            unk_token="<unk>",  # noqa: S106 - the unknown token, no password
        )
    )
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens([AddedToken("<start_of_turn>", special=True, normalized=False)])
    inner.add_tokens([AddedToken("▁▁", special=False, normalized=False)])
    pad, eos, bos, unk = SPECIALS
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, eos_token=eos, bos_token=bos, unk_token=unk
    )

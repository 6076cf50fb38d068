"""The ``sparsight`` command and its subcommands."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from core.cli import jobs, options
from core.cli.console import read_settings, run, say
from core.cli.demo import run_up
from core.cli.harvest import make_spec, submit_and_follow
from core.cli.sources import id_of_model, parse_corpus, parse_model, parse_sae
from core.cli.stack import check_port
from core.db.embedded import database
from core.db.migrate import migrate as migrate_database
from core.domain.corpus import CorpusSpec
from core.domain.ids import check_model_id
from core.domain.preset import load_preset
from core.errors import Invalid

app = typer.Typer(
    name="sparsight",
    help="Explain, label and align language models with SAE features.\n\n"
    "Begin with `sparsight demo`. Settings come from the environment or a file .env; "
    "see .env.example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(jobs.app, name="jobs")


@app.command()
def demo(
    *,
    host: options.Host = None,
    port: options.Port = None,
    data: options.Data = None,
    open_page: options.Open = False,
    verbose: options.Verbose = False,
) -> None:
    """Start everything and harvest a small real model; minutes on a laptop.

    The page is there at once and fills when the harvest ends. A second start finds the features.
    """
    settings = read_settings(host=host, port=port, data_dir=data)
    raise typer.Exit(run_up(settings, demo=True, open_page=open_page, verbose=verbose))


@app.command()
def up(
    *,
    host: options.Host = None,
    port: options.Port = None,
    data: options.Data = None,
    open_page: options.Open = False,
    verbose: options.Verbose = False,
) -> None:
    """Start everything on this machine: database, web pages and one worker."""
    settings = read_settings(host=host, port=port, data_dir=data)
    raise typer.Exit(run_up(settings, demo=False, open_page=open_page, verbose=verbose))


@app.command()
def harvest(
    *,
    preset: options.Preset = None,
    model: options.Model = None,
    sae: options.Sae = None,
    corpus: options.Corpus = None,
    column: options.Column = None,
    max_tokens: options.MaxTokens = None,
    max_documents: options.MaxDocuments = None,
    model_id: options.ModelId = None,
    context_size: options.ContextSize = None,
    n_top: options.NTop = None,
    seed: options.Seed = None,
    dtype: options.Format = None,
    device: options.Device = None,
    detach: options.Detach = False,
    data: options.Data = None,
    verbose: options.Verbose = False,
) -> None:
    """Collect the evidence of every feature of one or more SAEs over a corpus.

    Shows progress to the end; Ctrl-C leaves or cancels it. Without a running worker
    (`sparsight up`) one is started for this harvest.

    Examples: sparsight harvest --preset gemma-2-2b

    sparsight harvest --model HuggingFaceTB/SmolLM2-135M --sae ./my-sae --corpus news.jsonl
    """
    source = None if model is None else parse_model(model)
    named = model_id if model_id is not None or source is None else id_of_model(source)
    changes = {
        "model": source,
        "model_id": None if named is None else check_model_id(named),
        "saes": tuple(parse_sae(text) for text in sae) if sae else None,
        "corpus": _corpus(
            preset, corpus, column, max_tokens=max_tokens, max_documents=max_documents
        ),
        "context_size": context_size,
        "n_top": n_top,
        "seed": seed,
        "dtype": dtype,
        "device": device,
    }
    spec = make_spec(preset, changes)
    settings = read_settings(data_dir=data)
    raise typer.Exit(submit_and_follow(settings, spec, detach=detach, verbose=verbose))


@app.command()
def web(*, host: options.Host = None, port: options.Port = None) -> None:
    """Serve the pages and the REST API; needs a migrated database."""
    settings = read_settings(host=host, port=port)
    check_port(settings.host, settings.port)
    _become("app.main", "--host", settings.host, "--port", str(settings.port))


@app.command()
def worker(
    *,
    queues: Annotated[
        str, typer.Option(help="What to work on: gpu (models), llm (endpoints), ctl (upkeep).")
    ] = "gpu,llm,ctl",
) -> None:
    """Work on jobs until stopped; one worker for each GPU."""
    read_settings()
    _become("worker.main", "--queues", queues)


@app.command()
def migrate() -> None:
    """Bring the database to this version's tables; safe to run at any time."""
    settings = read_settings()
    with database(settings.database_url, settings.data_dir) as url:
        migrate_database(url)
    say("The database is up to date.")


def main() -> int:
    """The entry of the ``sparsight`` command."""
    return run(app)


def _corpus(
    preset: str | None,
    text: str | None,
    column: str | None,
    *,
    max_tokens: int | None,
    max_documents: int | None,
) -> CorpusSpec | None:
    """The corpus of the options, or the preset's with the options' limits; None without either."""
    if text is not None:
        return parse_corpus(text, column=column, max_tokens=max_tokens, max_documents=max_documents)
    limits = {"max_tokens": max_tokens, "max_documents": max_documents}
    given = {name: value for name, value in limits.items() if value is not None}
    if preset is None or not given:
        return None
    return load_preset(preset).corpus.model_copy(update=given)


def _become(module: str, *arguments: str) -> None:
    """Replace this process by another one of ours, so that signals reach it directly."""
    if not _is_installed(module):
        raise Invalid(
            f"This installation has no {module.split('.')[0]}.",
            hint=f"Install it: pip install 'sparsight[{module.split('.')[0]}]'",
        )
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


def _is_installed(module: str) -> bool:
    return find_spec(module.split(".")[0]) is not None


if __name__ == "__main__":
    sys.exit(main())

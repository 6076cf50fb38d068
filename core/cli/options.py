"""Options of the command line that several commands or one long one have."""

from pathlib import Path
from typing import Annotated

import typer

from core.domain.model import Dtype
from core.domain.preset import list_presets

Host = Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on (default 8750).", min=1, max=65_535)
]
Data = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the database and of running jobs.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show the logs of all processes.")]

Preset = Annotated[
    str | None,
    typer.Option(help=f"Start from a preset: {', '.join(list_presets())}, or a TOML file."),
]
Model = Annotated[
    str | None,
    typer.Option(help="Hub repository (owner/name or owner/name@revision), folder, .gguf file."),
]
Sae = Annotated[
    list[str] | None,
    typer.Option(
        help="A sae-lens folder, a params.npz, or RELEASE:ID of sae-lens; NAME=… gives it an id, "
        "…@HOOK its hook point where the files do not name it. "
        "Give the option again for more layers."
    ),
]
Corpus = Annotated[
    str | None,
    typer.Option(help="Text: a file (.txt .jsonl .parquet), a folder, a hub dataset, or demo."),
]
Column = Annotated[
    str | None, typer.Option(help="Field of the text in JSON lines, Parquet or a dataset.")
]
MaxTokens = Annotated[int | None, typer.Option(help="Stop after so many tokens.", min=1)]
MaxDocuments = Annotated[int | None, typer.Option(help="Stop after so many documents.", min=1)]
ModelId = Annotated[str | None, typer.Option(help="Id of the model in addresses.")]
ContextSize = Annotated[int | None, typer.Option(help="Tokens a context.", min=8)]
NTop = Annotated[int | None, typer.Option(help="Top contexts kept a feature.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Seed of every sample.", min=0, max=2**53 - 1)]
Format = Annotated[Dtype | None, typer.Option(help="Number format of the model.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit and return at once.")]

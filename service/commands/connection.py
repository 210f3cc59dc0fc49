"""Which service the command line speaks with, and with which key."""

import os
from pathlib import Path
from typing import Annotated

import typer

from service.client import Client
from service.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str,
    typer.Option("--url", envvar="MODEL_AUDIT_URL", help="Address of the service."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="API key; default: MODEL_AUDIT_API_KEY, else the key that the service on "
        "this machine keeps in its data folder.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder for database, files and the first key; default: "
        "MODEL_AUDIT_DATA_DIR, else ~/.local/share/model-audit.",
    ),
]


def find_key(data_dir: Path | None = None) -> str | None:
    """Find the key of this machine's service, if there is one."""
    given = os.environ.get("MODEL_AUDIT_API_KEY")
    if given:
        return given
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    try:
        return settings.key_file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def connect(url: str, key: str | None, data_dir: Path | None = None) -> Client:
    """Open a client with the given key, or the one that is found here."""
    return Client(url, key or find_key(data_dir))

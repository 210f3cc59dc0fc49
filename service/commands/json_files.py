"""JSON files that a person names on the command line."""

import json
import sys
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a file, or standard input where it is called `-`.

    UTF-8, UTF-16 and UTF-32, with or without a byte order mark: shells on Windows
    write all of these.

    Raises:
        ValueError: it is no such text, or no JSON.
        OSError: it cannot be read.
    """
    content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    return json.loads(content)

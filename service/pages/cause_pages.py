"""The documentation of the causes, from `docs/causes`, one page each."""

from functools import cache
from pathlib import Path

from markupsafe import Markup

from service.contract.causes import CATALOGUE, CatalogueEntry, Cause

# In a wheel the texts lie beside this file, in a checkout under docs/.
FOLDERS = (
    Path(__file__).parent / "causes",
    Path(__file__).parents[2] / "docs" / "causes",
)


@cache
def cause_page(cause: Cause) -> Markup:
    """Read one page and turn it into HTML.

    Raises:
        FileNotFoundError: the texts were not installed.
    """
    for folder in FOLDERS:
        path = folder / f"{cause.value}.md"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            # Here, since the start of the service need not wait for it.
            from markdown_it import MarkdownIt  # noqa: PLC0415

            markdown = MarkdownIt("commonmark", {"html": False})
            return Markup(markdown.render(text))  # noqa: S704 - our own texts
    raise FileNotFoundError(f"{cause.value}.md")


def by_group() -> dict[str, list[CatalogueEntry]]:
    """Sort the catalogue by group, in the order of the contract."""
    groups: dict[str, list[CatalogueEntry]] = {}
    for entry in CATALOGUE:
        groups.setdefault(entry.group.value, []).append(entry)
    return groups

from pathlib import Path

import pytest

from service.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FIELDS = [
    (name, field)
    for settings in (Settings, WorkerSettings)
    for name, field in settings.model_fields.items()
]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_every_setting_stands_in_the_readme_with_what_it_is(name, field):
    [row] = [
        line
        for line in README.splitlines()
        if line.startswith(f"| `MODEL_AUDIT_{name.upper()}` |")
    ]

    assert (field.description or "How much is logged.") in row


def test_the_readme_names_no_setting_that_does_not_exist():
    named = {
        line.split("`")[1].removeprefix("MODEL_AUDIT_").lower()
        for line in README.splitlines()
        if line.startswith("| `MODEL_AUDIT_")
    }

    assert named == {name for name, _ in FIELDS}


def test_the_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()

    for target in ("demo", "test", "serve"):
        assert f"make {target}" in README
        assert f"\n{target}:" in makefile


def test_the_key_lies_where_the_readme_says(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")

    assert f"{settings.key_file.parent.name}/{settings.key_file.name}" in README

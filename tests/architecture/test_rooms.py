import ast
import re
from pathlib import Path

from service.contract.causes import BY_CAUSE, CATALOGUE, Cause
from worker.engine.catalog import CATALOG
from worker.engine.combination import CHEAPEST_FIRST
from worker.engine.inspection import INSPECTIONS
from worker.engine.probes.table import PROBES

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for room in ("service", "worker")
    for path in (ROOT / room).rglob("*.py")
    if "migrations" not in path.parts
]


def test_every_cause_stands_in_the_catalogue_once():
    assert [entry.cause for entry in CATALOGUE] == list(Cause)


def test_every_cause_has_one_check_in_a_file_of_its_name():
    assert [check.cause for check in CATALOG] == list(Cause)
    for check in CATALOG:
        module = type(check).__module__
        assert module == f"worker.engine.checks.{check.cause.value}"


def test_every_cause_has_a_page():
    pages = {path.stem for path in (ROOT / "docs/causes").glob("*.md")}

    assert {cause.value for cause in Cause} <= pages


def test_a_cause_that_needs_a_recipe_field_says_so_in_the_catalogue():
    assert BY_CAUSE[Cause.INSUFFICIENT_TRAINING].needs == ("epochs",)
    assert BY_CAUSE[Cause.UNSUITABLE_LOSS].needs == ("loss.name",)


def test_every_probe_is_asked_for_and_every_inspection_has_one():
    assert set(INSPECTIONS) - {"cost"} == set(PROBES)


def test_every_cause_that_can_be_mended_has_a_place_in_the_order_of_preference():
    assert len(set(CHEAPEST_FIRST)) == len(CHEAPEST_FIRST)
    trained = {c for c, entry in BY_CAUSE.items() if entry.group != "deployment"}
    assert trained == set(CHEAPEST_FIRST)


def test_a_room_says_what_lives_in_it_and_nothing_else():
    for path in SOURCES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_only_the_database_room_commits():
    commits = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if re.search(r"\.commit\(", path.read_text())
    }

    assert commits <= {"service/store/database.py"}, commits


def test_nothing_unpickles():
    loads = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if re.search(r"torch\.load\(|pickle\.load|allow_pickle=True", path.read_text())
    }

    for name in loads:
        assert "weights_only=True" in (ROOT / name).read_text(), name


def test_broad_excepts_say_why():
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"except (Base)?Exception\b", line):
                assert "#" in line or "raise" in path.read_text(), f"{path}:{number}"

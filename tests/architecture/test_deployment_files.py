"""What the images and the compose file promise, read from the files themselves.

Whether they build and run is seen by building and running them; see docs/deployment.md.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from service.cli import app
from service.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
STORES = {"postgres", "valkey", "s3"}
OURS = {"service", "scheduler", "worker", "worker-gpu"}
SECRETS = {
    "MODEL_AUDIT_API_KEY",
    "POSTGRES_PASSWORD",
    "VALKEY_PASSWORD",
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
}


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def variables() -> list[tuple[str, str]]:
    """Every `${NAME…}` of the compose file, with what follows the name."""
    text = COMPOSE.read_text()
    return re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)([^}]*)\}", text)


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        begins = re.match(r"FROM (\S+) AS (\S+)", line)
        if begins:
            source, name = begins.groups()
            found[name] = list(found.get(source, []))
        elif found and line.strip():
            found[next(reversed(found))].append(line.strip())
    return found


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command of ours that a container runs, without `model-audit`."""
    for name, parts in services().items():
        if name in OURS and "command" in parts:
            yield f"compose {name}", parts["command"]
        if name in OURS and "healthcheck" in parts:
            yield f"compose {name} health", parts["healthcheck"]["test"][2:]
    for name in ("service", "worker"):
        for line in stages()[name]:
            if re.match(r"CMD \[|HEALTHCHECK .*CMD \[", line):
                words = shlex.split(line[line.index("[") + 1 : -1].replace(",", " "))
                yield (
                    f"Dockerfile {name}: {line[:11]}",
                    (words[1:] if words[0] == "model-audit" else words),
                )


def test_the_compose_file_follows_the_compose_specification() -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and file
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(COMPOSE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_part_of_the_issue_is_there() -> None:
    assert set(services()) == OURS | STORES


@pytest.mark.parametrize("name", sorted(OURS | STORES))
def test_no_container_has_rights_or_writes_to_its_root(name: str) -> None:
    parts = services()[name]

    assert parts["cap_drop"] == ["ALL"]
    assert "cap_add" not in parts
    assert "privileged" not in parts
    assert parts["security_opt"] == ["no-new-privileges:true"]
    assert parts["read_only"] is True
    assert parts["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(STORES | {"scheduler"}))
def test_what_others_wait_for_has_a_health_check(name: str) -> None:
    assert services()[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_parts_wait_until_the_stores_are_healthy(name: str) -> None:
    waits = services()[name]["depends_on"]

    assert set(waits) == STORES
    assert {wait["condition"] for wait in waits.values()} == {"service_healthy"}


def test_only_the_service_can_be_reached_and_by_default_from_this_machine() -> None:
    published = {name: parts.get("ports") for name, parts in services().items()}

    assert {name for name, ports in published.items() if ports} == {"service"}
    assert published["service"] == [
        "${MODEL_AUDIT_BIND:-127.0.0.1}:${MODEL_AUDIT_PORT:-8000}:8000"
    ]


def test_workers_and_stores_have_no_way_out() -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    inside = STORES | {"worker", "worker-gpu"}

    assert networks["back"] == {"internal": True}
    assert all(services()[name]["networks"] == ["back"] for name in inside)


def test_a_gpu_is_reserved_only_for_the_profile_gpu() -> None:
    reserving = {name: parts for name, parts in services().items() if "deploy" in parts}

    assert set(reserving) == {"worker-gpu"}
    parts = reserving["worker-gpu"]
    assert parts["profiles"] == ["gpu"]
    [device] = parts["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert parts["environment"]["MODEL_AUDIT_DEVICE"] == "cuda:0"


def test_no_password_has_a_default() -> None:
    asked = [(name, rest) for name, rest in variables() if name in SECRETS]

    assert {name for name, _ in asked} == SECRETS
    assert all(rest.startswith(":?") for _, rest in asked)
    assert {name for name, rest in variables() if rest.startswith(":?")} == SECRETS


def test_the_example_names_every_variable_and_gives_away_no_secret() -> None:
    lines = re.findall(r"^(#?)([A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)

    assert {name for _, name, _ in lines} == {name for name, _ in variables()}
    assert {name for hash_, name, _ in lines if not hash_} == SECRETS
    assert all(value == "" for _, name, value in lines if name in SECRETS)


def test_the_example_shows_the_defaults() -> None:
    defaults = {name: rest[2:] for name, rest in variables() if rest.startswith(":-")}

    lines = re.findall(r"^#([A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)

    assert dict(lines) == defaults


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_that_is_set_exists(name: str) -> None:
    fields = {*Settings.model_fields, *WorkerSettings.model_fields}

    given = {
        variable.removeprefix("MODEL_AUDIT_").lower()
        for variable in services()[name]["environment"]
        if variable.startswith("MODEL_AUDIT_")
    }

    assert given
    assert given <= fields


def test_every_command_that_a_container_runs_exists() -> None:
    commands = typer.main.get_group(app).commands
    lines = list(command_lines())

    # make_context parses and calls nothing; a wrong word or option raises.
    for _, (name, *arguments) in lines:
        commands[name].make_context(name, arguments)

    assert len(lines) == 6


def test_the_images_do_not_run_as_root() -> None:
    for name in ("service", "worker"):
        users = [line for line in stages()[name] if line.startswith("USER ")]
        assert users == ["USER 10001:10001"]


def test_the_images_check_their_own_health_with_what_they_have() -> None:
    for name in ("service", "worker"):
        [check] = [line for line in stages()[name] if line.startswith("HEALTHCHECK")]
        assert f'CMD ["model-audit", "health", "{name}"]' in check


def test_the_service_image_takes_nothing_from_the_stage_with_torch() -> None:
    assert not any("worker-libraries" in line for line in stages()["service"])
    assert not any("torch" in line for line in stages()["service-libraries"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=~ ]", line)[0] for line in project["dependencies"]}
    assert names.isdisjoint({"torch", "numpy", "scikit-learn", "cleanlab"})


def test_all_libraries_are_held_to_the_constraints() -> None:
    installs = {
        line
        for lines in stages().values()
        for line in lines
        for _ in re.findall("pip .*install", line)
    }

    assert len(installs) == 3
    for line in installs:
        parts = line.split("pip --python")[1:]
        assert all("constraint" in part for part in parts) or "PIP_CONSTRAINT" in line


def test_nothing_but_what_is_copied_reaches_the_build() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    copied = {
        source
        for stage in stages().values()
        for line in stage
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    }

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)

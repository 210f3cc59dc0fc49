import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.commands import local_engine
from tests.builders_report import make_finding, make_healthy_report, make_report
from tests.service.commands.fake_service import AUDIT, FakeService, serving

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_AUDIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("MODEL_AUDIT_API_KEY", raising=False)
    (tmp_path / "m.pt").write_bytes(b"model")
    (tmp_path / "d.npz").write_bytes(b"data")
    (tmp_path / "r.json").write_text('{"optimizer": {"lr": 0.5}}')
    return tmp_path


@pytest.fixture
def faulty() -> Iterator[FakeService]:
    with serving(FakeService(make_report())) as fake:
        yield fake


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_an_audit_uploads_waits_prints_and_exits_by_the_gate(
    files: Path, faulty: FakeService
) -> None:
    page = files / "page.html"

    code, output = run(
        "audit", files / "m.pt", files / "d.npz", "--recipe", files / "r.json",
        "--url", faulty.url, "--html", page, "--tag", "nightly",
    )  # fmt: skip

    assert code == 1
    assert "Learning rate too high" in output
    assert "Learning rate too high" in page.read_text()
    body = next(
        json.loads(b) for m, p, _, b in faulty.asked if (m, p) == ("POST", "/v1/audits")
    )
    assert body["recipe"] == {"optimizer": {"lr": 0.5}}
    assert body["policy"] == {"fail_on": "minor"}
    assert body["tags"] == ["nightly"]


def test_a_passed_gate_exits_with_zero(files: Path) -> None:
    with serving(FakeService(make_healthy_report())) as fake:
        code, output = run("audit", files / "m.pt", files / "d.npz", "--url", fake.url)

    assert code == 0
    assert "No fault found" in output


def test_no_repaired_model_is_no_error(files: Path) -> None:
    with serving(FakeService(make_healthy_report())) as fake:
        code, output = run(
            "audit", files / "m.pt", files / "d.npz", "--url", fake.url,
            "--repaired", files / "better.pt",
        )  # fmt: skip

    assert code == 0
    assert "No fault found" in output
    assert "no repaired model" in output
    assert not (files / "better.pt").exists()


def test_a_failed_audit_exits_with_three_and_says_why(files: Path) -> None:
    with serving(FakeService(make_report(), status="failed")) as fake:
        code, output = run("audit", files / "m.pt", files / "d.npz", "--url", fake.url)

    assert code == 3
    assert "killed" in output


def test_a_service_that_does_not_answer_exits_with_three(files: Path) -> None:
    code, output = run("audit", files / "m.pt", files / "d.npz", "--url", NOBODY)

    assert code == 3
    assert "model-audit serve" in output


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("r.json", '{"epochs": 0}', "/epochs"),
        ("r.json", "{", "not JSON"),
        ("r.json", '{"speed": 1}', "/speed"),
        ("r.json", '{"schedule": "cosine"}', "/schedule: Input should be a JSON obj"),
        ("r.json", '{"normalization": {"mean": 1}}', "valid:\n  /normalization/std:"),
        ("r.json", b"{\xff}", "not JSON"),
    ],
)
def test_a_bad_recipe_exits_with_two_before_anything_is_uploaded(
    files: Path, faulty: FakeService, name: str, content: str | bytes, complaint: str
) -> None:
    text = content if isinstance(content, bytes) else content.encode()
    (files / name).write_bytes(text)

    code, output = run(
        "audit", files / "m.pt", files / "d.npz", "--recipe", files / name,
        "--url", faulty.url,
    )  # fmt: skip

    assert code == 2
    assert complaint in output
    assert not faulty.asked


@pytest.mark.parametrize("option", ["--html", "--repaired"])
def test_a_folder_that_is_not_there_is_named_before_anything_is_uploaded(
    files: Path, faulty: FakeService, option: str
) -> None:
    code, output = run(
        "audit", files / "m.pt", files / "d.npz", "--url", faulty.url,
        option, files / "nowhere" / "file",
    )  # fmt: skip

    assert code == 2
    assert "nowhere" in output
    assert not faulty.asked


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_recipe_is_read_in_any_encoding_of_unicode(
    files: Path, faulty: FakeService, encoding: str
) -> None:
    (files / "r.json").write_text('{"epochs": 7}', encoding=encoding)

    run(
        "audit", files / "m.pt", files / "d.npz", "--recipe", files / "r.json",
        "--url", faulty.url, "--detach",
    )  # fmt: skip

    assert json.loads(faulty.asked[-1][3])["recipe"] == {"epochs": 7}


def test_a_missing_file_exits_with_two(files: Path, faulty: FakeService) -> None:
    code, output = run("audit", files / "no.pt", files / "d.npz", "--url", faulty.url)

    assert code == 2
    assert "no.pt" in output


def test_an_unknown_audit_exits_with_two(faulty: FakeService) -> None:
    code, output = run("report", "aud_unknown", "--url", faulty.url)

    assert code == 2
    assert "There is no such thing" in output


def test_the_key_of_this_machine_is_picked_up(files: Path, faulty: FakeService) -> None:
    (files / "data").mkdir()
    (files / "data" / "admin-key").write_text("mak_secret\n")

    run("report", AUDIT, "--url", faulty.url)

    assert faulty.asked[0][2]["authorization"] == "Bearer mak_secret"


def test_the_environment_goes_before_the_key_file(
    files: Path, faulty: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "data").mkdir()
    (files / "data" / "admin-key").write_text("mak_from_the_file")
    monkeypatch.setenv("MODEL_AUDIT_API_KEY", "mak_from_the_environment")

    run("report", AUDIT, "--url", faulty.url)

    assert faulty.asked[0][2]["authorization"] == "Bearer mak_from_the_environment"


def test_posts_carry_an_idempotency_key_of_their_own(
    files: Path, faulty: FakeService
) -> None:
    run("audit", files / "m.pt", files / "d.npz", "--url", faulty.url)

    keys = [
        headers["idempotency-key"] for m, _, headers, _ in faulty.asked if m == "POST"
    ]
    assert len(set(keys)) == 3


def test_waiting_asks_for_changes_only(files: Path, faulty: FakeService) -> None:
    run("audit", files / "m.pt", files / "d.npz", "--url", faulty.url)

    polls = [h for _, path, h, _ in faulty.asked if path == f"/v1/audits/{AUDIT}"]
    assert "if-none-match" not in polls[0]
    assert all("wait=" in h["prefer"] and h["if-none-match"] for h in polls[1:])


@pytest.mark.parametrize("form", ["json", "html", "markdown", "junit", "sarif"])
def test_a_saved_report_is_printed_in_every_form(tmp_path: Path, form: str) -> None:
    saved = tmp_path / "report.json"
    saved.write_text(make_healthy_report().model_dump_json())
    written = tmp_path / "out"

    code, _ = run("report", saved, "--format", form, "-o", written)

    assert code == 0
    assert written.stat().st_size > 500


def test_a_crashed_check_never_exits_with_zero(tmp_path: Path) -> None:
    crashed = make_finding(check="crashed", verdict="inconclusive")
    saved = tmp_path / "report.json"
    report = make_report(
        findings=[crashed], gate={"passed": False, "reasons": ["crashed"]}
    )
    saved.write_text(report.model_dump_json())

    code, output = run("report", saved)

    assert code == 1
    assert "crashed" in output


def test_a_usage_error_exits_with_two() -> None:
    code, _ = run("audit", "only-one")

    assert code == 2


def test_the_engine_is_run_in_another_process() -> None:
    seen: list[object] = []

    script = """print('{"progress": {"fraction": 0.5}}')
print("noise")
print('{"report": {"a": 1}}')"""

    code, last = local_engine._run([sys.executable, "-c", script], seen.append)

    assert (code, last, seen) == (0, {"report": {"a": 1}}, [{"fraction": 0.5}])


def test_the_command_line_never_imports_torch() -> None:
    script = "import sys, service.cli; assert 'torch' not in sys.modules, 'torch'"

    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], check=False, capture_output=True
    )

    assert done.returncode == 0, done.stderr

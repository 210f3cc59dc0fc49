import pytest

from service.contract.causes import Cause
from service.pages.browser_session import COOKIE, safe_way_back
from service.pages.cause_pages import cause_page
from tests.builders_report import make_healthy_report, make_report
from tests.service.pages.page_scene import OURS, SECRET, Scene, make_dataset_file

PRIVATE = (
    "/audits",
    "/audits/new",
    "/audits/aud_1",
    "/audits/aud_1/report?form=json",
    "/audits/aud_1/model",
    "/models/mdl_1",
    "/audits/aud_1/compare/aud_2",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_without_a_key_every_page_leads_to_the_sign_in(
    here: Scene, address: str
) -> None:
    answer = here.browser.get(address)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=/")


def test_an_unknown_key_gets_no_cookie(here: Scene) -> None:
    answer = here.browser.post("/login", data={"key": "wrong"}, headers=OURS)

    assert answer.status_code == 401
    assert "not known here" in answer.text
    assert "set-cookie" not in answer.headers


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(here: Scene) -> None:
    answer = here.browser.post("/login", data={"key": SECRET}, headers=OURS)

    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
@pytest.mark.parametrize("address", ["/audits/new", "/audits/aud_1/cancel", "/login"])
def test_forms_of_other_sites_are_refused(
    here: Scene, address: str, headers: dict[str, str]
) -> None:
    here.sign_in()

    answer = here.browser.post(address, data={"key": SECRET}, headers=headers)

    assert answer.status_code == 403


def test_a_browser_without_fetch_metadata_may_send_its_origin(here: Scene) -> None:
    headers = {"origin": str(here.browser.base_url).rstrip("/")}

    answer = here.browser.post("/login", data={"key": SECRET}, headers=headers)

    assert answer.status_code == 303


@pytest.mark.parametrize(
    "address", ["//evil", "/\\evil", "https://evil", "evil", "/a\nb"]
)
def test_the_sign_in_never_leads_away(address: str) -> None:
    assert safe_way_back(address) == "/audits"


@pytest.mark.parametrize("address", ["/login", "/docs/causes", "/static/live.js"])
def test_every_page_has_a_strict_policy(here: Scene, address: str) -> None:
    answer = here.browser.get(address)

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_finished_audit_shows_its_report(here: Scene) -> None:
    here.sign_in()
    audit = here.add_audit(here.add_uploads(), report=make_report())

    answer = here.browser.get(f"/audits/{audit}")

    assert answer.status_code == 200
    assert "Learning rate too high" in answer.text
    assert f"/audits/{audit}/report?form=json" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_running_audit_shows_how_far_it_is(here: Scene) -> None:
    here.sign_in()
    progress = {"fraction": 0.4, "stage": "screen", "detail": "<b>round 2</b>"}
    audit = here.add_audit(here.add_uploads(), status="running", progress=progress)

    answer = here.browser.get(f"/audits/{audit}")
    state = here.browser.get(f"/audits/{audit}/state")

    assert "&lt;b&gt;round 2" in answer.text
    assert state.json()["progress"]["fraction"] == 0.4


def test_a_failed_audit_says_why(here: Scene) -> None:
    here.sign_in()
    error = {
        "type": "/problems/unusable-model",
        "title": "The model cannot be audited",
        "status": 422,
        "detail": "two inputs",
    }
    audit = here.add_audit(here.add_uploads(), status="failed", error=error)

    answer = here.browser.get(f"/audits/{audit}")

    assert "two inputs" in answer.text


def test_the_list_names_verdicts_and_escapes_names(here: Scene) -> None:
    here.sign_in()
    uploads = here.add_uploads(name="<script>x</script>")
    here.add_audit(uploads, report=make_report())
    here.add_audit(uploads, report=make_healthy_report())

    text = here.browser.get("/audits").text

    assert "Learning rate too high" in text
    assert "No fault found" in text
    assert "what changed" in text
    assert "<script>x" not in text
    assert "&lt;script&gt;x" in text


def test_a_model_has_a_history_with_a_trend(here: Scene) -> None:
    here.sign_in()
    uploads = here.add_uploads()
    for report in (make_report(), make_healthy_report()):
        here.add_audit(uploads, report=report)

    text = here.browser.get(f"/models/{uploads[0]}").text

    assert "Balanced accuracy from audit to audit" in text


def test_two_audits_can_be_compared(here: Scene) -> None:
    here.sign_in()
    uploads = here.add_uploads()
    first, second = (
        here.add_audit(uploads, report=report)
        for report in (make_report(), make_healthy_report())
    )

    text = here.browser.get(f"/audits/{first}/compare/{second}").text

    assert "Went away" in text
    assert "beyond noise" in text


def test_another_project_sees_nothing(here: Scene) -> None:
    audit = here.add_audit(here.add_uploads(), report=make_report())
    here.sign_in(here.add_key("admin", "elsewhere"))

    assert here.browser.get(f"/audits/{audit}").status_code == 404
    assert "No audit yet" in here.browser.get("/audits").text


def test_a_viewer_cannot_start_or_cancel(here: Scene) -> None:
    audit = here.add_audit(here.add_uploads(), status="running")
    here.sign_in(here.add_key("viewer", "default"))

    form = here.browser.get("/audits/new")
    cancel = here.browser.post(f"/audits/{audit}/cancel", headers=OURS)

    assert form.status_code == 403
    assert cancel.status_code == 403


def test_an_audit_can_be_cancelled(here: Scene) -> None:
    here.sign_in()
    audit = here.add_audit(here.add_uploads(), status="queued")

    answer = here.browser.post(f"/audits/{audit}/cancel", headers=OURS)

    assert answer.status_code == 303
    assert "was cancelled" in here.browser.get(f"/audits/{audit}").text


def test_the_form_starts_an_audit_of_an_uploaded_dataset(here: Scene) -> None:
    here.sign_in()
    model, _ = here.add_uploads()

    answer = here.browser.post(
        "/audits/new",
        data={"model_id": model, "recipe": '{"epochs": 3}', "budget": "quick"},
        files={
            "dataset": ("mine.npz", make_dataset_file()),
            "model": ("", b""),  # what a browser sends for a file field left empty
        },
        headers=OURS,
    )

    assert answer.status_code == 303, answer.text
    page = here.browser.get(answer.headers["location"])
    assert "mine.npz" in page.text


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"recipe": "{"}, "not JSON"),
        ({"recipe": '{"epochs": 0}'}, "/recipe/epochs"),
        ({"seed": "x"}, "/seed"),
        ({"recipe": "{}"}, "Choose a model"),
    ],
)
def test_the_form_says_what_is_wrong(
    here: Scene, fields: dict[str, str], complaint: str
) -> None:
    here.sign_in()

    answer = here.browser.post("/audits/new", data=fields, headers=OURS)

    assert answer.status_code == 422
    assert complaint in answer.text


def test_an_upload_without_a_key_is_not_read(here: Scene) -> None:
    answer = here.browser.post(
        "/audits/new", files={"dataset": ("d.npz", make_dataset_file())}, headers=OURS
    )

    assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("form", ["json", "html", "markdown", "junit", "sarif"])
def test_reports_can_be_saved_in_every_form(here: Scene, form: str) -> None:
    here.sign_in()
    audit = here.add_audit(here.add_uploads(), report=make_report())

    answer = here.browser.get(f"/audits/{audit}/report?form={form}")

    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "learning_rate_too_high" in answer.text


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_a_page_with_all_its_parts(cause: Cause) -> None:
    text = cause_page(cause)

    for heading in (
        "What it means",
        "How it is tested",
        "What it can be confused with",
        "What to do",
        "Literature",
    ):
        assert f"<h2>{heading}</h2>" in text


def test_the_pages_of_causes_link_only_to_pages_that_exist(here: Scene) -> None:
    for cause in Cause:
        for part in cause_page(cause).split('href="')[1:]:
            assert here.browser.get(part.split('"')[0]).status_code == 200


def test_a_page_that_does_not_exist_says_so(here: Scene) -> None:
    answer = here.browser.get("/docs/causes/nonsense")

    assert answer.status_code == 404
    assert "There is no such cause" in answer.text


def test_signing_out_takes_the_key_back(here: Scene) -> None:
    here.sign_in()

    here.browser.post("/logout", headers=OURS)

    assert here.browser.get("/audits").status_code == 303

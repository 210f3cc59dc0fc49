"""An audit that is cancelled while its worker trains, on one machine."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from service.client import Client, Refused
from service.contract.jobs import AuditBody
from tests.service.embedded.test_callbacks import client_of
from tests.service.embedded.test_one_machine import serving, wait_for

ROWS, COLUMNS, CLASSES = 2000, 8, 3


def submitted(client: Client, folder: Path) -> str:
    """Have an untrained network audited that takes long to train."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    np.savez(folder / "d.npz", x=x, y=x[:, :CLASSES].argmax(axis=1))
    torch.random.default_generator.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES)
    )
    torch.jit.script(network).save(folder / "m.pt")
    model = client.upload_model(folder / "m.pt")
    dataset = client.upload_dataset(folder / "d.npz")
    audit: AuditBody = client.audit(
        model.id, dataset.id, budget="thorough", recipe={"epochs": 50}
    )
    return audit.id


def has_report(client: Client, audit_id: str) -> bool:
    return "report" in client.audit_state(audit_id).links


@pytest.mark.end_to_end
def test_what_was_finished_is_reported_soon(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder, worker=True) as (_, address), client_of(folder, address) as c:
        audit_id = submitted(c, tmp_path)
        wait_for(
            lambda: c.audit_state(audit_id).progress.stage == "screen", seconds=120
        )

        begin = time.monotonic()
        cancelled = c.cancel(audit_id)
        with pytest.raises(Refused, match="being written"):
            c.report(audit_id)
        wait_for(lambda: has_report(c, audit_id))
        took = time.monotonic() - begin

        report = c.report(audit_id)
        assert cancelled.status == c.audit_state(audit_id).status == "cancelled"
        assert took < 30
        assert any("cancelled" in limit for limit in report.limits)
        assert report.performance.eval is not None
        assert not report.gate.passed

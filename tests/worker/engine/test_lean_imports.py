"""A child is ready soon: the engine imports nothing large that it can do without."""

import subprocess
import sys
from pathlib import Path

AUDIT = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/worker/engine", "."]
from opened import network, open_session

session = open_session(Path(sys.argv[1]), network(), budget={"seconds": 5})
done = []
while (step := session.advance(done))["report"] is None:
    done += [{"experiment": e, "outcome": session.run(e)} for e in step["experiments"]]
kinds = {one["experiment"]["kind"] for one in done}
print(sorted(kinds), "torch._dynamo" in sys.modules, "cleanlab" in sys.modules)
"""


def test_a_whole_audit_never_imports_the_compiler(tmp_path: Path) -> None:
    answer = subprocess.run(  # noqa: S603
        [sys.executable, "-c", AUDIT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )

    assert answer.stdout.split("\n")[0] == "['measurement', 'training'] False False"

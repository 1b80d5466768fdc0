"""Java beside Python: signals stay Python's."""

import subprocess
import sys

import pytest

from lion_sweep.search.anserini import missing

REASON = missing()
SCRIPT = """
import os, signal
from lion_sweep.machine import interruption
interruption.listen(signal.SIGTERM, signal.SIGINT)
from lion_sweep.search.anserini import java_class
java_class()
os.kill(os.getpid(), signal.SIGTERM)
print(interruption.received())
"""


@pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
def test_a_signal_is_noted_after_java_has_started() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "15\n")

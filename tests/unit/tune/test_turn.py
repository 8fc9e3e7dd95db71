"""Two tunings at once wait for each other."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading

from repo_builder.tune import turn

HOLDS = """
import sys
from repo_builder.tune import turn
with turn.taken(print):
    print("has it", flush=True)
    sys.stdin.readline()
"""


def test_the_second_waits_and_says_for_whom() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        while "has it" not in first.stdout.readline():  # it may wait for other tests itself
            pass
        said: queue.Queue[str] = queue.Queue()

        def second() -> None:
            with turn.taken(said.put):
                said.put("has it")

        thread = threading.Thread(target=second)
        thread.start()
        assert said.get(timeout=30).startswith(f"process {first.pid} is tuning on this machine")
        assert said.empty()
        first.kill()  # however it ends
        assert said.get(timeout=30) == "has it"
        thread.join(30)

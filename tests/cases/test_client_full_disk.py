"""Cache and spool on a disk that is full: calls go on, what is on disk stays sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# In a mount namespace of its own, on a file system of 2 MB.
SCRIPT = """
import json, sys, sqlite3
from pathlib import Path
import numpy as np
from client_simulator import Server, World, rows
from repo_builder.client.options import Cache, Collector

disk = Path(sys.argv[1])
world = World(
    {"e": Server()},
    cache=Cache(disk / "cache", max_bytes=1 << 30),
    collector=Collector(disk / "spool", consent=lambda _: True, audit=1.0),
)
sources = set()
for number in range(600):
    sources.add(world.infer(rows(32, first_id=number * 32)).source)
    world.core.cache.flush()
before = world.infer(rows(32)).source
free = disk / "more"
full = False
try:
    free.write_bytes(b"x" * (4 << 20))
except OSError:
    full = True
after = world.infer(rows(32, first_id=10**6))
world.core.cache.flush()
world.core.cache.close()
world.core.spool.close()
free.unlink()
database = sqlite3.connect(disk / "cache")
print(json.dumps({
    "sources": sorted(sources), "before": before, "full": full, "after": after.source,
    "sound": database.execute("PRAGMA integrity_check").fetchone()[0],
    "entries": database.execute("SELECT COUNT(*) FROM entry").fetchone()[0],
    "metrics": world.core.metrics.snapshot(),
    "spooled": len(list((disk / "spool").glob("*"))),
}))
"""


def test_a_full_disk_costs_no_call(tmp_path, unavailable):
    root = Path(__file__).parents[2]
    command = (
        f'mount -t tmpfs -o size=2m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$SCRIPT" '
        f'"{tmp_path}"'
    )
    path = os.pathsep.join([str(root), str(root / "tests")])
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "SCRIPT": SCRIPT, "PYTHONPATH": path},
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        unavailable(f"no mount namespace of one's own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["full"], "the disk was really full"
    assert set(said["sources"]) <= {"edge", "cache"}
    assert said["after"] == "edge"
    assert said["sound"] == "ok"
    assert said["entries"] > 100
    assert said["metrics"]['cache_lookups_total{result="not-stored"}'] > 0
    assert said["metrics"]['collected_total{result="lost"}'] > 0
    assert "going on without" in done.stderr

#!/bin/sh
# TUF (python-tuf): the number of hash bins of a repository ("succinct roles", TAP 15).
# Guess: it can be halved or doubled as the repository shrinks and grows, since all is signed anew.
# Really: a role that was once in a snapshot may never leave it, and bins are named by a number of
# fixed width. 64 -> 32 drops names; 8 -> 32 renames them ("bin-0" -> "bin-00"). Clients that saw
# the old snapshot refuse all later ones; 32 -> 64 keeps every name, and is fine.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    tuf==7.0.1 securesystemslib==1.6.0 cryptography==50.0.2 || exit 2
venv/bin/python - <<'PY'
import datetime, functools, http.server, pathlib, sys, threading, tuf
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (Delegations, Metadata, MetaFile, Root, Snapshot, SuccinctRoles,
                              TargetFile, Targets, Timestamp)
from tuf.ngclient import Updater

now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
until = now + datetime.timedelta(days=1)
signer = CryptoSigner.generate_ed25519()
key = signer.public_key


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def publish(web, bits, version):
    """Write a repository of one target, `model`, in 2^bits bins."""
    roles = SuccinctRoles([key.keyid], 1, bits, "bin")
    parts = {name: Targets(version=version, expires=until) for name in roles.get_roles()}
    target = TargetFile.from_data("model", b"weights")
    parts[roles.get_role_for_target("model")].targets["model"] = target
    delegations = Delegations({key.keyid: key}, succinct_roles=roles)
    parts["targets"] = Targets(version=version, expires=until, delegations=delegations)
    meta = {f"{name}.json": MetaFile(version) for name in parts}
    parts["snapshot"] = Snapshot(version=version, expires=until, meta=meta)
    parts["timestamp"] = Timestamp(version=version, expires=until, snapshot_meta=MetaFile(version))
    if version == 1:
        parts["root"] = Root(version=1, expires=until, consistent_snapshot=False)
        for name in ("root", "timestamp", "snapshot", "targets"):
            parts["root"].add_key(key, name)
    for name, signed in parts.items():
        metadata = Metadata(signed)
        metadata.sign(signer)
        metadata.to_file(str(web / f"{name}.json"))


def outcome(before, after):
    """What a client of 2^before bins meets when it comes back to 2^after."""
    web = pathlib.Path(f"{before}-{after}", "web")
    home = web.with_name("client")
    web.mkdir(parents=True), home.mkdir()
    serve = functools.partial(Quiet, directory=str(web))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for version, bits in ((1, before), (2, after)):
                publish(web, bits, version)
                root = (web / "root.json").read_bytes()
                url = f"http://127.0.0.1:{server.server_port}/"
                found = Updater(str(home), url, bootstrap=root).get_targetinfo("model")
            return "finds the target" if found else "finds no target"
        except RepositoryError as error:
            return f"refuses: {error}"
        finally:
            server.shutdown()


print("tuf", tuf.__version__)
said = {change: outcome(*change) for change in ((5, 5), (5, 6), (6, 5), (3, 5))}
for (before, after), words in said.items():
    print(f"{2**before} -> {2**after} bins: the client {words}")
sys.exit([words.partition(":")[0] for words in said.values()]
         != ["finds the target", "finds the target", "refuses", "refuses"])
PY

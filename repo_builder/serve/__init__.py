"""Finds or starts a genuine Triton and waits until every model of a repository is ready.

    with serve.Triton("build/cpu") as server:
        print(server.grpc_url)
        server.wait()

`install` finds Triton and prepares its backends, `triton` runs it, `log` reads its log, and
`backends/` holds the Python-based backends that stand in where the C++ ones are missing. What
Triton serves is written by `repository/`; asking it belongs to `client/`.
"""

from repo_builder.serve.triton import Triton

__all__ = ["Triton"]

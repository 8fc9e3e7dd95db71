"""Whether edge devices pay: yearly costs beside the cloud's, payback, and what it hangs on.

`raw` is the shape of the file that a user writes, `model` the arithmetic, without I/O; `measured`
reads the share of fallbacks from a client's metrics; `page` says and draws it. Prices are the
user's own: none is filled in.
"""

from repo_builder.tune.economics.measured import fallback_share
from repo_builder.tune.economics.model import Answer, Range, Swing, answer
from repo_builder.tune.economics.page import html, markdown, tornado
from repo_builder.tune.economics.raw import figures, schema

__all__ = ["Answer", "Range", "Swing", "answer", "fallback_share"]
__all__ += ["figures", "html", "markdown", "schema", "tornado"]

"""Runs a plan: `pin` reads what it depends on, `execute` walks it, `store` remembers.

The path of one step is `execute` -> an executor (`processes` here, `cluster` elsewhere) ->
`worker`, inside the process -> `store`. What to build is decided above, what a step does below.
"""

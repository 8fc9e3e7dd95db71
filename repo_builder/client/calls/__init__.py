"""What a call is made of: edge, fallback to the cloud, cache and collector, and many calls at once.

Here: the order in which rules, transport and local stores work for one answer.
Not here: the surface that applications see (`../edge.py`), the rules themselves (`rules/`).
Starts at core.py; call.py is the main path.
"""

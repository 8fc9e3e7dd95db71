"""What is known of a model: read from its config on the server, and what follows from it.

Here: inputs, outputs and the check of what is given for them; confidence policy and preprocessing,
which the builder computes with the same code.
Not here: how a description is fetched and kept (`calls/catalog.py`), gRPC, files. Imports numpy at
most (policies.py nothing at all), because the builder reads it while it plans.
Starts at model.py.
"""

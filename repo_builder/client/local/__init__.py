"""What the client keeps on the device's disk: cached answers, spooled samples, names of models.

Here: files and SQLite, and the thread that writes them behind the calls.
Not here: what is worth keeping (`calls/call.py`); shared memory with a server (`transport/`).
Starts at cache.py and spool.py; a full disk or a broken file never costs a call its answer.
"""

"""How requests reach a Triton: bytes, channels, shared memory, and the two drivers that send.

Here: everything that imports gRPC, opens a connection or touches /dev/shm.
Not here: whom to ask, how often and how long (`rules/`); what a call is made of (`calls/`).
Starts at the drivers, sync_driver.py and async_driver.py, which carry out effects.
"""

"""The client's decisions, without I/O: state machines and pure functions, driven by any clock.

Here: circuit breaker, bulkhead, token bucket, retry budget, failures and whether repeating helps,
which endpoint is asked, attempts with retries and hedging, how answers are merged. What cannot be
decided alone is yielded as an effect (effects.py).
Not here: sockets, files, threads, messages of Triton or gRPC (`transport/`, `local/`).
Starts at attempts.py.
"""

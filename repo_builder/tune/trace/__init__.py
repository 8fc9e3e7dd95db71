"""Where a request spends its time in Triton: from its own timestamps, and the client's beside them.

`events` turns the lines of Triton's trace file into the stages of a request, and `show` and `page`
draw them; they do no I/O. `ask` sends requests one after the other with tracing on, and reads the
file; where it cannot be read (another machine, or a server that was started without one), each
request's share of Triton's statistics stands in, which are the same times without their places. The
path is `ask.traced`. Load on a server belongs to `client/load.py`.
"""

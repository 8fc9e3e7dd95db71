"""TensorRT plans: what is asked for, how it is built, where it fits, and building it on a device.

Needs nothing but the bare install, so that it runs on devices; TensorRT itself is imported where a
plan is built. Written against the Python API of TensorRT 10.3 and 11.4.
"""

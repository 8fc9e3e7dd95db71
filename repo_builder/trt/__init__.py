"""TensorRT plans: what is asked for, how it is built, where it fits, and building it on a device.

Imports nothing but the standard library, so that it runs on devices and in stages of images as it
is; TensorRT itself is imported where a plan is built. Written against the Python API of TensorRT
10.3 and 11.4.

A `request` says what is wanted, `engine` builds it, `record` says where it fits, `first_start` is
the path on a device, `__main__` the one in a stage of an image. The step that builds where the
builder runs is `steps/compile_tensorrt.py`.
"""

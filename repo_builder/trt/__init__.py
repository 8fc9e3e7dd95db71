"""TensorRT plans: what is asked for, how it is built, where it fits, and building it on a device.

Imports nothing but the standard library, so that it runs on devices and in stages of images as it
is; TensorRT itself is imported where a plan is built. Written against the Python API of TensorRT
10.3 and 11.4.
"""

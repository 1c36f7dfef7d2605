"""Launchers of the CUDA kernels in the top-level folder `kernels`, the twins of `gpufuse.kernels_cpu`.

A module here has the name of the CPU module it is the twin of, and its functions have the same names and
arguments. Arguments were checked by the stage that calls; a launcher knows grid and block, casts every scalar to
the type that the kernel declares, and launches on the current stream. Nothing here waits for the device.
"""

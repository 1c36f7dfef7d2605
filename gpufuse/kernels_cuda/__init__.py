"""Launchers of the CUDA kernels in the top-level folder `kernels`, the twins of `gpufuse.kernels_cpu`.

A module here has the name of the CPU module it is the twin of; `motion` has none, for on the CPU its work is array
expressions. Functions of one name do the same work; what the CPU does by array expressions around them, such as
solving and applying the colour fit, has kernels of its own. Arguments were checked by the stage that calls; a
launcher knows grid and block, casts every scalar to the type that the kernel declares, and launches on the current
stream. Nothing here waits for the device.
"""

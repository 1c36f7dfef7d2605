"""CPU twins of the CUDA kernels: serial numba loops that release the interpreter lock.

One file per stage. The public stage modules validate, then call the launcher here (for NumPy arrays);
only the launchers know how work is cut into bands. Importing these modules loads numba, so
stages import them inside functions.
"""

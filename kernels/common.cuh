// What all kernels share. Pasted in front of each source by gpufuse/kernels_cuda/_compile.py, never included.
//
// Conventions. Arguments come as inputs, outputs, sizes, parameters. Arrays are contiguous, the column x
// is the fastest index; frames are planar float32 in grey levels, (T, C, H, W). Offsets of planes are
// computed in size_t. A header of each kernel states what one thread does, the launch shape, the border
// rule, and the bytes and operations per sample with the floor that they imply on a chip of 4.3 TB/s (an
// H200, copying).

#define FULL_WARP 0xffffffffu

// 2^x by the special-function unit: relative error 2^-22, results below 2^-126 become 0.
__device__ __forceinline__ float fast_exp2(float x)
{
#if defined(__CUEMU__)
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

__device__ __forceinline__ int clamped(int i, int low, int high)
{
    return min(max(i, low), high);
}

// Samples for the emulator: a restriction that loads float2, a reduction by shuffles and an atomic, a
// template that reads a __constant__ table, a packing into uchar4.
__constant__ float gain[4];

// cell-centred 2x2 restriction of even grids, two fine cells per load
extern "C" __global__ void __launch_bounds__(256)
restrict2(const float2* __restrict__ fine, float* __restrict__ coarse, int Hc, int Wc)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= Wc || y >= Hc) return;
    const size_t b = (size_t)blockIdx.z * 2 * Hc * Wc;
    const float2 p = fine[b + (size_t)(2 * y) * Wc + x], q = fine[b + (size_t)(2 * y + 1) * Wc + x];
    coarse[((size_t)blockIdx.z * Hc + y) * Wc + x] = 0.25f * (p.x + p.y + q.x + q.y);
}
extern "C" __global__ void __launch_bounds__(256)
sumsq(const float* __restrict__ a, double* __restrict__ out, int n)
{
    __shared__ double part[8];
    double s = 0.0;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) s += (double)a[i] * a[i];
    for (int o = 16; o; o >>= 1) s += __shfl_down_sync(0xffffffffu, s, o);
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = s;
    __syncthreads();
    if (threadIdx.x < 8) {
        s = part[threadIdx.x];
        for (int o = 4; o; o >>= 1) s += __shfl_down_sync(0xffu, s, o);
        if (threadIdx.x == 0) atomicAdd(out, s);
    }
}
template <class T, int C>
__global__ void __launch_bounds__(128) to_float(const T* __restrict__ in, float* __restrict__ out, int n)
{
    const int i = blockIdx.x * 128 + threadIdx.x;
    if (i < n) for (int c = 0; c < C; ++c) out[i * C + c] = gain[c] * (float)in[i * C + c];
}
// float RGB in [0,1] to packed uchar4: saturating conversion, rounded
extern "C" __global__ void __launch_bounds__(128)
pack8(const float* __restrict__ in, uchar4* __restrict__ out, int n)
{
    const int i = blockIdx.x * 128 + threadIdx.x;
    if (i >= n) return;
    uchar4 p;
    p.x = (unsigned char)__float2int_rn(255.0f * __saturatef(in[3 * i]));
    p.y = (unsigned char)__float2int_rn(255.0f * __saturatef(in[3 * i + 1]));
    p.z = (unsigned char)__float2int_rn(255.0f * __saturatef(in[3 * i + 2]));
    p.w = 255;
    out[i] = p;
}

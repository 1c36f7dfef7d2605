// The importance of moving lamps, and the share of the night that they keep, for gpufuse/importance.py.

__device__ __forceinline__ float brighter(float a, float b)
{
    return fmaxf(a, b);
}

__device__ __forceinline__ float4 brighter(float4 a, float4 b)
{
    return make_float4(fmaxf(a.x, b.x), fmaxf(a.y, b.y), fmaxf(a.z, b.z), fmaxf(a.w, b.w));
}

// Raises one weight, and returns the share that belongs to it. The remainder of the product with the inverse
// corrects the last bit of the quotient, which is then exact at the threshold and at half of it.
__device__ __forceinline__ float kept_share(
    float& weight, float brightest, float half, float inverse, float gain)
{
    const float product = __fmul_rn(brightest, inverse);
    const float quotient = __fmaf_rn(__fmaf_rn(-product, half, brightest), inverse, product);
    const float lamp = fminf(fmaxf(quotient - 1.0f, 0.0f), 1.0f);
    weight = fminf(gain * weight, 1.0f);
    weight = weight > 0.0f ? fmaxf(weight, lamp) : weight;
    return weight * lamp;
}

__device__ __forceinline__ float4 kept_share(
    float4& weight, float4 brightest, float half, float inverse, float gain)
{
    return make_float4(
        kept_share(weight.x, brightest.x, half, inverse, gain),
        kept_share(weight.y, brightest.y, half, inverse, gain),
        kept_share(weight.z, brightest.z, half, inverse, gain),
        kept_share(weight.w, brightest.w, half, inverse, gain));
}

// W' = max(V, s) where V > 0, else V;  V = min(gain W, 1);  S = W' s;  s = clip(m / half - 1, 0, 1),
// m = max_c N.
//
//   weights  (frames, pixels)            importance W in [0, 1]
//   night    (frames, channels, pixels)  grey levels
//   kept     (frames, pixels)            out, W'
//   share    (frames, pixels)            out, S
//   pixels   of a frame, in units of Levels (one pixel or four)
//   half     of the threshold, grey levels; finite, above 0
//   gain     on W, from 0
//
// One thread makes one unit of Levels: four pixels move four times the bytes per instruction. Border: none,
// each pixel is by itself.
// Launch: block 256, grid (ceil(pixels / 256), min(frames, 65535)); a block goes on to the frames that the
// grid has no room for. Launcher: gpufuse.kernels_cuda.lamps.keep_lamps.
// Cost per pixel, C = 3: 4 + 12 bytes read and 8 written = 24 bytes (5.6 ps at 4.3 TB/s: 12 us for a frame of
// 1920x1080). About 36 instructions (1.2 ps).
template <class Levels>
__global__ void __launch_bounds__(256) keep_lamps(
    const Levels* __restrict__ weights, const Levels* __restrict__ night, Levels* __restrict__ kept,
    Levels* __restrict__ share, int frames, int channels, int pixels, float half, float gain)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= pixels)
        return;
    const float inverse = 1.0f / half;
    for (int t = blockIdx.y; t < frames; t += gridDim.y) {
        const size_t at = (size_t)t * pixels + i;
        Levels weight = weights[at];
        const Levels* levels = night + (size_t)t * channels * pixels + i;
        Levels brightest = levels[0];
#pragma unroll 1  // enough warps hide the latency
        for (int c = 1; c < channels; c++)
            brightest = brighter(brightest, levels[(size_t)c * pixels]);
        share[at] = kept_share(weight, brightest, half, inverse, gain);
        kept[at] = weight;
    }
}

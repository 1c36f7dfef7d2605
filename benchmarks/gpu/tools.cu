// Kernels of benchmarks/gpu_report.py: ceilings of the chip, and a scene to work on. `kernels/common.cuh` in front.

// Copies count times 16 bytes. Block 256; a thread copies one.
extern "C" __global__ void __launch_bounds__(256) copy16(const float4* __restrict__ source,
                                                         float4* __restrict__ target, int count)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i < count)
        target[i] = source[i];
}

extern "C" __global__ void nothing(float* out)
{
    if (out == nullptr)
        *out = 0.0f;
}

// 16 `turns` multiply-adds in each of 8 independent chains. Block 256.
extern "C" __global__ void __launch_bounds__(256) multiply_adds(float* out, int turns, float factor, float term)
{
    float chain[8];
#pragma unroll
    for (int k = 0; k < 8; k++)
        chain[k] = (float)(threadIdx.x + k);
#pragma unroll 1
    for (int turn = 0; turn < turns; turn++)
#pragma unroll
        for (int step = 0; step < 16; step++)
#pragma unroll
            for (int k = 0; k < 8; k++)
                chain[k] = fmaf(chain[k], factor, term);
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += chain[k];
    if (sum == 0.12345f)  // never; but the compiler does not know
        out[0] = sum;
}

// 16 `turns` powers of two in each of 8 independent chains. Block 256.
extern "C" __global__ void __launch_bounds__(256) powers_of_two(float* out, int turns)
{
    float chain[8];
#pragma unroll
    for (int k = 0; k < 8; k++)
        chain[k] = 0.01f * (float)(threadIdx.x + k);
#pragma unroll 1
    for (int turn = 0; turn < turns; turn++)
#pragma unroll
        for (int step = 0; step < 16; step++)
#pragma unroll
            for (int k = 0; k < 8; k++)
                chain[k] = fast_exp2(-chain[k]);
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += chain[k];
    if (sum == 0.12345f)
        out[0] = sum;
}

// Does nothing for a while: 16 `turns` multiply-adds, each after the other. One thread.
extern "C" __global__ void hold(float* out, int turns)
{
    float value = 1.0f;
#pragma unroll 1
    for (int turn = 0; turn < turns; turn++)
#pragma unroll
        for (int step = 0; step < 16; step++)
            value = fmaf(value, 0.999f, 0.001f);
    if (value == 0.12345f)
        out[0] = value;
}

__device__ __forceinline__ unsigned scattered(unsigned x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

__device__ __forceinline__ float day_level(int x, int y, int channel)
{
    const float block = (float)((x / 16 * 7 + y / 12 * 13) % 29);
    return channel == 0 ? 90.0f + 4.0f * block : channel == 1 ? 95.0f + 3.5f * block : 80.0f + 3.0f * block;
}

// A street by day (count 0) or at night: dark, noisy (3 levels), with a lamp that drives through; whole levels.
//
//   frames  (max(count, 1), 3, height, width)  written
// A thread makes a sample. Block 256; grid (ceil(height width / 256), planes).
extern "C" __global__ void __launch_bounds__(256) scene(float* __restrict__ frames, int height, int width,
                                                        int count, int seed)
{
    const int i = blockIdx.x * 256 + threadIdx.x, plane = blockIdx.y, t = plane / 3, channel = plane % 3;
    if (i >= height * width)
        return;
    const int x = i % width, y = i / width;
    float level = day_level(x, y, channel);
    if (count > 0) {
        const unsigned bits = scattered((unsigned)i ^ scattered((unsigned)(plane + 7919 * seed)));
        const int sum = (int)((bits & 255u) + (bits >> 8 & 255u) + (bits >> 16 & 255u) + (bits >> 24));
        const float across = (float)x - (0.1f + 0.02f * (float)(t % 40)) * (float)width;
        const float down = (float)y - 0.6f * (float)height, radius = 0.04f * (float)height + 1.0f;
        const float far = (across * across + down * down) / (radius * radius);
        level = 0.08f * level + 0.0203f * (float)(sum - 510) + 220.0f * fast_exp2(-1.4427f * far);
    }
    frames[(size_t)plane * height * width + i] = rintf(fminf(fmaxf(level, 0.0f), 255.0f));
}

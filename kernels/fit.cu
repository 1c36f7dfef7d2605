// The colour fit c1 u + c2 = W F + (1 - W) D: its sums, its solution, and its application up to finished
// pixels.

// ---------------------------------------------------------------------------------------------- sums

constexpr int MOMENTS_THREADS = 128;  // a warp for each of the four sums
constexpr int MOMENTS_CHUNK = 4096;   // pixels of a block

// Not within the templates that use it: there, the emulator of the tests would not see it.
__shared__ double moments_of_threads[4][MOMENTS_THREADS];

// Sum over a warp by a fixed tree; the result is lane 0's.
__device__ __forceinline__ double warp_sum(double value)
{
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_down_sync(FULL_WARP, value, distance);
    return value;
}

// Sums of u, u^2, v and u v over each chunk of each plane, with v = w F + (1 - w) D, which is not stored.
//
//   image       (frames, C, H, W) u, grey levels
//   day         (days, C, H, W) D; days is 1 or frames
//   night       (frames, C, H, W) F
//   importance  (frames, H, W) w in [0, 1]
//   partials    (frames, C, 4, chunks) out, double
//   samples     H * W
//
// One thread adds MOMENTS_CHUNK / MOMENTS_THREADS pixels, all channels, in double; then each warp of the
// block adds one of the four sums. Which thread adds what depends on H * W alone: bits are the same for every
// T and on every GPU. Products of two float32 are exact in double, so that nothing but the order of sums is
// left to rounding.
// Launch: block MOMENTS_THREADS, grid chunks * frames, frames the fastest: a day in common then comes from
// the L2 cache.
// Launcher: gpufuse.kernels_cuda.fit.blend_moments.
// Cost per pixel, C = 3: u 12 + night 12 + importance 4 = 28 bytes of memory (+ 12 / frames for the day), 6.5
// ps at 4.3 TB/s: 14 us for a frame of 1920x1080. 12 double operations and 6 conversions to double (16 per
// clock and SM): 1.6 ps; on chips with 1/64 of the speed in double, about the time of their slower memory.
template <int C>
__global__ void __launch_bounds__(MOMENTS_THREADS, 8) blend_moments(
    const float* __restrict__ image, const float* __restrict__ day, const float* __restrict__ night,
    const float* __restrict__ importance, double* __restrict__ partials,
    int frames, int days, int samples, int chunks)
{
    const size_t t = blockIdx.x % frames;
    const int chunk = blockIdx.x / frames;
    const size_t plane = samples;
    image += t * C * plane;
    night += t * C * plane;
    day += days > 1 ? t * C * plane : 0;
    importance += t * plane;

    double sums[C][4];
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            sums[c][k] = 0.0;

    const int first = chunk * MOMENTS_CHUNK;
    const int count = min(MOMENTS_CHUNK, samples - first);
#pragma unroll 4
    for (int p = threadIdx.x; p < count; p += MOMENTS_THREADS) {
        const size_t i = (size_t)first + p;
        const float w = importance[i];
        const float rest = 1.0f - w;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const float blend = __fmaf_rn(w, night[c * plane + i], __fmul_rn(rest, day[c * plane + i]));
            const double u = (double)image[c * plane + i];
            const double v = (double)blend;
            sums[c][0] += u;
            sums[c][1] = fma(u, u, sums[c][1]);
            sums[c][2] += v;
            sums[c][3] = fma(u, v, sums[c][3]);
        }
    }

    const int warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < C; c++) {
#pragma unroll
        for (int k = 0; k < 4; k++)
            moments_of_threads[k][threadIdx.x] = sums[c][k];
        __syncthreads();
        double total = 0.0;
#pragma unroll
        for (int part = 0; part < MOMENTS_THREADS; part += 32)
            total += moments_of_threads[warp][part + lane];
        total = warp_sum(total);
        if (lane == 0)
            partials[((t * C + c) * 4 + warp) * chunks + chunk] = total;
        __syncthreads();
    }
}

// Adds the partial sums of the chunks of each plane.
//
//   partials  (planes, 4, chunks) double
//   moments   (planes, 4) out, double
//
// One warp makes one sum, in an order that depends on the number of chunks alone.
// Launch: block 128, grid planes.
// Launcher: gpufuse.kernels_cuda.fit.blend_moments.
// Cost: 32 bytes for 4096 samples, less than a thousandth of what the chunks cost; a few microseconds of
// latency.
extern "C" __global__ void __launch_bounds__(128) sum_moments(
    const double* __restrict__ partials, double* __restrict__ moments, int chunks)
{
    const size_t sum = (size_t)blockIdx.x * 4 + threadIdx.x / 32;
    double total = 0.0;
#pragma unroll 8
    for (int k = threadIdx.x % 32; k < chunks; k += 32)
        total += partials[sum * chunks + k];
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0)
        moments[sum] = total;
}

// ------------------------------------------------------------------------------------------ solution

// Fits of frames first .. first + count - 1, frame k together with those of k - before .. k + after that
// exist.
//
//   moments  (frames, channels, 4) sums of u, u^2, v, u v, double
//   c1, c2   (count, channels) out, double
//   samples  of one plane
//
// One thread makes one fit: c1 = cov(u, v) / var(u), c2 = mean(v) - c1 mean(u); c1 = 1 where u is constant,
// that is, where its variance is the rounding of float32 input.
// Launch: block 64, one-dimensional grid.
// Launcher: gpufuse.kernels_cuda.fit.shared_fits.
// Cost: 32 (before + after + 1) bytes and some hundred double operations per plane: latency alone,
// microseconds.
extern "C" __global__ void __launch_bounds__(64) shared_fits(
    const double* __restrict__ moments, double* __restrict__ c1, double* __restrict__ c2,
    int frames, int channels, int first, int count, int before, int after, double samples)
{
    const int fit = blockIdx.x * blockDim.x + threadIdx.x;
    if (fit >= count * channels)
        return;
    const int frame = first + fit / channels;
    const int channel = fit % channels;
    const int begin = max(frame - before, 0);
    const int end = min(frame + after, frames - 1);

    double u = 0.0, uu = 0.0, v = 0.0, uv = 0.0;
    for (int k = begin; k <= end; k++) {
        const double* sums = moments + ((size_t)k * channels + channel) * 4;
        u += sums[0];
        uu += sums[1];
        v += sums[2];
        uv += sums[3];
    }
    const double together = samples * (double)(end - begin + 1);
    u /= together;
    uu /= together;
    v /= together;
    uv /= together;

    const double variance = fma(-u, u, uu);
    const double scale = variance > 1e-12 * uu ? fma(-u, v, uv) / variance : 1.0;
    c1[fit] = scale;
    c2[fit] = fma(-scale, u, v);
}

// --------------------------------------------------------------------------------------- application

constexpr int AFFINE_THREADS = 256;
constexpr int AFFINE_EACH = 4;  // samples of a thread for one plane, loaded before the first is used
constexpr int AFFINE_CHUNK = AFFINE_THREADS * AFFINE_EACH;

__shared__ unsigned staged_words[AFFINE_CHUNK * 3];  // a chunk of three channels of float

// c1 u + c2 in float32, two roundings as in NumPy: both devices give the same bits.
__device__ __forceinline__ float affine(float u, float c1, float c2)
{
    return __fadd_rn(__fmul_rn(u, c1), c2);
}

// The samples of one thread, all on their way before the first is used; 0 beyond `count`.
__device__ __forceinline__ void load_each(
    const float* __restrict__ samples, int count, float (&u)[AFFINE_EACH])
{
#pragma unroll
    for (int k = 0; k < AFFINE_EACH; k++) {
        const int p = threadIdx.x + k * AFFINE_THREADS;
        u[k] = p < count ? samples[p] : 0.0f;
    }
}

// out = c1 image + c2, each plane with its own pair.
//
//   image    (planes, H, W) grey levels
//   c1, c2   (planes) double, rounded to float
//   out      (planes, H, W)
//   samples  H * W
//
// One thread makes AFFINE_EACH samples, a block's width apart.
// Launch: block AFFINE_THREADS, grid planes * chunks.
// Launcher: gpufuse.kernels_cuda.fit.apply_affine.
// Cost per sample: 8 bytes, 1.9 ps at 4.3 TB/s (12 us for three planes of 1920x1080); 2 operations.
extern "C" __global__ void __launch_bounds__(AFFINE_THREADS) apply_affine(
    const float* __restrict__ image, const double* __restrict__ c1, const double* __restrict__ c2,
    float* __restrict__ out, int samples, int chunks)
{
    const int plane = blockIdx.x / chunks;
    const int first = (blockIdx.x % chunks) * AFFINE_CHUNK;
    const int count = min(AFFINE_CHUNK, samples - first);
    const size_t offset = (size_t)plane * samples + first;
    const float scale = (float)c1[plane];
    const float shift = (float)c2[plane];
    float u[AFFINE_EACH];
    load_each(image + offset, count, u);
#pragma unroll
    for (int k = 0; k < AFFINE_EACH; k++) {
        const int p = threadIdx.x + k * AFFINE_THREADS;
        if (p < count)
            out[offset + p] = affine(u[k], scale, shift);
    }
}

// Pixel value of grey levels: clipped to 0..255; integers rounded half to even, 65535 or 1.0 for 255 levels.
template <class Pixel>
__device__ __forceinline__ Pixel pixel_of(float levels)
{
    const float clipped = fminf(fmaxf(levels, 0.0f), 255.0f);
    if constexpr (sizeof(Pixel) == 1)
        return (Pixel)__float2int_rn(clipped);
    else if constexpr (sizeof(Pixel) == 2)
        return (Pixel)__float2int_rn(clipped * 257.0f);
    else
        return clipped / 255.0f;
}

// Finished pixels of c1 image + c2, each plane with its own pair, channels interleaved.
//
//   image        (frames, channels, H, W) grey levels; channels is 1 or 3
//   c1, c2       (frames, channels) double, rounded to float
//   pixels       (frames, H, W, channels) out; unsigned char, unsigned short or float
//   samples      H * W
//   whole_words  whether each frame of `pixels` is a multiple of 4 bytes
//
// One thread makes AFFINE_EACH pixels. They are interleaved in shared memory, so that a warp reads 32
// neighbours of a plane and writes 32 neighbouring words; frames that are no multiple of 4 bytes are written
// pixel value by pixel value.
// Launch: block AFFINE_THREADS, grid frames * chunks.
// Launcher: gpufuse.kernels_cuda.fit.affine_pixels.
// Cost per pixel of 3 channels: 12 bytes in, 3, 6 or 12 out: 3.5, 4.2 or 5.6 ps at 4.3 TB/s, 7 to 12 us for a
// frame of 1920x1080. About 30 instructions: 1 ps.
template <class Pixel>
__global__ void __launch_bounds__(AFFINE_THREADS) affine_pixels(
    const float* __restrict__ image, const double* __restrict__ c1, const double* __restrict__ c2,
    Pixel* __restrict__ pixels, int channels, int samples, int chunks, int whole_words)
{
    Pixel* staged = reinterpret_cast<Pixel*>(staged_words);
    const int t = blockIdx.x / chunks;
    const int first = (blockIdx.x % chunks) * AFFINE_CHUNK;
    const int count = min(AFFINE_CHUNK, samples - first);

    for (int c = 0; c < channels; c++) {
        const int plane = t * channels + c;
        const size_t offset = (size_t)plane * samples + first;
        const float scale = (float)c1[plane];
        const float shift = (float)c2[plane];
        float u[AFFINE_EACH];
        load_each(image + offset, count, u);
#pragma unroll
        for (int k = 0; k < AFFINE_EACH; k++) {
            const int p = threadIdx.x + k * AFFINE_THREADS;
            staged[p * channels + c] = pixel_of<Pixel>(affine(u[k], scale, shift));
        }
    }
    __syncthreads();

    pixels += ((size_t)t * samples + first) * channels;
    const int values = count * channels;
    if (whole_words) {
        unsigned* out = reinterpret_cast<unsigned*>(pixels);
        for (int i = threadIdx.x; i < values * (int)sizeof(Pixel) / 4; i += AFFINE_THREADS)
            out[i] = staged_words[i];
    } else {
        for (int i = threadIdx.x; i < values; i += AFFINE_THREADS)
            pixels[i] = staged[i];
    }
}

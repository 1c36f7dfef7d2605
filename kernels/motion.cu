// Motion masks and their mean over time, for gpufuse/importance.py. Masks are bytes, 0 or 1.

// A tile of masks: rows of 64 pixels, one bit each, so that one instruction works on 32 of them. Two majority
// passes reach two pixels far: of 64 x 32 pixels that a block reads, it writes the inner 60 x 28.
#define COLUMNS 64
#define ROWS 32
#define HALO 2
#define WARPS 16
#define PIXELS (COLUMNS * ROWS / 32 / WARPS)  // of a thread

typedef unsigned long long Row;  // bit i is column i of the tile

// Counts 0..3 for 64 pixels at once: ones + 2 twos.
struct Counts64
{
    Row ones, twos;
};

__device__ __forceinline__ Counts64 sum3(Row a, Row b, Row c)
{
    return {a ^ b ^ c, (a & b) | (c & (a ^ b))};
}

// How many of a pixel and its neighbours to the left and right are set. `first` and `last` are the bits of
// the picture's outer columns, where the border is replicated; 0 if they lie outside of the tile.
__device__ __forceinline__ Counts64 across(Row row, Row first, Row last)
{
    return sum3((row << 1 & ~first) | (row & first), row, (row >> 1 & ~last) | (row & last));
}

// Where at least 4 of 3 x 3 pixels are set. The nine count ones + 2 (pairs of ones + twos of three rows),
// which is at least 4 where two or more of those four bits are set. Lane r of the warp holds row r; `above`
// and `below` are the lanes of its neighbours.
__device__ __forceinline__ Row majority(Row row, int above, int below, Row first, Row last)
{
    const Counts64 a = across(__shfl_sync(FULL_WARP, row, above), first, last);
    const Counts64 b = across(row, first, last);
    const Counts64 c = across(__shfl_sync(FULL_WARP, row, below), first, last);
    const Row pairs = sum3(a.ones, b.ones, c.ones).twos;
    return (pairs & a.twos) | (b.twos & c.twos) | ((pairs | a.twos) & (b.twos | c.twos));
}

// Cleaned motion masks:  M_k = majority(majority(max_c |F_(k+1) - F_k| > threshold)).
//
//   frames     (count + 1, C, height, width)         grey levels
//   threshold  (1)                                   grey levels; read here, so that nobody waits for it
//   masks      (count, height, width)                written, 0 or 1
//   segment    masks that one block computes
//
// Border: each of the two passes replicates the border of the mask it reads.
// A block works on 60 x 28 pixels, frame after frame. A thread keeps four pixels of the previous frame in
// registers, so each frame is read once; warps turn their comparisons into the bits of rows, of which one
// warp cleans 32 at once. Launch: block (32, 16); grid (ceil(width / 60), ceil(height / 28), ceil(count /
// segment)). Launcher: gpufuse/kernels_cuda/motion.py, motion_masks.
//
// Per pixel and mask: 4 C read and 1 byte written (C = 3: 3.0 ps at 4.3 TB/s); the halo is read from the L2
// cache (1.4 times the pixels, 17 bytes). With the halo's share 72 instructions for colour (2.4 ps), 3 of
// them for both passes of cleaning.
template <int C>
__global__ void __launch_bounds__(512) motion_masks(
    const float* __restrict__ frames, const float* __restrict__ threshold,
    unsigned char* __restrict__ masks, int height, int width, int count, int segment)
{
    __shared__ unsigned raw[ROWS][2], cleaned[ROWS][2];  // the halves of rows, one bit a pixel
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int left = (int)blockIdx.x * (COLUMNS - 2 * HALO) - HALO;
    const int above = (int)blockIdx.y * (ROWS - 2 * HALO) - HALO;

    // The part of the tile that lies within the picture.
    const int low = max(-left, 0), high = min(width - 1 - left, COLUMNS - 1);
    const int top = max(-above, 0), bottom = min(height - 1 - above, ROWS - 1);
    const Row first = left <= 0 ? (Row)1 << low : 0, last = left + high == width - 1 ? (Row)1 << high : 0;

    const float limit = threshold[0];
    const int plane = height * width;

    // Pixel p of a thread: row warp + 16 (p / 2), column lane + 32 (p % 2) of the tile. Beyond the picture
    // the nearest pixel is read, which needs no condition; its bit is never used.
    int offset[PIXELS];
#pragma unroll
    for (int p = 0; p < PIXELS; ++p)
        offset[p] = (above + clamped(warp + WARPS * (p / 2), top, bottom)) * width + left +
            clamped(lane + 32 * (p % 2), low, high);
    const int first_row = max(top, HALO), last_row = min(bottom, ROWS - 1 - HALO);
    const int first_column = max(low, HALO), last_column = min(high, COLUMNS - 1 - HALO);

    const int begin = (int)blockIdx.z * segment, end = min(begin + segment, count);
    const float* channel = frames + (size_t)begin * C * plane;
    float previous[PIXELS][C];
#pragma unroll
    for (int c = 0; c < C; ++c, channel += plane)
#pragma unroll
        for (int p = 0; p < PIXELS; ++p)
            previous[p][c] = channel[offset[p]];

    for (int k = begin; k < end; ++k) {
        float change[PIXELS] = {};
#pragma unroll
        for (int c = 0; c < C; ++c, channel += plane)
#pragma unroll
            for (int p = 0; p < PIXELS; ++p) {
                const float value = channel[offset[p]];
                change[p] = fmaxf(change[p], fabsf(value - previous[p][c]));
                previous[p][c] = value;
            }
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            const unsigned moved = __ballot_sync(FULL_WARP, change[p] > limit);
            if (lane == 0)
                raw[warp + WARPS * (p / 2)][p % 2] = moved;
        }
        __syncthreads();
        if (warp == 0) {
            const int over = clamped(lane - 1, top, bottom), under = clamped(lane + 1, top, bottom);
            const Row row = raw[lane][0] | (Row)raw[lane][1] << 32;
            const Row once = majority(row, over, under, first, last);
            const Row twice = majority(once, over, under, first, last);
            cleaned[lane][0] = (unsigned)twice;
            cleaned[lane][1] = (unsigned)(twice >> 32);
        }
        __syncthreads();
        unsigned char* mask = masks + (size_t)k * plane;
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            const int r = warp + WARPS * (p / 2), i = lane + 32 * (p % 2);
            if (first_row <= r && r <= last_row && first_column <= i && i <= last_column)
                mask[(above + r) * width + left + i] = cleaned[r][p % 2] >> lane & 1;
        }
    }
}

// Counts of set masks at one pixel, or at four neighbours, which move four times the bytes per instruction.
struct One
{
    typedef unsigned char Masks;
    typedef float Means;
    int n = 0;
    __device__ __forceinline__ void add(Masks m) { n += m; }
    __device__ __forceinline__ void remove(Masks m) { n -= m; }
    // n / frames, correctly rounded: the remainder of the product with the inverse corrects its last bit.
    __device__ __forceinline__ Means over(float frames, float inverse) const
    {
        const float quotient = (float)n * inverse;
        return __fmaf_rn(__fmaf_rn(-quotient, frames, (float)n), inverse, quotient);
    }
};

struct Four
{
    typedef uchar4 Masks;
    typedef float4 Means;
    One x, y, z, w;
    __device__ __forceinline__ void add(Masks m) { x.add(m.x), y.add(m.y), z.add(m.z), w.add(m.w); }
    __device__ __forceinline__ void remove(Masks m)
    {
        x.remove(m.x), y.remove(m.y), z.remove(m.z), w.remove(m.w);
    }
    __device__ __forceinline__ Means over(float frames, float inverse) const
    {
        return make_float4(
            x.over(frames, inverse), y.over(frames, inverse), z.over(frames, inverse),
            w.over(frames, inverse));
    }
};

// Mean of the masks over time:  W_i = mean of M_k, k = i - c .. i + c, over the frames that exist.
//
//   masks   (frames, pixels)   0 or 1
//   means   (count, pixels)    written, in [0, 1]
//   pixels  of a frame, in units of Counts (one pixel or four)
//   start   frame of the first mean
//
// Border: none in space; in time fewer frames are counted.
// A thread slides a window along time at its pixels: it adds the mask that enters and takes away the one that
// leaves. Whole numbers and one rounding, so the bits are those of the CPU.
// Launch: block 256; grid ceil(pixels / 256). Launcher: gpufuse/kernels_cuda/motion.py, temporal_mean.
//
// Per pixel and frame: 1 byte read and 4 written (1.2 ps at 4.3 TB/s), and 1 byte read again, 2 c + 1 frames
// later, from the L2 cache where that many masks fit (up to 1080p with c = 5; else 1.4 ps). About 25
// instructions (0.8 ps).
template <class Counts>
__global__ void __launch_bounds__(256) temporal_mean(
    const typename Counts::Masks* __restrict__ masks, typename Counts::Means* __restrict__ means, int frames,
    int pixels, int count, int c, int start)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= pixels)
        return;
    Counts window;
    int entering = max(0, start - c), leaving = entering;
    for (int k = 0; k < count; ++k) {
        const int centre = start + k;
        for (; entering < min(frames, centre + c + 1); ++entering)
            window.add(masks[(size_t)entering * pixels + i]);
        for (; leaving < centre - c; ++leaving)
            window.remove(masks[(size_t)leaving * pixels + i]);
        const float counted = (float)(entering - leaving);
        means[(size_t)k * pixels + i] = window.over(counted, 1.0f / counted);
    }
}

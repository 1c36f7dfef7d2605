// YUV video to planar RGB levels and back, for gpufuse/colour.py, which states the formula.

#define PAIRS 4  // pairs of rows that a thread converts to levels

// Chroma samples interpolated along x, in quarters of a code.
struct Chroma
{
    int blue, red;
};

__device__ __forceinline__ float clipped(float level)
{
    return fminf(fmaxf(level, 0.0f), 255.0f);
}

// YUV to clipped RGB levels:  L = (Y - black) gain;  R = L + red_cr Cr,  G = L + green_cb Cb + green_cr Cr,
// B = L + blue_cb Cb,  with Cb and Cr interpolated linearly and counted from `neutral`.
//
//   luma          (T, height, luma_pitch)   codes; frames are `codes_frame` apart, as in the chroma planes
//   chroma_blue   (T, ., blue_pitch)        samples are `step` apart: 1, or 2 where Cb and Cr alternate
//   chroma_red    (T, ., red_pitch)
//   out           (T, 3, height, width)     written, grey levels 0..255
//   shift_x, shift_y   1 where chroma is halved
//   centred       halved chroma lies between two columns, not on the even ones
//   unused_bits   low bits of a code that carry nothing
//
// Border: chroma samples are replicated.
// A thread converts four pairs of rows, 2 k and 2 k + 1, of one column. Halved chroma needs three rows for a
// pair, and one new row for the next pair. Interpolation in whole numbers is exact, with one conversion to
// float.
// Launch: block (32, 8); grid (ceil(width / 32), ceil(height / 64), T).
// Launcher: gpufuse/kernels_cuda/colour.py, yuv_to_levels.
//
// Per pixel: 1.5 bytes read (4:2:0, 8 bits; 3 with 16) and 12 written: 3.1 ps (3.5) at 4.3 TB/s. About 75
// instructions (2.5 ps), nearly half of them with integers.
template <typename Code>
__global__ void __launch_bounds__(256) yuv_to_levels(
    const Code* __restrict__ luma, const Code* __restrict__ chroma_blue, const Code* __restrict__ chroma_red,
    float* __restrict__ out, int codes_frame, int height, int width, int luma_pitch, int blue_pitch,
    int red_pitch, int step, int shift_x, int shift_y, int centred, int unused_bits, float black, float gain,
    float neutral, float red_cr, float green_cb, float green_cr, float blue_cb)
{
    luma += (size_t)blockIdx.z * codes_frame;
    chroma_blue += (size_t)blockIdx.z * codes_frame;
    chroma_red += (size_t)blockIdx.z * codes_frame;
    out += (size_t)blockIdx.z * 3 * height * width;
    const int x = blockIdx.x * 32 + threadIdx.x, k = (blockIdx.y * 8 + threadIdx.y) * PAIRS;
    if (x >= width || 2 * k >= height)
        return;
    const int last_column = ((width + shift_x) >> shift_x) - 1;
    const int last_row = ((height + shift_y) >> shift_y) - 1;

    // Along x: midway on the odd columns, or a quarter from the sample beyond; `share` counts quarters.
    const int odd = x & 1, near = x >> shift_x;
    const int far = clamped(centred ? near + 2 * odd - 1 : near + odd, 0, last_column);
    const int share = shift_x ? (centred ? 1 : 2 * odd) : 0;
    const auto chroma = [=](int row) -> Chroma {
        const Code* blue = chroma_blue + clamped(row, 0, last_row) * blue_pitch;
        const Code* red = chroma_red + clamped(row, 0, last_row) * red_pitch;
        return {(4 - share) * (blue[near * step] >> unused_bits) + share * (blue[far * step] >> unused_bits),
                (4 - share) * (red[near * step] >> unused_bits) + share * (red[far * step] >> unused_bits)};
    };
    float* const out_red = out;
    float* const out_green = out + (size_t)height * width;
    float* const out_blue = out_green + (size_t)height * width;
    const auto convert = [=](int y, Chroma a, int of_a, Chroma b, int of_b) {
        const float cb = (float)(of_a * a.blue + of_b * b.blue) * 0.0625f - neutral;
        const float cr = (float)(of_a * a.red + of_b * b.red) * 0.0625f - neutral;
        const float level = ((float)(luma[y * luma_pitch + x] >> unused_bits) - black) * gain;
        out_red[y * width + x] = clipped(level + red_cr * cr);
        out_green[y * width + x] = clipped(level + green_cb * cb + green_cr * cr);
        out_blue[y * width + x] = clipped(level + blue_cb * cb);
    };

    if (!shift_y) {
        for (int y = 2 * k; y < min(2 * (k + PAIRS), height); ++y) {
            const Chroma own = chroma(y);
            convert(y, own, 4, own, 0);
        }
        return;
    }
    // Along y: a quarter from the sample beyond.
    Chroma above = chroma(k - 1), own = chroma(k);
    for (int pair = k; pair < min(k + PAIRS, last_row + 1); ++pair) {
        const Chroma below = chroma(pair + 1);
        convert(2 * pair, own, 3, above, 1);
        if (2 * pair + 1 < height)
            convert(2 * pair + 1, own, 3, below, 1);
        above = own;
        own = below;
    }
}

// One plane to clipped levels in three equal channels; arguments as above.
//
// A thread converts one pixel. Launch: block (32, 8); grid (ceil(width / 32), ceil(height / 8)).
// Launcher: gpufuse/kernels_cuda/colour.py, grey_to_levels.
//
// Per pixel: 1 byte read (2 with 16 bits) and 12 written: 3.0 ps (3.3) at 4.3 TB/s; about 20 instructions.
template <typename Code>
__global__ void __launch_bounds__(256) grey_to_levels(
    const Code* __restrict__ luma, float* __restrict__ out, int height, int width, int luma_pitch,
    int unused_bits, float black, float gain)
{
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
    if (x >= width || y >= height)
        return;
    const float level = clipped(((float)(luma[(size_t)y * luma_pitch + x] >> unused_bits) - black) * gain);
    const size_t plane = (size_t)height * width;
    float* pixel = out + (size_t)y * width + x;
    pixel[0] = level;
    pixel[plane] = level;
    pixel[2 * plane] = level;
}

// Levels of a channel to whole levels, as every final pixel is: the affine correction first, rounded after
// each operation as gpufuse.normalise.apply_affine does.
__device__ __forceinline__ float whole(float level, float scale, float shift)
{
    return rintf(clipped(__fadd_rn(__fmul_rn(level, scale), shift)));
}

__device__ __forceinline__ unsigned char code(float value)
{
    return (unsigned char)__float2int_rn(value);  // 16..240: no clipping is needed
}

// Weights of red, green and blue in one output, `offset + r R + g G + b B`.
struct Weights
{
    float offset, r, g, b;
    __device__ __forceinline__ float of(float red, float green, float blue) const
    {
        return offset + r * red + g * green + b * blue;
    }
};

// RGB levels to 8-bit planes in full resolution (4:4:4), a batch of frames.
//
//   levels         (frames, 3, plane)   grey levels
//   scale, shift   (frames, 3)          applied first: scale level + shift
//   luma, chroma_blue, chroma_red       (frames, plane), written, codes of the limited range
//   plane          height width
//   y_., b_., r_.  weights of red, green and blue in Y, Cb and Cr
//
// A thread converts one pixel, of frames gridDim.y apart. Launch: block 256; grid (ceil(height width / 256),
// frames, at most 65535). Launcher: gpufuse/kernels_cuda/colour.py, levels_to_yuv.
//
// Per pixel: 12 bytes read, 3 written: 3.5 ps at 4.3 TB/s; about 80 instructions (2.7 ps).
extern "C" __global__ void __launch_bounds__(256) levels_to_444(
    const float* __restrict__ levels, const float* __restrict__ scale, const float* __restrict__ shift,
    unsigned char* __restrict__ luma, unsigned char* __restrict__ chroma_blue,
    unsigned char* __restrict__ chroma_red, int frames, int plane, float y_r, float y_g, float y_b, float b_r,
    float b_g, float b_b, float r_r, float r_g, float r_b)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= plane)
        return;
    const Weights to_y = {16.0f, y_r, y_g, y_b};
    const Weights to_b = {128.0f, b_r, b_g, b_b}, to_r = {128.0f, r_r, r_g, r_b};
    for (int t = blockIdx.y; t < frames; t += gridDim.y) {
        const float* frame = levels + (size_t)t * 3 * plane + i;
        const float red = whole(frame[0], scale[3 * t], shift[3 * t]);
        const float green = whole(frame[plane], scale[3 * t + 1], shift[3 * t + 1]);
        const float blue = whole(frame[2 * (size_t)plane], scale[3 * t + 2], shift[3 * t + 2]);
        const size_t target = (size_t)t * plane + i;
        luma[target] = code(to_y.of(red, green, blue));
        chroma_blue[target] = code(to_b.of(red, green, blue));
        chroma_red[target] = code(to_r.of(red, green, blue));
    }
}

// RGB levels to 8-bit planes with halved chroma (4:2:0), a batch of frames. Chroma sits on the even columns:
// it is weighted 1 2 1 across and averaged over two rows.
//
//   levels         (frames, 3, height, width)   grey levels; even sides
//   scale, shift   (frames, 3)                  applied first: scale level + shift
//   luma           (frames, height, width)      written; frames are `luma_frame` codes apart
//   chroma_blue    (frames, height / 2, width / 2)  written; frames are `chroma_frame` codes apart, samples
//   chroma_red     the same                         `step`: 1, or 2 where Cb and Cr alternate (NV12)
//   y_., b_., r_.  weights of red, green and blue in Y, Cb and Cr
//
// Border: the first column is replicated to the left.
// A thread converts 2 x 2 pixels and their chroma; the odd column to the left belongs to its neighbour, but
// to convert it again is cheaper than to wait for it. Launch: block (32, 8); grid (ceil(width / 64),
// ceil(height / 16), frames, at most 65535). Launcher: gpufuse/kernels_cuda/colour.py, levels_to_yuv and
// levels_to_nv12.
//
// Per pixel: 12 bytes read, 1.5 written: 3.1 ps at 4.3 TB/s; about 75 instructions (2.5 ps), six of them
// roundings at a quarter of the rate.
extern "C" __global__ void __launch_bounds__(256) levels_to_420(
    const float2* __restrict__ levels, const float* __restrict__ scale, const float* __restrict__ shift,
    uchar2* __restrict__ luma, unsigned char* __restrict__ chroma_blue,
    unsigned char* __restrict__ chroma_red, int frames, int height, int width, int luma_frame,
    int chroma_frame, int step, float y_r, float y_g, float y_b, float b_r, float b_g, float b_b, float r_r,
    float r_g, float r_b)
{
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y, pairs = width / 2;
    if (x >= pairs || 2 * y >= height)
        return;
    const Weights to_y = {16.0f, y_r, y_g, y_b};
    const Weights to_b = {128.0f, b_r, b_g, b_b}, to_r = {128.0f, r_r, r_g, r_b};
    const size_t plane = (size_t)height * pairs;
    for (int t = blockIdx.z; t < frames; t += gridDim.z) {
        const float red_scale = scale[3 * t], green_scale = scale[3 * t + 1], blue_scale = scale[3 * t + 2];
        const float red_shift = shift[3 * t], green_shift = shift[3 * t + 1], blue_shift = shift[3 * t + 2];
        float red_sum = 0.0f, green_sum = 0.0f, blue_sum = 0.0f;  // 8 times the mean; whole numbers: exact
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
            const int row = (2 * y + lower) * pairs;
            const float2* pair = levels + (size_t)t * 3 * plane + row + x;
            const float2 red = pair[0], green = pair[plane], blue = pair[2 * plane];
            // The column to the left is the odd one of the pair before; of the first pair, its own even one.
            const float2* before = pair - (x > 0);
            const float2 b0 = before[0], b1 = before[plane], b2 = before[2 * plane];

            const float red0 = whole(x > 0 ? b0.y : b0.x, red_scale, red_shift);
            const float green0 = whole(x > 0 ? b1.y : b1.x, green_scale, green_shift);
            const float blue0 = whole(x > 0 ? b2.y : b2.x, blue_scale, blue_shift);
            const float red1 = whole(red.x, red_scale, red_shift), red2 = whole(red.y, red_scale, red_shift);
            const float green1 = whole(green.x, green_scale, green_shift);
            const float green2 = whole(green.y, green_scale, green_shift);
            const float blue1 = whole(blue.x, blue_scale, blue_shift);
            const float blue2 = whole(blue.y, blue_scale, blue_shift);
            luma[(size_t)t * (luma_frame / 2) + row + x] =
                make_uchar2(code(to_y.of(red1, green1, blue1)), code(to_y.of(red2, green2, blue2)));
            red_sum += red0 + 2.0f * red1 + red2;
            green_sum += green0 + 2.0f * green1 + green2;
            blue_sum += blue0 + 2.0f * blue1 + blue2;
        }
        const float red = 0.125f * red_sum, green = 0.125f * green_sum, blue = 0.125f * blue_sum;
        const size_t target = (size_t)t * chroma_frame + (size_t)(y * pairs + x) * step;
        chroma_blue[target] = code(to_b.of(red, green, blue));
        chroma_red[target] = code(to_r.of(red, green, blue));
    }
}

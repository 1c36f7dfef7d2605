// Mixed gradients and their divergence: the right-hand side of the Poisson equation in one pass.

constexpr int MIXING_WARPS = 4;      // warps of a block, side by side
constexpr int MIXING_COLUMNS = 30;   // columns that a warp writes: 32 lanes less one neighbour on each side

// What one lane knows of one pixel.
template <int C>
struct MixingPixel {
    float night[C];
    float day[C];
    float importance;
    float target_share;
    unsigned char day_only;
};

template <int C, bool PULLED>
__device__ __forceinline__ MixingPixel<C> mixing_pixel(
    const float* __restrict__ day, const float* __restrict__ night, const float* __restrict__ importance,
    const unsigned char* __restrict__ day_only, const float* __restrict__ target_share, size_t plane,
    size_t i, bool has_day_only)
{
    MixingPixel<C> pixel;
#pragma unroll
    for (int c = 0; c < C; c++) {
        pixel.night[c] = night[c * plane + i];
        pixel.day[c] = day[c * plane + i];
    }
    pixel.importance = importance[i];
    pixel.target_share = PULLED ? target_share[i] : 0.0f;
    pixel.day_only = has_day_only ? day_only[i] : 0;
    return pixel;
}

// Grey levels that the lift adds to all channels of a pixel: extra m / (1 + m / span), m the brightest
// channel, at least 0. Relative error 2^-21. The last product is not for fma: equal levels shall gain alike.
template <int C>
__device__ __forceinline__ float gained_levels(const MixingPixel<C>& pixel, float extra, float span)
{
    float brightest = 0.0f;
#pragma unroll
    for (int c = 0; c < C; c++)
        brightest = fmaxf(brightest, pixel.night[c]);
    return __fmul_rn(__fmul_rn(extra, span), __fdividef(brightest, span + brightest));
}

// rhs = div G - data_weight (d + s (n - d)),  G = w g N + (1 - w) D  with N, D the forward differences of
// n and d, the levels of night and day, g the gain and w the importance. With larger_where_zero, where w is
// exactly 0: w = 1 if g^2 |N|^2 > max(|D|^2, night_floor^2) (sums over channels and both directions), else 0.
// Where day_only is set, w = 0 has the last word. LIFTED: where the importance is not 0, N has the difference
// of gained_levels added, one for all channels, and is that of a brighter picture. PULLED: there is a
// data_weight.
//
//   day           (days, C, H, W) grey levels; days is 1 or frames
//   night         (frames, C, H, W) grey levels
//   importance    (frames, H, W) in [0, 1]
//   day_only      (frames, H, W) 0 or 1; not read unless has_day_only
//   target_share  (frames, H, W) s in [0, 1]; not read unless PULLED
//   lift          (1) from 1; not read unless LIFTED. Read here, so that nobody waits for it
//   night_floor   (1) from 0, grey levels per pixel, likewise; not read unless has_night_floor
//   rhs           (frames, C, H, W) out, grey levels per pixel^2
//   rows          rows of a segment
//   lift_span     grey levels
//   data_weight   per pixel^2
//
// One thread walks down one column of a segment: the G^y of the row above stays in registers, the row after
// the next is loaded ahead. Neighbours in x come from the lanes beside; lane 0 only gives its G^x to the
// right, lane 31 only its levels to the left. A segment begins with the row above it, which it computes but
// does not write.
// Launch: block (32, MIXING_WARPS), grid (frames, strips of MIXING_WARPS * MIXING_COLUMNS columns, segments).
// Frames are the fastest, so that a day in common is read from memory once and for the other frames from the
// L2 cache.
// Border: addresses are clamped, for a difference of equal levels is 0; above the first row G^y is 0. What
// could be contracted in two ways is written as fma, so that bits do not depend on segments.
// Launcher: gpufuse.kernels_cuda.mixing.mixed_divergence.
// Cost per pixel, C = 3: night 12 + importance 4 + rhs 12 = 28 bytes of memory (+ 1 with day_only, + 12 /
// frames for a day in common, + 12 for one of each frame), 6.5 ps at 4.3 TB/s: 14 us for a frame of
// 1920x1080. The L2 cache gives another 12 for the day, and 2 / rows of all reads again. 137 instructions
// make 30 pixels: 4.9 ps. PULLED reads 4 bytes more, 7.4 ps (nothing more where the share is the importance),
// and has 164 instructions, 5.9 ps; LIFTED reads nothing more and has 157, 5.7 ps; with both 177, 6.4 ps.
template <int C, bool LIFTED, bool PULLED>
__global__ void __launch_bounds__(32 * MIXING_WARPS) mixed_divergence(
    const float* __restrict__ day, const float* __restrict__ night, const float* __restrict__ importance,
    const unsigned char* __restrict__ day_only, const float* __restrict__ target_share,
    const float* __restrict__ lift, const float* __restrict__ night_floor, float* __restrict__ rhs,
    int height, int width, int rows, int days, int has_day_only, int has_night_floor, int larger_where_zero,
    float gain, float lift_span, float data_weight)
{
    const int lane = threadIdx.x;
    const int first_column = (blockIdx.y * MIXING_WARPS + threadIdx.y) * MIXING_COLUMNS;
    if (first_column >= width)
        return;  // the whole warp
    const int column = first_column + lane - 1;
    const bool writes = lane >= 1 && lane <= MIXING_COLUMNS && column < width;

    const size_t plane = (size_t)height * width;
    const size_t t = blockIdx.x;
    const int x = clamped(column, 0, width - 1);
    day += (days > 1 ? t * C * plane : 0) + x;
    night += t * C * plane + x;
    rhs += t * C * plane + x;
    importance += t * plane + x;
    day_only += has_day_only ? t * plane + x : 0;
    target_share += PULLED ? t * plane + x : 0;

    const int first = blockIdx.z * rows;
    const int last = min(first + rows, height);  // not included
    const int bottom = min(last, height - 1);    // the lowest row that is read
    int y = max(first - 1, 0);
    size_t at = (size_t)y * width;  // of the row loaded last
    auto pixel = [&]() {
        return mixing_pixel<C, PULLED>(
            day, night, importance, day_only, target_share, plane, at, has_day_only != 0);
    };
    auto next_row = [&](int row) {
        at += row <= bottom ? width : 0;  // below the bottom: the bottom once more
        return pixel();
    };
    MixingPixel<C> here = pixel();
    MixingPixel<C> below = next_row(y + 1);
    const float extra = LIFTED ? lift[0] - 1.0f : 0.0f;
    const float lowest = has_night_floor ? night_floor[0] : 0.0f;
    float gained = LIFTED ? gained_levels(here, extra, lift_span) : 0.0f;
    float above[C];
#pragma unroll
    for (int c = 0; c < C; c++)
        above[c] = 0.0f;

#pragma unroll 1
    for (; y < last; y++) {
        const MixingPixel<C> ahead = next_row(y + 2);
        float night_x[C], night_y[C], day_x[C], day_y[C];
#pragma unroll
        for (int c = 0; c < C; c++) {
            night_x[c] = __shfl_down_sync(FULL_WARP, here.night[c], 1) - here.night[c];
            day_x[c] = __shfl_down_sync(FULL_WARP, here.day[c], 1) - here.day[c];
            night_y[c] = below.night[c] - here.night[c];
            day_y[c] = below.day[c] - here.day[c];
        }

        float w = here.importance;
        if (larger_where_zero) {  // for all lanes: a branch by w would split the warp
            float night_energy = 0.0f, day_energy = 0.0f;
#pragma unroll
            for (int c = 0; c < C; c++) {
                night_energy = __fmaf_rn(night_x[c], night_x[c], night_energy);
                night_energy = __fmaf_rn(night_y[c], night_y[c], night_energy);
                day_energy = __fmaf_rn(day_x[c], day_x[c], day_energy);
                day_energy = __fmaf_rn(day_y[c], day_y[c], day_energy);
            }
            night_energy *= gain * gain;
            const bool larger = night_energy > day_energy && night_energy > lowest * lowest;
            w = w == 0.0f ? (larger ? 1.0f : 0.0f) : w;
        }
        if (here.day_only)
            w = 0.0f;

        const float rest = 1.0f - w;
        const float share = w * gain;
        float gained_x = 0.0f, gained_y = 0.0f;  // of all channels
        if (LIFTED) {
            const float gained_below = gained_levels(below, extra, lift_span);
            const float lifted = here.importance == 0.0f ? 0.0f : share;
            gained_x = __fmul_rn(lifted, __shfl_down_sync(FULL_WARP, gained, 1) - gained);
            gained_y = __fmul_rn(lifted, gained_below - gained);
            gained = gained_below;
        }
#pragma unroll
        for (int c = 0; c < C; c++) {
            const float gx = __fmaf_rn(share, night_x[c], __fmaf_rn(rest, day_x[c], gained_x));
            const float gy = __fmaf_rn(share, night_y[c], __fmaf_rn(rest, day_y[c], gained_y));
            const float left = __shfl_up_sync(FULL_WARP, gx, 1);
            float out = gx - left + gy - above[c];
            if (PULLED) {
                const float target = __fmaf_rn(here.target_share, here.night[c] - here.day[c], here.day[c]);
                out = __fmaf_rn(-data_weight, target, out);
            }
            if (writes && y >= first)
                rhs[c * plane + (size_t)y * width] = out;
            above[c] = gy;
        }
        here = below;
        below = ahead;
    }
}

// Full multigrid for the Poisson equation with Neumann border, screened or not; the twin of
// gpufuse/kernels_cpu/multigrid.py.
// Launched by gpufuse/kernels_cuda/multigrid.py, which knows the order of the launches.
//
// Levels are those of gpufuse/hierarchy.py: unit cells, but for a last row and column of 1/2 to 3/2. Per cell
//   sum over its faces of length / distance * (u_nb - u) - mass * u = f,
// f being the right-hand side integrated over the cell, mass the data weight times its area; A u - mass u = f
// in short. A relaxation is u + gain * (A u - mass u - f) with gain = step / (diagonal + step * mass).
//
// grid_pass does, in one launch, all there is to do on a level between two visits of the coarser one: add the
// interpolated correction, relax two or three times, restrict the residual. coarse_levels does all the levels
// that fit into one block's shared memory. So one solution of a 1080p plane takes 62 launches for all
// planes of a chunk together, and moves, per sample of the finest level and with the default two cycles,
//   restriction 5, first pass 10, two middle passes 14 each, last pass 13 bytes on the finest level = 56
//   about 94 / 4 + 116 / 16 + 138 / 64 + ... = 33 on those below
// together 89 bytes: 0.13 ms a 1080p RGB frame at 4.3 TB/s, less where planes stay in the L2. Instructions
// of a warp per 120 samples: 152 + 2 * 194 + 112 in the passes on the finest level, 345 on those below, a
// tenth more for the rows of the halo, 1100 in all: 0.06 ms at four a clock on 132 multiprocessors of 1.75
// GHz. A data weight moves no more bytes; its instructions are counted, for without one its mass is a 0 that
// is multiplied and added.

// ------------------------------------------------------------------------------------------------- geometry

// One cell of a line of cells: 1/distance to the centres before and after it, its width, its share of the
// diagonal.
struct Face {
    float before, after, width, share;
};

__device__ __forceinline__ Face face_of(int i, int count, float last)
{
    const float gap = 2.0f / (1.0f + last);
    Face face;
    face.before = i == 0 ? 0.0f : i == count - 1 ? gap : 1.0f;
    face.after = i == count - 1 ? 0.0f : i == count - 2 ? gap : 1.0f;
    face.width = i == count - 1 ? last : 1.0f;
    // At a border the diagonal of an inner cell is kept: it is what relaxes well there.
    face.share = face.before + face.after;
    if (i == 0) face.share += face.after;
    if (i == count - 1 && last == 1.0f) face.share += face.before;
    return face;
}

// Linear interpolation between cell centres, constant beyond the last ones:
// (1 - weight) u[first] + weight u[second].
struct Source {
    int first, second;
    float weight;
};

__device__ __forceinline__ Source source_of(int i, int count, float last, int coarse, float coarse_last)
{
    const float at = 0.5f * ((float)i + (i == count - 1 ? 0.5f * last : 0.5f));
    Source from;
    from.first = clamped(__float2int_rd(at - 0.5f), 0, max(coarse - 2, 0));
    from.second = min(from.first + 1, coarse - 1);
    const float centre = (float)from.first + 0.5f;
    float way = at - centre;
    if (from.second == coarse - 1) way = __fdividef(way, (float)(coarse - 1) + 0.5f * coarse_last - centre);
    from.weight = coarse == 1 ? 0.0f : __saturatef(way);
    return from;
}

__device__ __forceinline__ float lerp(float a, float b, float weight)
{
    return fmaf(weight, b - a, a);
}

// --------------------------------------------------------------------------------------------- restrict_sum

// Right-hand side of a coarser level: the sum of the children (2 x 2; 3 where a last cell takes the odd one
// in).
// Bytes per fine sample: 4 read, 1 written.
//
// fine, coarse : (planes, rows, pitch) of the two levels; pitches in floats, multiples of 4
// A thread makes one coarse cell. Block 32 x 8; grid: (columns / 32) x (rows / 8) x planes, in one dimension.
extern "C" __global__ void __launch_bounds__(256)
restrict_sum(const float* __restrict__ fine, float* __restrict__ coarse, int planes, int height, int width,
             int pitch, int coarse_height, int coarse_width, int coarse_pitch)
{
    const int across = (coarse_width + 31) / 32, down = (coarse_height + 7) / 8;
    const int tile = (int)blockIdx.x % (across * down), plane = (int)blockIdx.x / (across * down);
    const int c = tile % across * 32 + (int)threadIdx.x, r = tile / across * 8 + (int)threadIdx.y;
    if (plane >= planes || c >= coarse_width || r >= coarse_height) return;
    const int last_row = r == coarse_height - 1 ? height : 2 * r + 2;
    const int last_column = c == coarse_width - 1 ? width : 2 * c + 2;
    const float* own = fine + (size_t)plane * height * pitch;
    float total = 0.0f;
    if (last_row == 2 * r + 2 && last_column == 2 * c + 2) {
        const float2 upper = *reinterpret_cast<const float2*>(own + (size_t)(2 * r) * pitch + 2 * c);
        const float2 lower = *reinterpret_cast<const float2*>(own + (size_t)(2 * r + 1) * pitch + 2 * c);
        total = (upper.x + upper.y) + (lower.x + lower.y);
    } else {
#pragma unroll 1
        for (int y = 2 * r; y < last_row; ++y)
#pragma unroll 1
            for (int x = 2 * c; x < last_column; ++x) total += own[(size_t)y * pitch + x];
    }
    coarse[((size_t)plane * coarse_height + r) * coarse_pitch + c] = total;
}

// ------------------------------------------------------------------------------------------------ grid_pass

#define LANE_COLUMNS 4  // neighbouring columns of one lane
#define HALO_COLUMNS 4  // computed again on either side: three relaxations and a residual spoil one each
#define OWN_COLUMNS 120  // a warp's columns without halo
#define PASS_WARPS 2

struct Four {
    float v[LANE_COLUMNS];
};

// A warp's place on a level.
struct Strip {
    int column;  // the lane's first; negative or beyond the width in the halo
    int height, width;
    float last_row, last_column;
    bool west_end, east_end;  // the lane holds the first column; the last one, its fourth
    bool ragged;  // the last two columns are in this warp, and need their own stencil
    float mass;   // of a whole cell
};

// A relaxation: its step, and its gain in a cell away from the border.
struct Step {
    float length, gain;
};

__device__ __forceinline__ Four load_four(const float* at)
{
    const float4 raw = *reinterpret_cast<const float4*>(at);
    return {{raw.x, raw.y, raw.z, raw.w}};
}

// West and east neighbours of a lane's columns; at the border the border itself.
__device__ __forceinline__ void beside(const Four& c, const Strip& strip, float& west, float& east)
{
    west = __shfl_up_sync(FULL_WARP, c.v[3], 1);
    east = __shfl_down_sync(FULL_WARP, c.v[0], 1);
    if (strip.west_end) west = c.v[0];
    if (strip.east_end) east = c.v[3];
}

// The gain of a cell at the border.
__device__ __forceinline__ float gain_at(float step, const Face& row, const Face& column, float mass)
{
    const float diagonal = row.width * column.share + column.width * row.share;
    return __fdividef(step, diagonal + step * (mass * row.width * column.width));
}

// What a relaxation or the residual makes of a cell and its neighbours:
// keep c + above a + below b + west w + east e - gain f - pull c.
struct Stencil {
    float keep, above, below, west, east, gain, pull;
};

// Of a relaxation by `step`, or of the residual f - A u + mass u.
template <bool RESIDUAL>
__device__ __forceinline__ Stencil stencil_of(const Face& row, const Face& column, float step, float mass)
{
    const float gain = RESIDUAL ? -1.0f : gain_at(step, row, column, mass);
    Stencil out;
    out.above = gain * column.width * row.before;
    out.below = gain * column.width * row.after;
    out.west = gain * row.width * column.before;
    out.east = gain * row.width * column.after;
    out.keep = (RESIDUAL ? 0.0f : 1.0f) - (out.above + out.below + out.west + out.east);
    out.gain = gain;
    out.pull = gain * (mass * row.width * column.width);
    return out;
}

// The same away from the last two columns, and for BORDER = false away from the first row and the last two.
template <bool BORDER, bool RESIDUAL>
__device__ __forceinline__ Stencil stencil_of_row(int r, const Step& step, const Strip& strip)
{
    const float gain = RESIDUAL ? -1.0f : step.gain, keep = (RESIDUAL ? 0.0f : 1.0f) - 4.0f * gain;
    if (!BORDER) return {keep, gain, gain, gain, gain, gain, gain * strip.mass};
    const Face row = face_of(r, strip.height, strip.last_row);
    return stencil_of<RESIDUAL>(row, {1.0f, 1.0f, 1.0f, 2.0f}, step.length, strip.mass);
}

// Whether column k of the lane is one of the last two of a ragged level.
__device__ __forceinline__ bool own_stencil(int k, const Strip& strip)
{
    return strip.ragged && strip.column + k >= strip.width - 2 && strip.column + k < strip.width;
}

// A relaxation, or the residual, that has come to row r: `row` takes row r and gives row r - 1 of the
// result. What the result takes from all but the row below waits in `open` until that row is there; `above`
// is the row before.
template <bool BORDER, bool RESIDUAL>
__device__ __forceinline__ void follow(Four& row, Four& above, Four& open, const Four& f, int r,
                                       const Step& step, const Strip& strip)
{
    const Stencil here = stencil_of_row<BORDER, RESIDUAL>(r, step, strip);
    const float below = stencil_of_row<BORDER, RESIDUAL>(r - 1, step, strip).below;
    float west, east;
    beside(row, strip, west, east);
    Four done;
#pragma unroll
    for (int k = 0; k < LANE_COLUMNS; ++k) {
        const float w = k > 0 ? row.v[k - 1] : west, e = k < LANE_COLUMNS - 1 ? row.v[k + 1] : east;
        if (BORDER) {
            Stencil cell = here;
            float cell_below = below;
            if (own_stencil(k, strip)) {
                const Face column = face_of(strip.column + k, strip.width, strip.last_column);
                const Face former = face_of(r - 1, strip.height, strip.last_row);
                const Face latter = face_of(r, strip.height, strip.last_row);
                cell = stencil_of<RESIDUAL>(latter, column, step.length, strip.mass);
                cell_below = stencil_of<RESIDUAL>(former, column, step.length, strip.mass).below;
            }
            // In differences, for the coefficients are rounded, and all of a thin plane is border.
            const float c = row.v[k];
            done.v[k] = open.v[k] + cell_below * (RESIDUAL ? c - above.v[k] : c);
            open.v[k] = cell.above * (above.v[k] - c) + cell.west * (w - c) + cell.east * (e - c) -
                        cell.gain * f.v[k];
            if (!RESIDUAL) open.v[k] += c - cell.below * c;
            open.v[k] -= cell.pull * c;
        } else if (RESIDUAL) {
            // In differences too: what is rounded here the coarse levels take for a slope, and it comes back
            // magnified by the size of the picture.
            const float c = row.v[k], down = c - above.v[k];
            done.v[k] = open.v[k] - down;
            open.v[k] = (f.v[k] + down) - ((w - c) + (e - c)) + strip.mass * c;
        } else {
            done.v[k] = open.v[k] + below * row.v[k];
            open.v[k] = (here.keep - here.pull) * row.v[k] + here.above * above.v[k] + here.west * (w + e) -
                        here.gain * f.v[k];
        }
    }
    above = row;
    row = done;
}

// The first relaxation where u = 0.
template <bool BORDER>
__device__ __forceinline__ Four relaxed_from_zero(const Four& f, int r, const Step& step, const Strip& strip)
{
    const float gain = stencil_of_row<BORDER, false>(r, step, strip).gain;
    Four out;
#pragma unroll
    for (int k = 0; k < LANE_COLUMNS; ++k) {
        out.v[k] = -gain * f.v[k];
        if (BORDER && own_stencil(k, strip)) {
            const Face row = face_of(r, strip.height, strip.last_row);
            const Face column = face_of(strip.column + k, strip.width, strip.last_column);
            out.v[k] = -gain_at(step.length, row, column, strip.mass) * f.v[k];
        }
    }
    return out;
}

// Kinds of steps. Away from the border it is known when compiling whether a row is odd.
struct AtBorder {
    static constexpr bool BORDER = true, ODD = false;
};

template <bool IS_ODD>
struct Within {
    static constexpr bool BORDER = false, ODD = IS_ODD;
};

// What a lane needs of a coarse row: its two columns, and for the outer lanes one more.
struct CoarseRow {
    float2 pair;
    float outer;
};

// One pass over a level for all planes. Bytes per sample: 4 for f, 4 for the old u, 1 for the correction, 4
// for the new u, 1 for the restricted residual, each where the variant has it: 14 between two visits of the
// coarser level, 3.3 ps at 4.3 TB/s. Instructions per row of 120 samples: 194 there, 1.7 ps a sample at
// four a clock; with two relaxations 152 from the coarser level alone, 112 without a residual, 100 from
// zero.
//
// SWEEPS    relaxations, with step_0, step_1, step_2
// OLD       there is an old u; else it is 0
// COARSE    add the interpolated coarse level
// RESIDUAL  restrict the residual to coarse_f
// MEASURE   sum the new u with the weights that interpolation to the next finer level gives its cells
// RAGGED    the width is no multiple of 4, or the last column of this level or of the coarse one is not of
//           width 1
//
// old, f, fresh        : (planes, height, pitch)        u before, right-hand side, u after; fresh is not old
// coarse, coarse_f     : (planes, coarse_height, coarse_pitch)
// means                : (planes)   f - area * means[plane] is the right-hand side, area being the cell's;
//                                   not from zero, where none is left
// area, mass           : of a whole cell of this level
// step_*, gain_*       : of the relaxations; gain is step / (4 + step * mass)
// shifts               : (planes)   taken off u on the way in, where there is no residual
// sums                 : (planes, height, strips)       MEASURE: the sums, row by row: segments do not matter
// row_measure, column_measure : (height), (width)       MEASURE: the weights
//
// A warp makes a strip of 120 columns in a segment of coarse rows, walking down; a lane has four columns,
// rows are registers, neighbours come by shuffles: no shared memory, no barrier. Relaxation s of row r is
// made as soon as relaxation s - 1 of row r + 1 is there, so every row is read once. Columns and rows of
// the halo are computed again, by the same operations: the result does not depend on strips and segments.
// At the border a face has the coefficient 0. Block: 2 warps; grid: (planes * segments * strips) / 2.
template <int SWEEPS, bool OLD, bool COARSE, bool RESIDUAL, bool MEASURE, bool RAGGED>
__global__ void __launch_bounds__(32 * PASS_WARPS, RAGGED ? 4 : SWEEPS == 3 ? 6 : 8)
grid_pass(const float* __restrict__ old, const float* __restrict__ coarse, const float* __restrict__ f,
          const float* __restrict__ means, const float* __restrict__ shifts,
          const float* __restrict__ row_measure, const float* __restrict__ column_measure,
          float* __restrict__ fresh, float* __restrict__ coarse_f, float* __restrict__ sums, int planes,
          int height, int width, int pitch, int coarse_height, int coarse_width, int coarse_pitch,
          int rows_together, float last_row, float last_column, float coarse_last_row,
          float coarse_last_column, float area, float mass, float step_0, float step_1, float step_2,
          float gain_0, float gain_1, float gain_2)
{
    const int lane = (int)threadIdx.x & 31;
    const int strips = (coarse_width + OWN_COLUMNS / 2 - 1) / (OWN_COLUMNS / 2);
    const int segments = (coarse_height + rows_together - 1) / rows_together;
    const int item = (int)blockIdx.x * PASS_WARPS + ((int)threadIdx.x >> 5);
    if (item >= planes * segments * strips) return;  // whole warps
    const int number = item % strips, segment = item / strips % segments, plane = item / (strips * segments);
    const int own_first = OWN_COLUMNS * number;
    const int own_end = number == strips - 1 ? width : own_first + OWN_COLUMNS;
    const int start = segment * rows_together, stop = min(start + rows_together, coarse_height);
    const int low = 2 * start, high = stop == coarse_height ? height : 2 * stop;

    Strip strip;
    strip.column = own_first - HALO_COLUMNS + LANE_COLUMNS * lane;
    strip.height = height;
    strip.width = width;
    strip.last_row = last_row;
    strip.last_column = last_column;
    strip.mass = mass;
    strip.west_end = strip.column == 0;
    strip.east_end = strip.column + LANE_COLUMNS == width;
    // Interpolation goes by the table from six columns before the end.
    strip.ragged = RAGGED && own_first - HALO_COLUMNS + 32 * LANE_COLUMNS + 6 > width;
    const bool owned = strip.column >= own_first && strip.column < own_end;
    // Three columns make the last coarse one.
    const bool merged = RAGGED && width % 2 == 1 && 2 * coarse_width < width;

    // Lanes beyond the border read something within: what they make of it goes nowhere, but has to be finite.
    const int column = clamped(strip.column, 0, (width - 1) / 4 * 4);
    const int coarse_column = clamped(strip.column / 2, 0, (coarse_width - 1) / 2 * 2);
    // The outer lanes need one more coarse column, where all of the halo counts.
    const int outer = lane == 0 ? max(coarse_column - 1, 0) : min(coarse_column + 2, coarse_width - 1);
    const float mean = area * means[plane], shift = RESIDUAL ? 0.0f : shifts[plane];
    const Step steps[3] = {{step_0, gain_0}, {step_1, gain_1}, {step_2, gain_2}};

    // Rows come in at the front; each stage, a relaxation or the residual, is one row behind the one before
    // it. From zero, the first relaxation needs no neighbours and is made at the front.
    constexpr bool FROM_ZERO = !OLD && !COARSE;
    constexpr int LAG = FROM_ZERO ? SWEEPS - 1 : SWEEPS, STAGES = LAG + (RESIDUAL ? 1 : 0);
    Four above[STAGES] = {}, open[STAGES] = {};  // of each stage, see follow
    Four source[STAGES] = {};                    // source[k]: right-hand side of row front - k
    float2 total = make_float2(0.0f, 0.0f);
    float weight[LANE_COLUMNS] = {};
    if (MEASURE)
        for (int k = 0; k < LANE_COLUMNS; ++k)
            if (owned && strip.column + k < width) weight[k] = column_measure[strip.column + k];

    // The rows of the next steps are on their way while this one is computed. Pointers follow the rows.
    constexpr int AHEAD = MEASURE ? 1 : 2;
    const int first = max(0, low - STAGES), end = high + STAGES;
    const size_t begin = (size_t)plane * height * pitch + column;
    const size_t coarse_begin = (size_t)plane * coarse_height * coarse_pitch;
    const float* f_ahead = f + begin + (size_t)first * pitch;
    const float* old_ahead = OLD ? old + begin + (size_t)first * pitch : old;
    float* fresh_row = fresh + begin + (size_t)low * pitch;
    float* coarse_f_row =
        RESIDUAL ? coarse_f + coarse_begin + (size_t)start * coarse_pitch + coarse_column : coarse_f;
    Four next_f[AHEAD] = {}, next_old[AHEAD] = {};
    const auto load_next = [&](bool last) {
        next_f[AHEAD - 1] = load_four(f_ahead);
        if (OLD) next_old[AHEAD - 1] = load_four(old_ahead);
        if (last) return;  // beyond the last row, that again
        f_ahead += pitch;
        if (OLD) old_ahead += pitch;
    };
    load_next(first >= height - 1);
    if (AHEAD == 2) {
        next_f[0] = next_f[1];
        next_old[0] = next_old[1];
        load_next(first >= height - 2);
    }

    // Rows 2 j + 1 and 2 j + 2 lie between the coarse rows j and j + 1: `upper` and `lower`, interpolated
    // along the row. `coming` is row `coarse_row`, or the nearest that exists, as it was loaded.
    Four upper = {}, lower = {};
    CoarseRow coming = {{0.0f, 0.0f}, 0.0f};
    int coarse_row = ((first + 1) >> 1) - 1;
    const float* coarse_ahead = coarse;
    if (COARSE) {
        coarse_ahead += coarse_begin + (size_t)clamped(coarse_row, 0, coarse_height - 1) * coarse_pitch;
        coming.pair = *reinterpret_cast<const float2*>(coarse_ahead + coarse_column);
        if (STAGES == HALO_COLUMNS) coming.outer = coarse_ahead[outer];
    }
    const auto next_coarse_row = [&]() {
        const float left_75 = 0.75f * coming.pair.x, right_75 = 0.75f * coming.pair.y;
        float before = __shfl_up_sync(FULL_WARP, coming.pair.y, 1);
        float after = __shfl_down_sync(FULL_WARP, coming.pair.x, 1);
        if (STAGES == HALO_COLUMNS && lane == 0) before = coming.outer;
        if (STAGES == HALO_COLUMNS && lane == 31) after = coming.outer;
        if (strip.west_end) before = coming.pair.x;
        if (strip.east_end) after = coming.pair.y;
        upper = lower;
        lower.v[0] = fmaf(0.25f, before, left_75);
        lower.v[1] = fmaf(0.25f, coming.pair.y, left_75);
        lower.v[2] = fmaf(0.25f, coming.pair.x, right_75);
        lower.v[3] = fmaf(0.25f, after, right_75);
        if (strip.ragged) {
#pragma unroll
            for (int k = 0; k < LANE_COLUMNS; ++k) {
                const int x = strip.column + k;
                if (x < 0 || x >= width) {
                    lower.v[k] = 0.0f;
                } else if (x >= 2 * (coarse_width - 2)) {
                    const Source from = source_of(x, width, last_column, coarse_width, coarse_last_column);
                    lower.v[k] = lerp(coarse_ahead[from.first], coarse_ahead[from.second], from.weight);
                }
            }
        }
        if (!RESIDUAL)
            for (int k = 0; k < LANE_COLUMNS; ++k) lower.v[k] -= shift;
        if (coarse_row >= 0 && coarse_row < coarse_height - 1) coarse_ahead += coarse_pitch;
        ++coarse_row;
        coming.pair = *reinterpret_cast<const float2*>(coarse_ahead + coarse_column);
        if (STAGES == HALO_COLUMNS) coming.outer = coarse_ahead[outer];
    };
    if (COARSE) {
#pragma unroll 1
        for (int rows = first % 2 == 0 ? 2 : 1; rows > 0; --rows) next_coarse_row();
    }

    // One row further. BORDER: some stage is near the first or the last row, or the strip holds the last
    // columns of a ragged level.
    const auto advance = [&](auto kind, int front) {
        constexpr bool BORDER = decltype(kind)::BORDER;
        const bool odd = BORDER ? front % 2 != 0 : decltype(kind)::ODD;
        if (COARSE && odd) next_coarse_row();
#pragma unroll
        for (int k = STAGES - 1; k > 0; --k) source[k] = source[k - 1];
        Four row = next_old[0];

        // The mean of the right-hand side has no solution. What starts from zero has none left.
        float take = FROM_ZERO ? 0.0f : mean;
        if (BORDER && front == height - 1) take *= last_row;
#pragma unroll
        for (int k = 0; k < LANE_COLUMNS; ++k) source[0].v[k] = next_f[0].v[k] - take;
        if (AHEAD == 2) {
            next_f[0] = next_f[1];
            next_old[0] = next_old[1];
        }
        load_next(BORDER && front + AHEAD >= height - 1);

        if (COARSE) {
            float to_lower = odd ? 0.25f : 0.75f;
            if (BORDER) {
                // The last coarse centre may be nearer or farther, and the last row has its centre elsewhere.
                if ((front + 1) / 2 == coarse_height - 1)
                    to_lower = __fdividef(to_lower, 0.5f + 0.5f * coarse_last_row);
                if (front == height - 1) to_lower = 1.0f;
            }
            const float to_upper = 1.0f - to_lower;
#pragma unroll
            for (int k = 0; k < LANE_COLUMNS; ++k)
                row.v[k] = (OLD ? row.v[k] : 0.0f) + to_upper * upper.v[k] + to_lower * lower.v[k];
        }
        if (BORDER && strip.ragged) {
#pragma unroll
            for (int k = 0; k < LANE_COLUMNS; ++k) {
                const int x = strip.column + k;
                if (!FROM_ZERO && x == width - 1) source[0].v[k] -= take * (last_column - 1.0f);
                if (x < 0 || x >= width) row.v[k] = source[0].v[k] = 0.0f;  // may be padding
            }
        }
        if (FROM_ZERO) row = relaxed_from_zero<BORDER>(source[0], front, steps[0], strip);

#pragma unroll
        for (int stage = 0; stage < LAG; ++stage)
            follow<BORDER, false>(row, above[stage], open[stage], source[stage], front - stage,
                                  steps[stage + SWEEPS - LAG], strip);
        int r = front - LAG;
        if (r >= low && r < high) {  // the whole warp
            if (owned)
                *reinterpret_cast<float4*>(fresh_row) = make_float4(row.v[0], row.v[1], row.v[2], row.v[3]);
            fresh_row += pitch;
            if (MEASURE) {
                float measured = 0.0f;
#pragma unroll
                for (int k = 0; k < LANE_COLUMNS; ++k) measured += weight[k] * row.v[k];
#pragma unroll
                for (int distance = 16; distance > 0; distance /= 2)
                    measured += __shfl_xor_sync(FULL_WARP, measured, distance);
                if (lane == 0)
                    sums[((size_t)plane * height + r) * strips + number] = row_measure[r] * measured;
            }
        }
        if (!RESIDUAL) return;
        follow<BORDER, true>(row, above[STAGES - 1], open[STAGES - 1], source[STAGES - 1], r, {}, strip);
        r = front - STAGES;
        if (BORDER && strip.ragged) {
#pragma unroll
            for (int k = 0; k < LANE_COLUMNS; ++k)
                if (strip.column + k >= width) row.v[k] = 0.0f;
        }
        const float2 pair = make_float2(row.v[0] + row.v[1], row.v[2] + row.v[3]);
        const int parent = min(r >> 1, coarse_height - 1);
        const bool begins = BORDER ? r == 2 * parent : odd == (STAGES % 2 != 0);
        const bool ends = BORDER ? r == height - 1 || (r % 2 != 0 && parent < coarse_height - 1) : !begins;
        total.x = begins ? pair.x : total.x + pair.x;
        total.y = begins ? pair.y : total.y + pair.y;
        if (!ends || r < low || r >= high) return;
        if (merged) {
            const float beyond = __shfl_down_sync(FULL_WARP, total.x, 1);
            if (strip.column / 2 == coarse_width - 1) total.x += total.y;
            if (strip.column / 2 == coarse_width - 2) total.y += beyond;
        }
        if (owned && strip.column / 2 < coarse_width) *reinterpret_cast<float2*>(coarse_f_row) = total;
        coarse_f_row += coarse_pitch;
    };
    // Two turns: rows at the upper border and pairs of rows within; then rows at the lower border. Which
    // rows are pairs does not depend on the segment either.
    constexpr bool ODD = STAGES % 2 != 0;
    const int quiet = strip.ragged ? end : STAGES + 2, stir = height - 5;
    int front = first;
#pragma unroll 1
    while (front < end) {
        const int until = front < stir ? min(quiet, end) : end;
#pragma unroll 1
        for (; front < until; ++front) advance(AtBorder(), front);
#pragma unroll 1
        for (; front < min(stir, end); front += 2) {
            advance(Within<ODD>(), front);
            advance(Within<!ODD>(), front + 1);
        }
    }
}

// -------------------------------------------------------------------------------------------- coarse_levels

#define COARSE_THREADS 512
#define COARSE_WARPS (COARSE_THREADS / 32)
#define MOST_LEVELS 16

// A level in shared memory: where its u and f begin there. Rows are dealt to warps, columns to lanes.
struct Level {
    int u, f;
    int height, width;
    float last_row, last_column;
    float mass;  // of a whole cell
};

// Columns outside, so that what depends on the column alone is computed once.
#define FOR_COLUMNS(c, columns) for (int c = (int)threadIdx.x & 31; c < (columns); c += 32)
#define FOR_ROWS(r, rows) for (int r = (int)threadIdx.x >> 5; r < (rows); r += COARSE_WARPS)
#define FOR_CELLS(r, c, rows, columns) FOR_COLUMNS(c, columns) FOR_ROWS(r, rows)

// A u - mass u - f of one cell.
__device__ __forceinline__ float defect_at(const Face& row, const Face& column, float mass, float above,
                                           float west, float centre, float east, float below, float f)
{
    const float down = row.before * (above - centre) + row.after * (below - centre);
    const float across = column.before * (west - centre) + column.after * (east - centre);
    return column.width * down + row.width * across - f - mass * row.width * column.width * centre;
}

__device__ __forceinline__ float defect_in(int u, const Level& level, const Face& row, const Face& column,
                                           int r, int c)
{
    extern __shared__ float room[];
    const int i = u + r * level.width + c;
    const float above = room[r > 0 ? i - level.width : i];
    const float below = room[r < level.height - 1 ? i + level.width : i];
    const float west = room[c > 0 ? i - 1 : i], east = room[c < level.width - 1 ? i + 1 : i];
    const float f = room[level.f + r * level.width + c];
    return defect_at(row, column, level.mass, above, west, room[i], east, below, f);
}

// One relaxation from the array at `u` to that at `out`.
__device__ void relax_level(int u, int out, const Level& level, float step)
{
    extern __shared__ float room[];
    FOR_COLUMNS(c, level.width) {
        const Face column = face_of(c, level.width, level.last_column);
        FOR_ROWS(r, level.height) {
            const Face row = face_of(r, level.height, level.last_row);
            const int i = r * level.width + c;
            const float gain = gain_at(step, row, column, level.mass);
            room[out + i] = room[u + i] + gain * defect_in(u, level, row, column, r, c);
        }
    }
    __syncthreads();
}

__device__ void relax_level_from_zero(int out, const Level& level, float step)
{
    extern __shared__ float room[];
    FOR_COLUMNS(c, level.width) {
        const Face column = face_of(c, level.width, level.last_column);
        FOR_ROWS(r, level.height) {
            const Face row = face_of(r, level.height, level.last_row);
            const int i = r * level.width + c;
            room[out + i] = -gain_at(step, row, column, level.mass) * room[level.f + i];
        }
    }
    __syncthreads();
}

// Interpolate the coarse u; add it to the u that is there, or replace it.
__device__ void interpolate_level(const Level& level, const Level& coarse, bool add)
{
    extern __shared__ float room[];
    FOR_COLUMNS(c, level.width) {
        const Source across = source_of(c, level.width, level.last_column, coarse.width, coarse.last_column);
        FOR_ROWS(r, level.height) {
            const Source down = source_of(r, level.height, level.last_row, coarse.height, coarse.last_row);
            const float* a = room + coarse.u + down.first * coarse.width;
            const float* b = room + coarse.u + down.second * coarse.width;
            const float value = lerp(lerp(a[across.first], b[across.first], down.weight),
                                     lerp(a[across.second], b[across.second], down.weight), across.weight);
            const int i = level.u + r * level.width + c;
            room[i] = add ? room[i] + value : value;
        }
    }
    __syncthreads();
}

// Sum of the children's residuals, or of their right-hand sides, to the coarse right-hand side.
__device__ void restrict_level(const Level& level, const Level& coarse, bool residual)
{
    extern __shared__ float room[];
    FOR_CELLS(r, c, coarse.height, coarse.width) {
        const int last_row = r == coarse.height - 1 ? level.height : 2 * r + 2;
        const int last_column = c == coarse.width - 1 ? level.width : 2 * c + 2;
        float total = 0.0f;
        for (int y = 2 * r; y < last_row; ++y)
            for (int x = 2 * c; x < last_column; ++x) {
                if (residual)
                    total -= defect_in(level.u, level, face_of(y, level.height, level.last_row),
                                       face_of(x, level.width, level.last_column), y, x);
                else
                    total += room[level.f + y * level.width + x];
            }
        room[coarse.f + r * coarse.width + c] = total;
    }
    __syncthreads();
}

// Exact solution on the coarsest level, of at most COARSE_THREADS / 4 cells: four lanes a row of the inverse.
__device__ void solve_coarsest(const Level& level, const float* __restrict__ inverse)
{
    extern __shared__ float room[];
    const int count = level.height * level.width, i = (int)threadIdx.x / 4;
    float total = 0.0f;
    if (i < count)
        for (int j = (int)threadIdx.x % 4; j < count; j += 4)
            total += inverse[(size_t)i * count + j] * room[level.f + j];
    total += __shfl_xor_sync(FULL_WARP, total, 1);
    total += __shfl_xor_sync(FULL_WARP, total, 2);
    if (i < count && threadIdx.x % 4 == 0) room[level.u + i] = total;
    __syncthreads();
}

__device__ __forceinline__ float block_sum(float value, float* partial)
{
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = value;
    __syncthreads();
    float total = 0.0f;
    for (int k = 0; k < COARSE_WARPS; ++k) total += partial[k];
    __syncthreads();
    return total;
}

// All levels from one of at most a few thousand cells down to the coarsest: a V-cycle from zero, or nested
// iteration with a V-cycle a level. Bytes: 4 read and 4 written per sample of its finest level, nothing of
// what is below. The time is that of some tens of barriers, about 20 us: many planes at once hide it.
//
// f, u           : (planes, height, pitch) of the finest of these levels; right-hand side, solution
// sizes, lasts   : (levels, 2)   rows and columns; height of the last row, width of the last column
// inverse        : (n, n)        pseudo-inverse of the operator on the coarsest level, n <= 128 cells
// row_measure, column_measure, sums : as in grid_pass, for the finest of these levels; sums is (planes)
// means          : (planes)      written when nested: mean of the right-hand side per cell of the picture
// nested         : whether to begin with nested iteration; f then has a mean, which is taken out
// measured       : whether to write sums
// area           : cells of the picture in a cell of the finest of these levels
// mass           : of a whole cell of the finest of these levels
// per_mean       : 1 / mass if there is one and these are all levels, else 0: the mean that u is to have
// samples        : cells of the picture
// nest_*, down_*, up_* : steps of the relaxations
// A block makes a plane; 512 threads. Shared memory: u and f of all these levels, and u of the finest again.
extern "C" __global__ void __launch_bounds__(COARSE_THREADS)
coarse_levels(const float* __restrict__ f, const int* __restrict__ sizes, const float* __restrict__ lasts,
              const float* __restrict__ inverse, const float* __restrict__ row_measure,
              const float* __restrict__ column_measure, float* __restrict__ u, float* __restrict__ means,
              float* __restrict__ sums, int levels, int pitch, int nested, int measured, float area,
              float mass, float per_mean, float samples, float nest_0, float nest_1, float down_0,
              float down_1, float up_0, float up_1)
{
    extern __shared__ float room[];
    __shared__ float partial[COARSE_WARPS];
    __shared__ Level level[MOST_LEVELS];
    __shared__ int other_array;
    const int plane = (int)blockIdx.x, bottom = levels - 1;
    if (threadIdx.x == 0) {
        int end = 0;
        for (int k = 0; k < levels; ++k) {
            const int cells = sizes[2 * k] * sizes[2 * k + 1];
            level[k].height = sizes[2 * k];
            level[k].width = sizes[2 * k + 1];
            level[k].last_row = lasts[2 * k];
            level[k].last_column = lasts[2 * k + 1];
            level[k].mass = k == 0 ? mass : 4.0f * level[k - 1].mass;
            level[k].u = end;
            level[k].f = end + cells;
            end += 2 * cells;
        }
        other_array = end;
    }
    __syncthreads();
    const int other = other_array;  // a second u for the relaxations

    const Level top = level[0];
    const size_t begin = (size_t)plane * top.height * pitch;
    FOR_CELLS(r, c, top.height, top.width) room[top.f + r * top.width + c] = f[begin + (size_t)r * pitch + c];
    __syncthreads();

    float own_mean = 0.0f;
    if (nested) {
        for (int k = 0; k < bottom; ++k) restrict_level(level[k], level[k + 1], false);
        const Level last = level[bottom];
        const int count = last.height * last.width;
        const float own = (int)threadIdx.x < count ? room[last.f + threadIdx.x] : 0.0f;
        const float mean = block_sum(own, partial) / samples;
        if (threadIdx.x == 0) means[plane] = mean;
        own_mean = -per_mean * mean;
        float size = area;
        for (int k = 0; k <= bottom; ++k, size *= 4.0f)
            FOR_CELLS(r, c, level[k].height, level[k].width) {
                float take = size * mean;
                if (r == level[k].height - 1) take *= level[k].last_row;
                if (c == level[k].width - 1) take *= level[k].last_column;
                room[level[k].f + r * level[k].width + c] -= take;
            }
        __syncthreads();
    }

    // A V-cycle from each of these levels, or from the finest alone.
    for (int from = nested ? bottom : 0; from >= 0; --from) {
        const bool guess = nested && from < bottom;  // the coarser solution is there
        for (int k = from; k < bottom; ++k) {
            if (guess && k == from) {
                interpolate_level(level[k], level[k + 1], false);
                relax_level(level[k].u, other, level[k], nest_0);
                relax_level(other, level[k].u, level[k], nest_1);
            } else {
                relax_level_from_zero(other, level[k], down_0);
                relax_level(other, level[k].u, level[k], down_1);
            }
            restrict_level(level[k], level[k + 1], true);
        }
        solve_coarsest(level[bottom], inverse);
        for (int k = bottom - 1; k >= from; --k) {
            interpolate_level(level[k], level[k + 1], true);
            relax_level(level[k].u, other, level[k], up_0);
            relax_level(other, level[k].u, level[k], up_1);
        }
    }

    float own = 0.0f;
    FOR_CELLS(r, c, top.height, top.width) {
        const float value = room[top.u + r * top.width + c] + own_mean;
        u[begin + (size_t)r * pitch + c] = value;
        if (measured) own += row_measure[r] * column_measure[c] * value;
    }
    if (measured) {
        const float total = block_sum(own, partial);
        if (threadIdx.x == 0) sums[plane] = total;
    }
}

// ----------------------------------------------------------------------------------------------- mean_shift

// What the last pass is to take off the mean of u. The corrections so far have added to it; with a mass,
// relaxations have taken their part of that. In the end it is to be 0, or with a mass -means / mass.
//
// sums   : (turns, planes, parts)   from grid_pass or coarse_levels
// means  : (planes)                 of the right-hand side
// shifts : (planes)
// per_mean : 1 / mass, 0 without one
// kept_first, kept_again : what the first pass and one of those after it leave of a mean
// A block makes a plane, in a fixed order. Block: 512 threads; grid: planes.
extern "C" __global__ void __launch_bounds__(COARSE_THREADS)
mean_shift(const float* __restrict__ sums, const float* __restrict__ means, float* __restrict__ shifts,
           int turns, int planes, int parts, float samples, float per_mean, float kept_first,
           float kept_again)
{
    __shared__ float partial[COARSE_WARPS];
    const int plane = (int)blockIdx.x;
    float own = 0.0f;
    for (int turn = 0; turn < turns; ++turn) {
        own *= turn == 1 ? kept_first : kept_again;
        for (int k = (int)threadIdx.x; k < parts; k += COARSE_THREADS)
            own += sums[((size_t)turn * planes + plane) * parts + k];
    }
    const float total = block_sum(own, partial);
    if (threadIdx.x == 0) shifts[plane] = total / samples + per_mean * means[plane];
}

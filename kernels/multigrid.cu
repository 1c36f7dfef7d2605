// Full multigrid for the Poisson equation with Neumann border; the twin of gpufuse/kernels_cpu/multigrid.py.
// Launched by gpufuse/kernels_cuda/multigrid.py, which knows the order of the launches.
//
// Levels are those of gpufuse/hierarchy.py: unit cells, but for a last row and column of 1/2 to 3/2. Per cell
//   sum over its faces of length / distance * (u_nb - u) = f,
// f being the right-hand side integrated over the cell. A relaxation is u + step / diagonal * (A u - f).
//
// grid_pass does, in one launch, all there is to do on a level between two visits of the coarser one: add the
// interpolated correction, relax two or three times, restrict the residual. coarse_levels does all the levels
// that fit into one block's shared memory. So one solution of a 1080p plane takes about 45 launches for all planes
// of a chunk together, and moves, per sample of the finest level and with the default two cycles,
//   restriction 5, first pass 10, two middle passes 14 each, last pass 13 bytes on the finest level = 56
//   about 94 / 4 + 116 / 16 + 138 / 64 + ... = 33 on those below
// together 89 bytes: 0.13 ms a 1080p RGB frame at 4.3 TB/s, less where planes stay in the L2. Arithmetic: about
// 13 relaxations and residuals of 7 operations and the interpolations, 40 % more for the coarser levels and
// 20 % for halos: 170 a sample, 0.04 ms at 30 Tera-operations a second.

// ------------------------------------------------------------------------------------------------- geometry

// One cell of a line of cells: 1/distance to the centres before and after it, its width, its share of the diagonal.
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

// Linear interpolation between cell centres, constant beyond the last ones: (1 - weight) u[first] + weight u[second].
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
    if (from.second == coarse - 1) way /= (float)(coarse - 1) + 0.5f * coarse_last - centre;
    from.weight = coarse == 1 ? 0.0f : __saturatef(way);
    return from;
}

__device__ __forceinline__ float lerp(float a, float b, float weight)
{
    return fmaf(weight, b - a, a);
}

// ------------------------------------------------------------------------------------------------- restrict_sum

// Right-hand side of a coarser level: the sum of the children (2 x 2; 3 where a last cell takes the odd one in).
// Bytes per fine sample: 4 read, 1 written.
//
// fine, coarse : (planes, rows, pitch) of the two levels; pitches in floats, multiples of 4
// A thread makes one coarse cell. Block 32 x 8; grid: (columns / 32) x (rows / 8) x planes, in one dimension.
extern "C" __global__ void __launch_bounds__(256)
restrict_sum(const float* __restrict__ fine, float* __restrict__ coarse, int planes, int height, int width, int pitch,
             int coarse_height, int coarse_width, int coarse_pitch)
{
    const int across = (coarse_width + 31) / 32, down = (coarse_height + 7) / 8;
    const int tile = (int)blockIdx.x % (across * down), plane = (int)blockIdx.x / (across * down);
    const int c = tile % across * 32 + (int)threadIdx.x, r = tile / across * 8 + (int)threadIdx.y;
    if (plane >= planes || c >= coarse_width || r >= coarse_height) return;
    const int last_row = r == coarse_height - 1 ? height : 2 * r + 2;
    const int last_column = c == coarse_width - 1 ? width : 2 * c + 2;
    const float* own = fine + (size_t)plane * height * pitch;
    float total = 0.0f;
    for (int y = 2 * r; y < last_row; ++y) {
        const float* row = own + (size_t)y * pitch;
        for (int x = 2 * c; x < last_column; ++x) total += row[x];
    }
    coarse[((size_t)plane * coarse_height + r) * coarse_pitch + c] = total;
}

// ------------------------------------------------------------------------------------------------- grid_pass

#define LANE_COLUMNS 4  // neighbouring columns of one lane
#define HALO_COLUMNS 4  // computed again on either side: three relaxations and a residual spoil one each
#define OWN_COLUMNS 120  // a warp's columns without halo
#define PASS_WARPS 4

struct Four {
    float v[LANE_COLUMNS];
};

// A warp's place on one level.
struct Strip {
    int column;  // the lane's first; negative or beyond the width in the halo
    int height, width;
    float last_row, last_column;
    bool ragged;  // the last two columns are in this warp, and need their own stencil
};

__device__ __forceinline__ Four load_row(const float* plane, int pitch, int r, const Strip& strip)
{
    Four row = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (r >= 0 && r < strip.height && strip.column >= 0 && strip.column < strip.width) {
        const float4 raw = *reinterpret_cast<const float4*>(plane + (size_t)r * pitch + strip.column);
        row.v[0] = raw.x;
        row.v[1] = raw.y;
        row.v[2] = raw.z;
        row.v[3] = raw.w;
    }
    if (strip.ragged)
        for (int k = 0; k < LANE_COLUMNS; ++k)
            if (strip.column + k >= strip.width) row.v[k] = 0.0f;  // padding
    return row;
}

__device__ __forceinline__ void store_row(float* plane, int pitch, int r, const Strip& strip, const Four& row)
{
    *reinterpret_cast<float4*>(plane + (size_t)r * pitch + strip.column) =
        make_float4(row.v[0], row.v[1], row.v[2], row.v[3]);
}

// West and east neighbours of a lane's columns; at the border the border itself.
__device__ __forceinline__ void beside(const Four& c, const Strip& strip, float& west, float& east)
{
    west = __shfl_up_sync(FULL_WARP, c.v[3], 1);
    east = __shfl_down_sync(FULL_WARP, c.v[0], 1);
    if (strip.column == 0) west = c.v[0];
    if (strip.column + LANE_COLUMNS == strip.width) east = c.v[3];
}

// A u - f of one cell among the last two columns, by the full stencil.
__device__ __forceinline__ float defect_at(const Face& row, const Face& column, float above, float west, float centre,
                                           float east, float below, float f)
{
    const float down = row.before * (above - centre) + row.after * (below - centre);
    const float across = column.before * (west - centre) + column.after * (east - centre);
    return column.width * down + row.width * across - f;
}

// Whether row r has a border face, or the last row's, among its own.
__device__ __forceinline__ bool at_border(int r, const Strip& strip)
{
    return r <= 0 || r >= strip.height - 2;
}

// Whether column k of the lane is one of the last two of a ragged level.
__device__ __forceinline__ bool own_stencil(int k, const Strip& strip)
{
    return strip.ragged && strip.column + k >= strip.width - 2 && strip.column + k < strip.width;
}

// step / diagonal of a cell among the last two columns.
__device__ __forceinline__ float gain_at(float step, const Face& row, const Face& column)
{
    return __fdividef(step, row.width * column.share + column.width * row.share);
}

// One relaxation of row r, whose neighbours are a (above) and b (below).
__device__ __forceinline__ Four relaxed(const Four& a, const Four& c, const Four& b, const Four& f, int r, float step,
                                        const Strip& strip)
{
    float gain = 0.25f * step, keep = 1.0f - step, up = gain, down = gain, side = gain;
    if (at_border(r, strip)) {
        const Face row = face_of(r, strip.height, strip.last_row);
        gain = __fdividef(step, 2.0f * row.width + row.share);
        up = gain * row.before;
        down = gain * row.after;
        side = gain * row.width;
        keep = 1.0f - up - down - 2.0f * side;
    }
    float west, east;
    beside(c, strip, west, east);
    Four out;
#pragma unroll
    for (int k = 0; k < LANE_COLUMNS; ++k) {
        const float w = k > 0 ? c.v[k - 1] : west, e = k < LANE_COLUMNS - 1 ? c.v[k + 1] : east;
        out.v[k] = keep * c.v[k] + up * a.v[k] + down * b.v[k] + side * (w + e) - gain * f.v[k];
        if (own_stencil(k, strip)) {
            const Face row = face_of(r, strip.height, strip.last_row);
            const Face column = face_of(strip.column + k, strip.width, strip.last_column);
            const float defect = defect_at(row, column, a.v[k], w, c.v[k], e, b.v[k], f.v[k]);
            out.v[k] = c.v[k] + gain_at(step, row, column) * defect;
        }
    }
    return out;
}

// The first relaxation where u = 0: -step / diagonal * f.
__device__ __forceinline__ Four relaxed_from_zero(const Four& f, int r, float step, const Strip& strip)
{
    float gain = 0.25f * step;
    if (at_border(r, strip)) {
        const Face row = face_of(r, strip.height, strip.last_row);
        gain = __fdividef(step, 2.0f * row.width + row.share);
    }
    Four out;
#pragma unroll
    for (int k = 0; k < LANE_COLUMNS; ++k) {
        out.v[k] = -gain * f.v[k];
        if (own_stencil(k, strip)) {
            const Face row = face_of(r, strip.height, strip.last_row);
            const Face column = face_of(strip.column + k, strip.width, strip.last_column);
            out.v[k] = -gain_at(step, row, column) * f.v[k];
        }
    }
    return out;
}

// f - A u of row r; 0 in columns beyond a ragged level.
__device__ __forceinline__ Four residual_of(const Four& a, const Four& c, const Four& b, const Four& f, int r,
                                            const Strip& strip)
{
    float diagonal = 4.0f, up = 1.0f, down = 1.0f, side = 1.0f;
    if (at_border(r, strip)) {
        const Face row = face_of(r, strip.height, strip.last_row);
        up = row.before;
        down = row.after;
        side = row.width;
        diagonal = up + down + 2.0f * side;
    }
    float west, east;
    beside(c, strip, west, east);
    Four out;
#pragma unroll
    for (int k = 0; k < LANE_COLUMNS; ++k) {
        const float w = k > 0 ? c.v[k - 1] : west, e = k < LANE_COLUMNS - 1 ? c.v[k + 1] : east;
        out.v[k] = f.v[k] + diagonal * c.v[k] - up * a.v[k] - down * b.v[k] - side * (w + e);
        if (own_stencil(k, strip)) {
            const Face row = face_of(r, strip.height, strip.last_row);
            const Face column = face_of(strip.column + k, strip.width, strip.last_column);
            out.v[k] = -defect_at(row, column, a.v[k], w, c.v[k], e, b.v[k], f.v[k]);
        }
        if (strip.ragged && strip.column + k >= strip.width) out.v[k] = 0.0f;
    }
    return out;
}

// What a lane needs of the coarse level for one row: its two columns, and for the outer lanes one more.
struct CoarseRow {
    float2 pair;
    float outer;
};

__device__ __forceinline__ CoarseRow load_coarse_row(const float* row, int width, int first, int lane)
{
    CoarseRow out = {{0.0f, 0.0f}, 0.0f};
    if (first >= 0 && first < width) out.pair = *reinterpret_cast<const float2*>(row + first);
    const int outer = lane == 0 ? first - 1 : lane == 31 ? first + 2 : -1;
    if (outer >= 0 && outer < width) out.outer = row[outer];
    return out;
}

// One pass over a level for all planes. Bytes per sample: 4 for f, 4 for the old u, 1 for the correction; 4 for the
// new u, 1 for the restricted residual; each where the variant has it. 7 operations a relaxation and sample.
//
// SWEEPS    relaxations, with step_0, step_1, step_2
// OLD       there is an old u; else it is 0
// COARSE    add the interpolated coarse level
// RESIDUAL  restrict the residual to coarse_f
// MEASURE   sum the new u with the weights that interpolation to the next finer level gives its cells
// RAGGED    the width is no multiple of 4, or the last column of this level or of the coarse one is not of width 1
//
// old, f, fresh        : (planes, height, pitch)        u before, right-hand side, u after; fresh is not old
// coarse, coarse_f     : (planes, coarse_height, coarse_pitch)
// means                : (planes)   f - area * means[plane] is the right-hand side, area being the cell's
// shifts               : (planes)   taken off u on the way in
// sums                 : (planes, height, strips)       MEASURE: the sums, row by row so that segments do not matter
// row_measure, column_measure : (height), (width)       MEASURE: the weights
//
// A warp makes a strip of 120 columns in a segment of coarse rows, walking down; a lane has four columns, rows
// are registers, neighbours come by shuffles: no shared memory, no barrier. Relaxation s of row r is made as soon
// as relaxation s - 1 of row r + 1 is there, so every row is read once. Columns and rows of the halo are computed
// again, by the same operations: the result does not depend on strips and segments. Beyond the border nothing is
// read; a face there has the coefficient 0. Block: 4 warps; grid: (planes * segments * strips) / 4.
template <int SWEEPS, bool OLD, bool COARSE, bool RESIDUAL, bool MEASURE, bool RAGGED>
__global__ void __launch_bounds__(32 * PASS_WARPS, RAGGED ? 2 : SWEEPS == 3 ? 3 : 4)
grid_pass(const float* __restrict__ old, const float* __restrict__ coarse, const float* __restrict__ f,
          const float* __restrict__ means, const float* __restrict__ shifts, const float* __restrict__ row_measure,
          const float* __restrict__ column_measure, float* __restrict__ fresh, float* __restrict__ coarse_f,
          float* __restrict__ sums, int planes, int height, int width, int pitch, int coarse_height, int coarse_width,
          int coarse_pitch, int rows_together, float last_row, float last_column, float coarse_last_row,
          float coarse_last_column, float area, float step_0, float step_1, float step_2)
{
    const int lane = (int)threadIdx.x & 31;
    const int strips = (coarse_width + OWN_COLUMNS / 2 - 1) / (OWN_COLUMNS / 2);
    const int segments = (coarse_height + rows_together - 1) / rows_together;
    const int item = (int)blockIdx.x * PASS_WARPS + ((int)threadIdx.x >> 5);
    if (item >= planes * segments * strips) return;  // whole warps
    const int number = item % strips, segment = item / strips % segments, plane = item / (strips * segments);
    const int own_first = OWN_COLUMNS * number, own_end = number == strips - 1 ? width : own_first + OWN_COLUMNS;
    const int start = segment * rows_together, stop = min(start + rows_together, coarse_height);
    const int low = 2 * start, high = stop == coarse_height ? height : 2 * stop;

    Strip strip;
    strip.column = own_first - HALO_COLUMNS + LANE_COLUMNS * lane;
    strip.height = height;
    strip.width = width;
    strip.last_row = last_row;
    strip.last_column = last_column;
    // Interpolation goes by the table from six columns before the end.
    strip.ragged = RAGGED && own_first - HALO_COLUMNS + 32 * LANE_COLUMNS + 6 > width;
    const bool owned = strip.column >= own_first && strip.column < own_end;
    const bool merged = RAGGED && width % 2 == 1 && 2 * coarse_width < width;  // three columns make the last coarse one

    const size_t cells = (size_t)height * pitch, coarse_cells = (size_t)coarse_height * coarse_pitch;
    const float* own_f = f + plane * cells;
    const float* own_old = OLD ? old + plane * cells : old;
    const float* own_coarse = COARSE ? coarse + plane * coarse_cells : coarse;
    float* own_fresh = fresh + plane * cells;
    float* own_coarse_f = RESIDUAL ? coarse_f + plane * coarse_cells : coarse_f;
    const float mean = area * means[plane], shift = shifts[plane];
    const float steps[3] = {step_0, step_1, step_2};

    Four line[SWEEPS + 1][3] = {};  // of each stage, 0 being u before the relaxations, the last three rows
    Four source[SWEEPS + 2] = {};   // source[k]: right-hand side of row front - k
    Four total = {{0.0f, 0.0f, 0.0f, 0.0f}};
    float weight[LANE_COLUMNS] = {};
    if (MEASURE)
        for (int k = 0; k < LANE_COLUMNS; ++k)
            if (owned && strip.column + k < width) weight[k] = column_measure[strip.column + k];

    // The rows of the next step are on their way while this one is computed.
    const int first = max(0, low - SWEEPS - (RESIDUAL ? 1 : 0)), end = high + SWEEPS + (RESIDUAL ? 2 : 0);
    Four next_f = load_row(own_f, pitch, first, strip);
    Four next_old = {};
    if (OLD) next_old = load_row(own_old, pitch, first, strip);
    Source from = {0, 0, 0.0f};
    CoarseRow next_upper = {{0.0f, 0.0f}, 0.0f}, next_lower = {{0.0f, 0.0f}, 0.0f};
    if (COARSE) {
        from = source_of(min(first, height - 1), height, last_row, coarse_height, coarse_last_row);
        next_upper = load_coarse_row(own_coarse + (size_t)from.first * coarse_pitch, coarse_width, strip.column / 2, lane);
        next_lower = load_coarse_row(own_coarse + (size_t)from.second * coarse_pitch, coarse_width, strip.column / 2, lane);
    }

#pragma unroll 1
    for (int front = first; front < end; ++front) {
#pragma unroll
        for (int stage = 0; stage <= SWEEPS; ++stage) {
            line[stage][0] = line[stage][1];
            line[stage][1] = line[stage][2];
        }
#pragma unroll
        for (int k = SWEEPS + 1; k > 0; --k) source[k] = source[k - 1];

        source[0] = next_f;
        Four u = next_old;
        const CoarseRow upper = next_upper, lower = next_lower;
        const Source now = from;
        next_f = load_row(own_f, pitch, front + 1, strip);
        if (OLD) next_old = load_row(own_old, pitch, front + 1, strip);
        if (COARSE) {
            from = source_of(min(front + 1, height - 1), height, last_row, coarse_height, coarse_last_row);
            next_upper = load_coarse_row(own_coarse + (size_t)from.first * coarse_pitch, coarse_width, strip.column / 2, lane);
            next_lower = load_coarse_row(own_coarse + (size_t)from.second * coarse_pitch, coarse_width, strip.column / 2, lane);
        }

        // The mean of the right-hand side has no solution.
        float take = mean;
        if (front == height - 1) take *= last_row;
#pragma unroll
        for (int k = 0; k < LANE_COLUMNS; ++k)
            source[0].v[k] -= strip.ragged && strip.column + k == width - 1 ? take * last_column : take;

        // Stage 0: u as it was, plus the correction.
        if (COARSE) {
            const float p = lerp(upper.pair.x, lower.pair.x, now.weight), q = lerp(upper.pair.y, lower.pair.y, now.weight);
            const float outer = lerp(upper.outer, lower.outer, now.weight);
            float left = __shfl_up_sync(FULL_WARP, q, 1), right = __shfl_down_sync(FULL_WARP, p, 1);
            if (lane == 0) left = outer;
            if (lane == 31) right = outer;
            if (strip.column == 0) left = p;
            if (strip.column + LANE_COLUMNS == width) right = q;
            Four correction = {{lerp(p, left, 0.25f), lerp(p, q, 0.25f), lerp(q, p, 0.25f), lerp(q, right, 0.25f)}};
            if (strip.ragged) {
                const float* row_a = own_coarse + (size_t)now.first * coarse_pitch;
                const float* row_b = own_coarse + (size_t)now.second * coarse_pitch;
#pragma unroll
                for (int k = 0; k < LANE_COLUMNS; ++k) {
                    const int x = strip.column + k;
                    if (x >= width) correction.v[k] = 0.0f;
                    if (x >= 0 && x < width && x >= 2 * (coarse_width - 2)) {
                        const Source along = source_of(x, width, last_column, coarse_width, coarse_last_column);
                        correction.v[k] = lerp(lerp(row_a[along.first], row_b[along.first], now.weight),
                                               lerp(row_a[along.second], row_b[along.second], now.weight), along.weight);
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < LANE_COLUMNS; ++k) u.v[k] += correction.v[k] - shift;
        }
        line[0][2] = u;

        // Relaxation s of row front - s; the row below it is there since this step.
#pragma unroll
        for (int s = 1; s <= SWEEPS; ++s) {
            if (s == 1 && !OLD && !COARSE)
                line[1][2] = relaxed_from_zero(source[1], front - 1, steps[0], strip);
            else
                line[s][2] = relaxed(line[s - 1][0], line[s - 1][1], line[s - 1][2], source[s], front - s, steps[s - 1], strip);
        }
        int r = front - SWEEPS;
        float measured = 0.0f;
        if (r >= low && r < high && owned) {
            store_row(own_fresh, pitch, r, strip, line[SWEEPS][2]);
            if (MEASURE) {
#pragma unroll
                for (int k = 0; k < LANE_COLUMNS; ++k) measured += weight[k] * line[SWEEPS][2].v[k];
            }
        }
        if (MEASURE && r >= low && r < high) {  // the whole warp
            for (int distance = 16; distance > 0; distance /= 2)
                measured += __shfl_xor_sync(FULL_WARP, measured, distance);
            if (lane == 0) sums[((size_t)plane * height + r) * strips + number] = row_measure[r] * measured;
        }
        if (!RESIDUAL) continue;
        r = front - SWEEPS - 1;
        if (r < low || r >= high) continue;  // the whole warp
        const Four left_over =
            residual_of(line[SWEEPS][0], line[SWEEPS][1], line[SWEEPS][2], source[SWEEPS + 1], r, strip);
        const int parent = min(r / 2, coarse_height - 1);
#pragma unroll
        for (int k = 0; k < LANE_COLUMNS; ++k)
            total.v[k] = r == 2 * parent ? left_over.v[k] : total.v[k] + left_over.v[k];
        if (r != height - 1 && (r % 2 == 0 || parent == coarse_height - 1)) continue;
        float2 pair = make_float2(total.v[0] + total.v[1], total.v[2] + total.v[3]);
        const int column = strip.column / 2;
        if (merged) {
            const float beyond = __shfl_down_sync(FULL_WARP, pair.x, 1);
            if (column == coarse_width - 1) pair.x += pair.y;
            if (column + 1 == coarse_width - 1) pair.y += beyond;
        }
        if (owned && column < coarse_width)
            *reinterpret_cast<float2*>(own_coarse_f + (size_t)parent * coarse_pitch + column) = pair;
    }
}

// ------------------------------------------------------------------------------------------------- coarse_levels

#define COARSE_THREADS 512
#define COARSE_WARPS (COARSE_THREADS / 32)
#define MOST_LEVELS 16

// A level in shared memory: where its u and f begin there. Rows are dealt to warps, columns to lanes.
struct Level {
    int u, f;
    int height, width;
    float last_row, last_column;
};

#define FOR_CELLS(r, c, rows, columns)                                   \
    for (int r = (int)threadIdx.x >> 5; r < (rows); r += COARSE_WARPS)   \
        for (int c = (int)threadIdx.x & 31; c < (columns); c += 32)

__device__ __forceinline__ float defect_in(int u, const Level& level, const Face& row, const Face& column, int r, int c)
{
    extern __shared__ float room[];
    const int i = u + r * level.width + c;
    const float above = room[r > 0 ? i - level.width : i], below = room[r < level.height - 1 ? i + level.width : i];
    const float west = room[c > 0 ? i - 1 : i], east = room[c < level.width - 1 ? i + 1 : i];
    return defect_at(row, column, above, west, room[i], east, below, room[level.f + r * level.width + c]);
}

// One relaxation from the array at `u` to that at `out`.
__device__ void relax_level(int u, int out, const Level& level, float step)
{
    extern __shared__ float room[];
    FOR_CELLS(r, c, level.height, level.width) {
        const Face row = face_of(r, level.height, level.last_row), column = face_of(c, level.width, level.last_column);
        const int i = r * level.width + c;
        room[out + i] = room[u + i] + gain_at(step, row, column) * defect_in(u, level, row, column, r, c);
    }
    __syncthreads();
}

__device__ void relax_level_from_zero(int out, const Level& level, float step)
{
    extern __shared__ float room[];
    FOR_CELLS(r, c, level.height, level.width) {
        const Face row = face_of(r, level.height, level.last_row), column = face_of(c, level.width, level.last_column);
        const int i = r * level.width + c;
        room[out + i] = -gain_at(step, row, column) * room[level.f + i];
    }
    __syncthreads();
}

// Interpolate the coarse u; add it to the u that is there, or replace it.
__device__ void interpolate_level(const Level& level, const Level& coarse, bool add)
{
    extern __shared__ float room[];
    FOR_CELLS(r, c, level.height, level.width) {
        const Source down = source_of(r, level.height, level.last_row, coarse.height, coarse.last_row);
        const Source across = source_of(c, level.width, level.last_column, coarse.width, coarse.last_column);
        const float* a = room + coarse.u + down.first * coarse.width;
        const float* b = room + coarse.u + down.second * coarse.width;
        const float value = lerp(lerp(a[across.first], b[across.first], down.weight),
                                 lerp(a[across.second], b[across.second], down.weight), across.weight);
        const int i = level.u + r * level.width + c;
        room[i] = add ? room[i] + value : value;
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
        for (int j = (int)threadIdx.x % 4; j < count; j += 4) total += inverse[(size_t)i * count + j] * room[level.f + j];
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

// All levels from one of at most a few thousand cells down to the coarsest: a V-cycle from zero, or nested iteration
// with a V-cycle a level. Bytes: 4 read and 4 written per sample of its finest level, nothing of what is
// below. The time is that of some tens of barriers, about 20 us: many planes at once hide it.
//
// f, u           : (planes, height, pitch) of the finest of these levels; right-hand side, solution
// sizes, lasts   : (levels, 2)   rows and columns; height of the last row, width of the last column
// inverse        : (n, n)        pseudo-inverse of the operator on the coarsest level, n <= 128 cells
// row_measure, column_measure, sums : as in grid_pass, for the finest of these levels; sums is (planes)
// means          : (planes)      written when nested: mean of the right-hand side per cell of the picture
// nested         : whether to begin with nested iteration; f then has a mean, which is taken out
// measured       : whether to write sums
// area           : cells of the picture in a cell of the finest of these levels
// samples        : cells of the picture
// nest_*, down_*, up_* : steps of the relaxations
// A block makes a plane; 512 threads. Shared memory: u and f of all these levels, and u of the finest again.
extern "C" __global__ void __launch_bounds__(COARSE_THREADS)
coarse_levels(const float* __restrict__ f, const int* __restrict__ sizes, const float* __restrict__ lasts,
              const float* __restrict__ inverse, const float* __restrict__ row_measure,
              const float* __restrict__ column_measure, float* __restrict__ u, float* __restrict__ means,
              float* __restrict__ sums, int levels, int pitch, int nested, int measured, float area, float samples,
              float nest_0, float nest_1, float down_0, float down_1, float up_0, float up_1)
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

    if (nested) {
        for (int k = 0; k < bottom; ++k) restrict_level(level[k], level[k + 1], false);
        const Level last = level[bottom];
        const int count = last.height * last.width;
        const float own = (int)threadIdx.x < count ? room[last.f + threadIdx.x] : 0.0f;
        const float mean = block_sum(own, partial) / samples;
        if (threadIdx.x == 0) means[plane] = mean;
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
        const float value = room[top.u + r * top.width + c];
        u[begin + (size_t)r * pitch + c] = value;
        if (measured) own += row_measure[r] * column_measure[c] * value;
    }
    if (measured) {
        const float total = block_sum(own, partial);
        if (threadIdx.x == 0) sums[plane] = total;
    }
}

// ------------------------------------------------------------------------------------------------- mean_shift

// What the corrections so far have added to the mean of u, which is to be 0 in the end.
//
// sums   : (turns, planes, parts)   from grid_pass or coarse_levels
// shifts : (planes)                 the mean, to be taken off by the last pass
// A block makes a plane, in a fixed order. Block: 512 threads; grid: planes.
extern "C" __global__ void __launch_bounds__(COARSE_THREADS)
mean_shift(const float* __restrict__ sums, float* __restrict__ shifts, int turns, int planes, int parts, float samples)
{
    __shared__ float partial[COARSE_WARPS];
    const int plane = (int)blockIdx.x;
    float own = 0.0f;
    for (int turn = 0; turn < turns; ++turn)
        for (int k = (int)threadIdx.x; k < parts; k += COARSE_THREADS)
            own += sums[((size_t)turn * planes + plane) * parts + k];
    const float total = block_sum(own, partial);
    if (threadIdx.x == 0) shifts[plane] = total / samples;
}

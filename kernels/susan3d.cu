// The 3D SUSAN filter: smoothing in space and time that does not cross edges.
//
//     out(p) = v(p) + sum_q w d / sum_q w,   d = v(q) - v(p),
//     w = exp(-|q-p|^2 / (2 sigma^2) - (d / threshold)^2)
//
// over the 44 neighbours q in 3x3 pixels and 5 frames; where sum w < 1e-6, the median of the 8 spatial ones.
//
// Python launcher: gpufuse/kernels_cuda/susan.py.
//
// frames (count, channels, height, width)    grey levels, with the temporal halo that exists
// out (filtered, channels, height, width)    grey levels; frame t is frame start + t of `frames`
// length                                     frames that one block filters
// tiles_x, tiles_y                           tiles of a plane
// closeness1 .. closeness6                   -log2(e) |q-p|^2 / (2 sigma^2) for |q-p|^2 = 1 .. 6
// scale, unit                                sqrt(log2(e)) / threshold, and its inverse in grey levels:
//                                            w = 2^(closeness - (scale d)^2)
//
// Border rule: pixels, and frames at both ends of the window, are replicated (indices are clamped as a
// tile is read).
//
// A block of 32 x 4 threads slides a tile of 64 x 8 samples through `length` frames of one channel; a thread
// owns 2 x 2 of them. Grid: tiles_x tiles_y channels ceil(filtered / length) blocks along x, neighbours next
// to each other. A weight is the same seen from either end. So frame t, when it comes in, meets itself and
// the two frames before it, and a weight between two samples of one thread is computed once and added to the
// sums of both: 138 weights for 4 samples instead of 176. Then the sums of frame t - 2 are complete. The next
// frame is read before the arithmetic and stored after its first part; one barrier per frame. The order of
// the additions depends neither on `length` nor on `start`: pieces of a clip give equal bits.
//
// Predicted per sample: 35.5 + 12 / length results of the special-function unit (16 per clock and
// multiprocessor), 250 instructions (128 per clock; counted in the SASS of sm_90, without the median), 162 of
// them float32; 4 * 1.3 bytes read for the tile, 4 read again for the result and 4 written. The special
// functions are the floor: 60 us for a 1080p RGB frame on 132 multiprocessors at 1.755 GHz; the instructions
// need 53 us, the bytes 19 us.
//
// Rejected: each weight for one end alone (45 special functions, 76 us); 4 x 2 samples a thread (33, but 168
// registers and twice the code); some exponentials by a polynomial (9 more instructions each, and there is
// little room: 6 % at best); half precision (no faster before sm_103, and weights of 3 digits).

constexpr int LANES = 32, WARPS = 4, THREADS = LANES * WARPS;
constexpr int ROWS = 2, COLUMNS = 2;    // a patch: the samples of one thread
constexpr int TILE_WIDTH = COLUMNS * LANES, TILE_HEIGHT = ROWS * WARPS;    // as in the launcher
constexpr int PITCH = TILE_WIDTH + 2, TILE = PITCH * (TILE_HEIGHT + 2);    // a tile with its halo
constexpr int LOADS = (TILE + THREADS - 1) / THREADS;
constexpr int SLOTS = 4;    // three frames are compared while the next one is stored
constexpr float EMPTY_USAN = 1e-6f;

typedef float Closeness[6];    // of |q-p|^2 = 1 .. 6
typedef float Patch[ROWS][COLUMNS];
typedef float Surroundings[ROWS + 2][COLUMNS + 2];    // a patch and its spatial neighbours, times `scale`

struct Sums {
    Patch weight, moment;
};

// Sample k / 9 of a patch and its neighbour k % 9, in the same or another frame.
struct Neighbour {
    int y, x, dy, dx;

    __device__ __forceinline__ explicit Neighbour(int k)
        : y(k / 9 / COLUMNS), x(k / 9 % COLUMNS), dy(k / 3 % 3 - 1), dx(k % 3 - 1)
    {
    }
    __device__ __forceinline__ bool in_patch() const
    {
        return 0 <= y + dy && y + dy < ROWS && 0 <= x + dx && x + dx < COLUMNS;
    }
    template <int AGE>
    __device__ __forceinline__ float weight(float d, const Closeness& closeness) const
    {
        return fast_exp2(fmaf(-d, d, closeness[AGE * AGE + dy * dy + dx * dx - 1]));
    }
};

// The samples of one thread in two frames, AGE apart: a weight counts for both its ends.
template <int AGE>
__device__ __forceinline__ void weigh_own(const Surroundings& newer, const Surroundings& older,
                                          const Closeness& closeness, Sums& to_newer, Sums& to_older)
{
#pragma unroll
    for (int k = 0; k < 9 * ROWS * COLUMNS; k++) {
        const Neighbour n(k);
        const bool once = AGE > 0 || n.dy > 0 || (n.dy == 0 && n.dx > 0);    // in one frame, pairs come twice
        if (n.in_patch() && once) {
            const float d = older[n.y + n.dy + 1][n.x + n.dx + 1] - newer[n.y + 1][n.x + 1];
            const float w = n.weight<AGE>(d, closeness);
            to_newer.weight[n.y][n.x] += w;
            to_newer.moment[n.y][n.x] = fmaf(w, d, to_newer.moment[n.y][n.x]);
            to_older.weight[n.y + n.dy][n.x + n.dx] += w;
            to_older.moment[n.y + n.dy][n.x + n.dx] = fmaf(-w, d, to_older.moment[n.y + n.dy][n.x + n.dx]);
        }
    }
}

// The samples of one thread against those of its neighbours, in a frame AGE before or after.
template <int AGE>
__device__ __forceinline__ void weigh_others(const Surroundings& own, const Surroundings& others,
                                             const Closeness& closeness, Sums& to)
{
#pragma unroll
    for (int k = 0; k < 9 * ROWS * COLUMNS; k++) {
        const Neighbour n(k);
        if (!n.in_patch()) {
            const float d = others[n.y + n.dy + 1][n.x + n.dx + 1] - own[n.y + 1][n.x + 1];
            const float w = n.weight<AGE>(d, closeness);
            to.weight[n.y][n.x] += w;
            to.moment[n.y][n.x] = fmaf(w, d, to.moment[n.y][n.x]);
        }
    }
}

// `corner` is the neighbour above on the left of a patch, or of a sample, in a tile.
__device__ __forceinline__ void look_around(const float* corner, Surroundings& v)
{
#pragma unroll
    for (int j = 0; j < ROWS + 2; j++)
#pragma unroll
        for (int i = 0; i < COLUMNS + 2; i++)
            v[j][i] = corner[j * PITCH + i];
}

// The mean of the two middle ones of the 8 neighbours: those with 3 and 4 others before them. Seldom needed:
// small, not fast.
__device__ __forceinline__ float median_of_ring(const float* corner)
{
    float middle = 0.0f;
#pragma unroll 1
    for (int i = 0; i < 9; i++) {
        const float v = corner[i / 3 * PITCH + i % 3];
        int before = 0;
#pragma unroll 1
        for (int j = 0; j < 9; j++) {
            const float u = corner[j / 3 * PITCH + j % 3];
            before += j != 4 && (u < v || (u == v && j < i));
        }
        middle += i != 4 && (before == 3 || before == 4) ? v : 0.0f;
    }
    return 0.5f * middle;
}

extern "C" __global__ void __launch_bounds__(THREADS, 5)
    susan3d(const float* __restrict__ frames, float* __restrict__ out, int count, int channels, int height,
            int width, int start, int filtered, int length, int tiles_x, int tiles_y, float closeness1,
            float closeness2, float closeness3, float closeness4, float closeness5, float closeness6,
            float scale, float unit)
{
    __shared__ __align__(8) float tiles[SLOTS][TILE];
    const Closeness closeness = {closeness1, closeness2, closeness3, closeness4, closeness5, closeness6};

    int block = blockIdx.x;
    const int left = block % tiles_x * TILE_WIDTH;
    block /= tiles_x;
    const int top = block % tiles_y * TILE_HEIGHT;
    block /= tiles_y;
    const int channel = block % channels;
    const int first = block / channels * length;    // frames of this block
    const int last = min(first + length, filtered) - 1;

    const size_t plane = (size_t)height * width, frame = channels * plane;
    const float* const source = frames + channel * plane;
    const int thread = threadIdx.y * LANES + threadIdx.x;
    int offset[LOADS];
    float fetched[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const int place = min(thread + i * THREADS, TILE - 1);
        offset[i] = clamped(top - 1 + place / PITCH, 0, height - 1) * width
                    + clamped(left - 1 + place % PITCH, 0, width - 1);
    }
    const auto fetch = [&](int t) {
        const float* const from = source + clamped(start + t, 0, count - 1) * frame;
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            fetched[i] = from[offset[i]];
    };
    const auto store = [&](int t) {
        float* const tile = tiles[t & (SLOTS - 1)];
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            if (thread + i * THREADS < TILE)
                tile[thread + i * THREADS] = scale * fetched[i];
    };
    for (int t = first - 2; t <= first; t++) {
        fetch(t);
        store(t);
    }

    const int y = ROWS * threadIdx.y, x = COLUMNS * threadIdx.x, corner = y * PITCH + x;
    const int rows = height - top - y, columns = width - left - x;    // that exist
    const unsigned place = (unsigned)(top + y) * width + left + x;
    Sums now = {}, before = {}, oldest = {};    // of frames t, t - 1 and t - 2
    for (int t = first; t <= last + 2; t++) {
        __syncthreads();
        if (t < last + 2)
            fetch(t + 1);
        Surroundings newest, older;
        look_around(&tiles[t & (SLOTS - 1)][corner], newest);
        if (t <= last) {
            weigh_own<0>(newest, newest, closeness, now, now);
            weigh_others<0>(newest, newest, closeness, now);
        }
        if (t < last + 2)
            store(t + 1);    // where frame t - 3 was: every thread was done with it at the barrier
        if (t <= last + 1) {
            look_around(&tiles[(t - 1) & (SLOTS - 1)][corner], older);
            weigh_own<1>(newest, older, closeness, now, before);
            if (t <= last)
                weigh_others<1>(newest, older, closeness, now);
            if (t > first)
                weigh_others<1>(older, newest, closeness, before);
        }
        const float* const middle = &tiles[(t - 2) & (SLOTS - 1)][corner];
        look_around(middle, older);
        weigh_own<2>(newest, older, closeness, now, oldest);
        if (t <= last)
            weigh_others<2>(newest, older, closeness, now);
        if (t > first + 1) {
            weigh_others<2>(older, newest, closeness, oldest);
            const float* from = source + (start + t - 2) * frame + place;    // exact, so constants stay
            float* to = out + (t - 2) * frame + channel * plane + place;
#pragma unroll
            for (int j = 0; j < ROWS; j++, from += width, to += width)
#pragma unroll
                for (int i = 0; i < COLUMNS; i++) {
                    const float weight = oldest.weight[j][i], moment = oldest.moment[j][i];
                    if (j < rows && i < columns)
                        to[i] = weight < EMPTY_USAN ? unit * median_of_ring(&middle[j * PITCH + i])
                                                    : fmaf(unit, __fdividef(moment, weight), from[i]);
                }
        }
        oldest = before;
        before = now;
        now = {};
    }
}

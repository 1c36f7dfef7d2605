// Sample for the emulator: bilateral filter of a (T, H, W) float32 video.
//   out = sum w v / sum w,  w = exp(-(dx^2+dy^2) inv2s - dt^2 inv2t - ((v-c)*invb)^2)
// over |dx|,|dy| <= R, |dt| <= RT inside the volume.
// One block: a BX x BY tile of one frame; neighbour frames pass through one
// shared-memory plane with a halo of R.
#ifndef R
#define R 3
#endif
#ifndef RT
#define RT 1
#endif
#define BX 32
#define BY 8
#define TW (BX + 2 * R)
#define TH (BY + 2 * R)
#define FAR 1e18f     // its weight underflows to exactly 0

extern "C" __global__ void __launch_bounds__(BX * BY)
susan3d(const float* __restrict__ in, float* __restrict__ out, int T, int H, int W,
        float inv2s, float inv2t, float invb)
{
    __shared__ float tile[TH][TW];
    const int tx = threadIdx.x, ty = threadIdx.y, lin = ty * BX + tx;
    const int x0 = blockIdx.x * BX - R, y0 = blockIdx.y * BY - R, t = blockIdx.z;
    const int x = x0 + R + tx, y = y0 + R + ty;
    const bool live = x < W && y < H;
    const size_t plane = (size_t)H * W;

    const float c = live ? in[t * plane + (size_t)y * W + x] : 0.0f;
    float num = 0.0f, den = 0.0f;
    for (int dt = -RT; dt <= RT; ++dt) {
        const int tt = t + dt;
        if (tt < 0 || tt >= T) continue;              // uniform over the block
        const float* src = in + tt * plane;
        for (int i = lin; i < TW * TH; i += BX * BY) {
            const int sx = x0 + i % TW, sy = y0 + i / TW;
            tile[i / TW][i % TW] = (sx >= 0 && sx < W && sy >= 0 && sy < H) ? src[(size_t)sy * W + sx] : FAR;
        }
        __syncthreads();
        const float wt = dt * dt * inv2t;
        for (int dy = 0; dy <= 2 * R; ++dy) {
#pragma unroll
            for (int dx = 0; dx <= 2 * R; ++dx) {
                const float v = tile[ty + dy][tx + dx];
                const float d = (v - c) * invb;
                const float r2 = (float)((dx - R) * (dx - R) + (dy - R) * (dy - R));
                const float w = __expf(-(r2 * inv2s + wt + d * d));
                num += w * v;
                den += w;
            }
        }
        __syncthreads();
    }
    if (live) out[t * plane + (size_t)y * W + x] = num / den;     // den >= 1: the centre
}

// Sample for the emulator: SWEEPS red-black Gauss-Seidel sweeps of the 5-point Poisson problem
//   sum of the neighbours inside the grid - n u = f      (n of them: Neumann sides)
// on a (B, H, W) batch, all in shared memory: each half sweep spoils one ring of
// the halo, so a halo of 2*SWEEPS gives the very result of SWEEPS whole sweeps.
#ifndef SWEEPS
#define SWEEPS 2
#endif
#define BX 32
#define BY 8
#define CW 32                        // core tile
#define CH 32
#define HALO (2 * SWEEPS)
#define TW (CW + 2 * HALO)
#define TH (CH + 2 * HALO)

extern "C" __global__ void __launch_bounds__(BX * BY)
relax_rb(const float* __restrict__ u_in, const float* __restrict__ f, float* __restrict__ u_out,
         int H, int W, float omega)
{
    extern __shared__ float smem[];
    float* su = smem;
    float* sf = smem + TW * TH;
    const int lin = threadIdx.y * BX + threadIdx.x;
    const int x0 = blockIdx.x * CW - HALO, y0 = blockIdx.y * CH - HALO;
    const size_t base = (size_t)blockIdx.z * H * W;

    for (int i = lin; i < TW * TH; i += BX * BY) {
        const int x = x0 + i % TW, y = y0 + i / TW;
        const bool in = x >= 0 && x < W && y >= 0 && y < H;
        su[i] = in ? u_in[base + (size_t)y * W + x] : 0.0f;
        sf[i] = in ? f[base + (size_t)y * W + x] : 0.0f;
    }
    for (int half = 0; half < 2 * SWEEPS; ++half) {
        __syncthreads();
        const int m = half + 1;                        // ring that is still exact
        const int w = TW - 2 * m, h = TH - 2 * m, wh = (w + 1) / 2;
        for (int i = lin; i < wh * h; i += BX * BY) {
            const int ly = m + i / wh, y = y0 + ly;
            // x of the wanted colour: (x + y) & 1 == half & 1
            const int lx = m + 2 * (i % wh) + ((x0 + m + y + half) & 1), x = x0 + lx;
            if (lx >= TW - m || x < 0 || x >= W || y < 0 || y >= H) continue;
            const float* p = su + ly * TW + lx;
            const float l = x > 0 ? 1.0f : 0.0f, r = x < W - 1 ? 1.0f : 0.0f;
            const float a = y > 0 ? 1.0f : 0.0f, b = y < H - 1 ? 1.0f : 0.0f;
            const float n = l + r + a + b;
            if (n == 0.0f) continue;
            const float s = l * p[-1] + r * p[1] + a * p[-TW] + b * p[TW];
            su[ly * TW + lx] += omega * ((s - sf[ly * TW + lx]) / n - p[0]);
        }
    }
    __syncthreads();
    for (int i = lin; i < CW * CH; i += BX * BY) {
        const int lx = HALO + i % CW, ly = HALO + i / CW, x = x0 + lx, y = y0 + ly;
        if (x < W && y < H) u_out[base + (size_t)y * W + x] = su[ly * TW + lx];
    }
}

// one weighted-Jacobi sweep, global memory only
extern "C" __global__ void __launch_bounds__(BX * BY)
jacobi(const float* __restrict__ u, const float* __restrict__ f, float* __restrict__ o,
       int H, int W, float omega)
{
    const int x = blockIdx.x * BX + threadIdx.x, y = blockIdx.y * BY + threadIdx.y;
    if (x >= W || y >= H) return;
    const size_t i = ((size_t)blockIdx.z * H + y) * W + x;
    float s = 0.0f, n = 0.0f;
    if (x > 0)     { s += u[i - 1]; n += 1.0f; }
    if (x < W - 1) { s += u[i + 1]; n += 1.0f; }
    if (y > 0)     { s += u[i - W]; n += 1.0f; }
    if (y < H - 1) { s += u[i + W]; n += 1.0f; }
    o[i] = n > 0.0f ? u[i] + omega * ((s - f[i]) / n - u[i]) : u[i];
}

// one half sweep in place: reads one colour, writes the other
extern "C" __global__ void __launch_bounds__(BX * BY)
rb_half(float* u, const float* __restrict__ f, int H, int W, float omega, int colour)
{
    const int y = blockIdx.y * BY + threadIdx.y;
    const int x = 2 * (blockIdx.x * BX + threadIdx.x) + ((y + colour) & 1);
    if (x >= W || y >= H) return;
    const size_t i = ((size_t)blockIdx.z * H + y) * W + x;
    float s = 0.0f, n = 0.0f;
    if (x > 0)     { s += u[i - 1]; n += 1.0f; }
    if (x < W - 1) { s += u[i + 1]; n += 1.0f; }
    if (y > 0)     { s += u[i - W]; n += 1.0f; }
    if (y < H - 1) { s += u[i + W]; n += 1.0f; }
    if (n > 0.0f) u[i] += omega * ((s - f[i]) / n - u[i]);
}

/* ---- Kernels: rows of planes, in the vector extensions of GCC and Clang ---------------------------------------- */

#if defined(__AVX512F__)
#define VW 16 /* numbers of a vector */
#elif defined(__AVX__)
#define VW 8
#else
#define VW 4
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#ifdef __SSE__
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#define give_way() sched_yield()
#else
#define give_way() ((void)0)
#endif

#define INLINE static inline __attribute__((always_inline, unused))
typedef float V __attribute__((vector_size(VW * 4)));
typedef float V_any __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef float V_aligned __attribute__((vector_size(VW * 4), may_alias));
typedef int32_t VI __attribute__((vector_size(VW * 4)));
#define LOAD(p) ((V) * (const V_any *)(p))
#define STORE(p, v) (*(V_aligned *)(p) = (v))
#define STORE_ANY(p, v) (*(V_any *)(p) = (v))
INLINE V splat(float a) { return (V){0} + a; }
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define SHUFFLE2(p, q, ...) __builtin_shufflevector(p, q, __VA_ARGS__)
#else
#define UNROLL _Pragma("GCC unroll 32")
#define SHUFFLE2(p, q, ...) __builtin_shuffle(p, q, (VI){__VA_ARGS__})
#endif

/* The second argument where either is not a number. */
INLINE V vmax(V a, V b) {
#if VW == 16
  return (V)_mm512_max_ps((__m512)a, (__m512)b);
#elif VW == 8
  return (V)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE__)
  return (V)_mm_max_ps((__m128)a, (__m128)b);
#elif defined(__wasm__) && defined(__clang__)
  return __builtin_wasm_pmax_f32x4(b, a);
#else
  VI m = a > b;
  return (V)((m & (VI)a) | (~m & (VI)b));
#endif
}
INLINE V vmin(V a, V b) {
#if VW == 16
  return (V)_mm512_min_ps((__m512)a, (__m512)b);
#elif VW == 8
  return (V)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE__)
  return (V)_mm_min_ps((__m128)a, (__m128)b);
#elif defined(__wasm__) && defined(__clang__)
  return __builtin_wasm_pmin_f32x4(b, a);
#else
  VI m = a < b;
  return (V)((m & (VI)a) | (~m & (VI)b));
#endif
}
#if VW == 16
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif VW == 8
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVENS 0, 2, 4, 6
#define ODDS 1, 3, 5, 7
#endif
#if VW == 16
#define PERMUTES 1
INLINE V permute(V v, const int32_t *i) { return (V)_mm512_permutexvar_ps(_mm512_loadu_si512((const void *)i), (__m512)v); }
#elif VW == 8 && defined(__AVX2__)
#define PERMUTES 1
INLINE V permute(V v, const int32_t *i) {
  return (V)_mm256_permutevar8x32_ps((__m256)v, _mm256_loadu_si256((const __m256i *)(const void *)i));
}
#else
#define PERMUTES 0
#endif

/* e to the power of x, by Cody and Waite's reduction and a polynomial; the relative error is below 2e-7. */
INLINE V vexp(V x) {
  V y = vmin(splat(88.f), vmax(splat(-87.f), x)), n = y * 1.44269504f;
  V half = (V)(((VI)n & (INT32_MIN)) | (VI)splat(0.5f));
  VI i = __builtin_convertvector(n + half, VI);
  V f = __builtin_convertvector(i, V), r = (y - f * 0.693359375f) + f * 2.12194440e-4f;
  V p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  return p * (V)((i + 127) << 23);
}

/* ---- Tensors and operations ------------------------------------------------------------------------------------- */

typedef struct { /* planes of H rows of S numbers, W of them in use and zeros behind them and before the first row */
  int H, W, S, step; /* rows are step numbers apart: S, or 0 where one row is all that is ever needed */
  size_t at, plane; /* where the first row of the first plane lies, and how far planes are apart, in numbers */
} Tensor;

enum { SUM, DEPTHWISE, MAX_POOL, AVG_POOL, MEAN, PRODUCT, PHASES, IMAGE, RESULT };
enum { NONE, PRELU, ANY_PRELU, CLAMP, HARDSWISH, SIGMOID, HARDSIGMOID, SILU, TANH };
enum { SAME, BILINEAR, BILINEAR_CORNERS, NEAREST, NEAREST_EXACT };

typedef struct { int kind, count; float lo, hi; int slope; } Activation;
typedef struct { /* of a sum: convolution of the channels first to first + count - 1 of a tensor */
  int tensor, first, count, kh, kw, dy, dx, py, px, sy, sx;
} Term;
typedef struct { /* of a sum: a tensor of its own size, or resized to it */
  int tensor, first, kind;
  float fy, fx; /* sizes of an output pixel in input pixels, or 0 for the quotient of the sizes */
} Addend;
typedef struct {
  int kind, out, first, count, groups; /* the channels first to first + count - 1 of the tensor out */
  int term, terms, addend, addends;
  int taps, weight, bias; /* weights by group, tap and output channel */
  Activation act;
  int weight2, bias2; /* of the second of two depthwise convolutions, or -1 */
  Activation act2;
  int kh, kw, sy, sx, py, px; /* of a pool */
  int joins; /* the next operation, which alone reads this one's output, takes every row when it is made */
} Operation;

typedef struct { int base; int is_narrow; const int32_t *index; const float *weight; } Columns;

enum { OUTPUT_CHANNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH };

NET_TABLES

#define MARGIN_OF_ROW ((MARGIN + 15) / 16 * 16)
#define ALIGNED(n) (((n) + 15) / 16 * 16)


typedef struct {
  int height, width, parts, is_ready;
  Tensor tensor[TENSORS];
  size_t zeros, weights, columns[ADDENDS + 1], scratch, scratch_of_part, slots, rings, total;
  int arrived, turn; /* of the barrier */
} Plan;

INLINE int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
INLINE int window(int n, int k, int s, int p, int d) { return floor_div(n + 2 * p - d * (k - 1) - 1, s) + 1; }
INLINE int window_up(int n, int k, int s, int p) { /* as ceil_mode of pools */
  int m = floor_div(n + 2 * p - k + s - 1, s) + 1;
  return (m - 1) * s >= n + p ? m - 1 : m;
}
INLINE int largest(int a, int b) { return a > b ? a : b; }
INLINE int smallest(int a, int b) { return a < b ? a : b; }

NET_SHAPES

/* Where everything lies; false for sizes that the network does not take. */
static int make_plan(Plan *plan, int height, int width, int parts) {
  int H[TENSORS], W[TENSORS], live[TENSORS], lives = 0, widest = 0;
  if (height < 1 || width < 1 || height > 1 << 15 || width > 1 << 15 || parts < 1 || parts > 1024) return 0;
  __builtin_memset(plan, 0, sizeof *plan);
  plan->height = height, plan->width = width, plan->parts = parts;
  if (!shapes(height, width, H, W)) return 0;
  size_t top = 0;
  for (int q = 0; q < OPERATIONS; q++) {
    int t = OPERATION[q].out;
    if (t < 0 || BORN[t] != q) continue;
    if (H[t] < 1 || W[t] < 1 || H[t] > 1 << 20 || W[t] > 1 << 20) return 0;
    Tensor *x = &plan->tensor[t];
    x->H = H[t], x->W = W[t], x->S = ALIGNED(W[t] + MARGIN);
    widest = largest(widest, x->S);
    int is_row = parts == 1 && OPERATION[q].joins; /* read row by row, as it is made */
    x->step = is_row ? 0 : x->S;
    size_t lines = (MARGIN_OF_ROW + (size_t)(is_row ? 1 : H[t]) * (size_t)x->S) / 16;
    if (lines < 64) lines |= 1; /* planes begin in different sets of the cache */
    else while (lines % 64 != 13) lines++;
    x->plane = lines * 16;
    size_t size = x->plane * (size_t)CHANNELS[t], at = 0;
    int n = 0;
    for (int i = 0; i < lives; i++)
      if (DIES[live[i]] >= q) live[n++] = live[i];
    lives = n;
    for (n = 0; n < lives; n++) { /* the first gap that is large enough; live ones are sorted by place */
      const Tensor *y = &plan->tensor[live[n]];
      size_t begin = y->at - MARGIN_OF_ROW;
      if (begin >= at + size) break;
      at = begin + y->plane * (size_t)CHANNELS[live[n]];
    }
    for (int i = lives++; i > n; i--) live[i] = live[i - 1];
    live[n] = t;
    x->at = at + MARGIN_OF_ROW;
    if (at + size > top) top = at + size;
  }
  top += 256 + 4 * MARGIN_OF_ROW; /* vectors may be read beyond the last row */
  plan->zeros = top + MARGIN_OF_ROW;
  top = plan->zeros + ALIGNED((size_t)widest + 256 + 4 * MARGIN_OF_ROW);
  plan->weights = top, top += ALIGNED((size_t)WEIGHTS);
  size_t most_taps = 1, ring = 0, pointers = 0;
  for (int q = 0; q < OPERATIONS; q++) {
    const Operation *o = &OPERATION[q];
    if (o->kind == SUM) {
      size_t rows = 0;
      for (int j = 0; j < o->addends; j++) {
        if (ADDEND[o->addend + j].kind == SAME) continue;
        size_t w = ALIGNED((size_t)W[o->out]);
        plan->columns[o->addend + j] = top, top += 2 * w + ALIGNED(w / VW + 1) + 16;
        rows += 2 * (size_t)o->count * w;
      }
      ring = ring > rows ? ring : rows;
      if ((size_t)o->taps > most_taps) most_taps = (size_t)o->taps;
      size_t p = (size_t)o->count * (1 + 2 * (size_t)o->addends);
      pointers = pointers > p ? pointers : p;
    } else if (o->kind == DEPTHWISE) {
      size_t rows = 18 * (size_t)plan->tensor[o->out].S + 2 * MARGIN_OF_ROW;
      ring = ring > rows ? ring : rows;
    } else if (o->kind == MAX_POOL || o->kind == AVG_POOL) {
      const Tensor *x = &plan->tensor[TERM[o->term].tensor];
      size_t phase = ALIGNED((size_t)W[o->out]) + (size_t)((o->kw - 1) / o->sx) + VW;
      size_t rows = ALIGNED((size_t)x->S + 4 * VW) + (size_t)o->sx * phase + VW;
      ring = ring > rows ? ring : ALIGNED(rows);
    }
  }
  size_t of_pointer = sizeof(void *) / sizeof(float) ? sizeof(void *) / sizeof(float) : 1;
  plan->slots = ALIGNED(most_taps * of_pointer);
  plan->rings = plan->slots + ALIGNED((pointers + 8) * of_pointer);
  plan->scratch = top, plan->scratch_of_part = plan->rings + ALIGNED(ring) + 256;
  plan->total = top + plan->scratch_of_part * (size_t)parts;
  return 1;
}

typedef struct { /* a part of a run: some rows of every operation */
  const Plan *plan;
  float *arena;
  int part, parts;
  const float *image;
  float *output;
} Run;

INLINE float *plane_of(const Run *run, int tensor, int channel) {
  const Tensor *t = &run->plan->tensor[tensor];
  return run->arena + t->at + t->plane * (size_t)channel;
}
INLINE float *scratch_of(const Run *run) {
  return run->arena + run->plan->scratch + run->plan->scratch_of_part * (size_t)run->part;
}
INLINE const float *zeros_of(const Run *run) { return run->arena + run->plan->zeros; }
INLINE const float *weights_of(const Run *run) { return run->arena + run->plan->weights; }

/* Zeros behind a row, and before the first row of a plane. */
INLINE void end_row(float *row, int W, int S, int is_first) {
  int x = W;
  for (; x + VW <= S; x += VW) STORE_ANY(row + x, splat(0));
  for (; x < S; x++) row[x] = 0;
  if (is_first)
    for (x = -MARGIN_OF_ROW; x < 0; x++) row[x] = 0;
}

static void activate_row(const Activation *act, float *row, int W) {
  for (int x = 0; x < W; x += VW) {
    V y = LOAD(row + x);
    switch (act->kind) {
      case HARDSWISH: y = y * vmin(splat(6), vmax(splat(0), y + 3.f)) * (1.f / 6.f); break;
      case HARDSIGMOID: y = vmin(splat(6), vmax(splat(0), y + 3.f)) * (1.f / 6.f); break;
      case SIGMOID: y = 1.f / (1.f + vexp(-y)); break;
      case SILU: y = y / (1.f + vexp(-y)); break;
      case TANH: y = 1.f - 2.f / (1.f + vexp(y + y)); break;
      default: break;
    }
    STORE_ANY(row + x, y);
  }
}

/* ---- Rows of sums: some output channels times some vectors at once, in registers -------------------------------- */

typedef struct {
  int taps, c0, act, adds;
  const float *const *tap;
  const float *weight, *bias, *slope;
  float lo, hi;
  const float *const *add; /* rows, by addend and channel */
  int add_stride;
  float factor[ROWS_ADDED];
  float *const *out;
} Rows;

#define KERNEL(CO, NV)                                                                                   \
  static void rows_##CO##_##NV(const Rows *rows, int begin, int end) {                                   \
    const Rows k = *rows;                                                                                \
    for (int x = begin; x < end; x += NV * VW) {                                                         \
      V a[CO][NV];                                                                                       \
      UNROLL for (int c = 0; c < CO; c++) {                                                              \
        V b = splat(k.bias[k.c0 + c]);                                                                   \
        UNROLL for (int v = 0; v < NV; v++) a[c][v] = b;                                                 \
      }                                                                                                  \
      const float *w = k.weight;                                                                         \
      for (int t = 0; t < k.taps; t++, w += CO) {                                                        \
        const float *p = k.tap[t] + x;                                                                   \
        V in[NV];                                                                                        \
        UNROLL for (int v = 0; v < NV; v++) in[v] = LOAD(p + VW * v);                                    \
        UNROLL for (int c = 0; c < CO; c++) {                                                            \
          V ww = splat(w[c]);                                                                            \
          UNROLL for (int v = 0; v < NV; v++) a[c][v] += ww * in[v];                                     \
        }                                                                                                \
      }                                                                                                  \
      for (int j = 0; j < k.adds; j++) {                                                                 \
        V f = splat(k.factor[j]);                                                                        \
        const float *const *q = k.add + j * k.add_stride + k.c0;                                         \
        UNROLL for (int c = 0; c < CO; c++) {                                                            \
          UNROLL for (int v = 0; v < NV; v++) a[c][v] += f * LOAD(q[c] + x + VW * v);                    \
        }                                                                                                \
      }                                                                                                  \
      if (k.act == PRELU) {                                                                              \
        UNROLL for (int c = 0; c < CO; c++) {                                                            \
          V s = splat(k.slope[k.c0 + c]);                                                                \
          UNROLL for (int v = 0; v < NV; v++) a[c][v] = vmax(a[c][v] * s, a[c][v]);                      \
        }                                                                                                \
      } else if (k.act == CLAMP) {                                                                       \
        V lo = splat(k.lo), hi = splat(k.hi);                                                            \
        UNROLL for (int c = 0; c < CO; c++) {                                                            \
          UNROLL for (int v = 0; v < NV; v++) a[c][v] = vmin(hi, vmax(lo, a[c][v]));                     \
        }                                                                                                \
      } else if (k.act == ANY_PRELU) {                                                                   \
        UNROLL for (int c = 0; c < CO; c++) {                                                            \
          V s = splat(k.slope[k.c0 + c]), z = splat(0);                                                  \
          UNROLL for (int v = 0; v < NV; v++) a[c][v] = vmax(z, a[c][v]) + s * vmin(z, a[c][v]);         \
        }                                                                                                \
      }                                                                                                  \
      UNROLL for (int c = 0; c < CO; c++) {                                                              \
        float *o = k.out[k.c0 + c] + x;                                                                  \
        UNROLL for (int v = 0; v < NV; v++) STORE(o + VW * v, a[c][v]);                                  \
      }                                                                                                  \
    }                                                                                                    \
  }

#define UP_TO_6(F, N) F(1, N) F(2, N) F(3, N) F(4, N) F(5, N) F(6, N)
#define FROM_7(F, N) F(7, N) F(8, N) F(9, N) F(10, N) F(11, N) F(12, N)
#define ENTRY(CO, NV) [CO] = rows_##CO##_##NV,
typedef void (*Kernel)(const Rows *, int, int);
UP_TO_6(KERNEL, 1) FROM_7(KERNEL, 1) UP_TO_6(KERNEL, 2)
#if REGISTERS == 32
FROM_7(KERNEL, 2) UP_TO_6(KERNEL, 3) UP_TO_6(KERNEL, 4)
static const Kernel KERNELS[5][13] = {{0},
                                      {UP_TO_6(ENTRY, 1) FROM_7(ENTRY, 1)},
                                      {UP_TO_6(ENTRY, 2) FROM_7(ENTRY, 2)},
                                      {UP_TO_6(ENTRY, 3)},
                                      {UP_TO_6(ENTRY, 4)}};
INLINE int most_channels(int vectors) { return vectors <= 2 ? 12 : 6; }
INLINE int most_vectors(int channels) { return channels <= 6 ? 4 : 2; }
#else
KERNEL(1, 3) KERNEL(2, 3) KERNEL(3, 3) KERNEL(4, 3) KERNEL(1, 4) KERNEL(2, 4) KERNEL(3, 4)
static const Kernel KERNELS[5][13] = {{0},
                                      {UP_TO_6(ENTRY, 1) FROM_7(ENTRY, 1)},
                                      {UP_TO_6(ENTRY, 2)},
                                      {ENTRY(1, 3) ENTRY(2, 3) ENTRY(3, 3) ENTRY(4, 3)},
                                      {ENTRY(1, 4) ENTRY(2, 4) ENTRY(3, 4)}};
INLINE int most_channels(int vectors) { return vectors <= 1 ? 12 : 6; }
INLINE int most_vectors(int channels) { return channels <= 3 ? 4 : channels == 4 ? 3 : channels <= 6 ? 2 : 1; }
#endif

INLINE int vectors_in(int W) { return (W + VW - 1) / VW; }
INLINE int blocks_of(int channels, int W) {
  int most = most_channels(vectors_in(W));
  return (channels + most - 1) / most;
}
INLINE int block(int channels, int blocks, int i) { return channels / blocks + (i < channels % blocks); }

static void sum_row(Rows *k, int channels, int W) {
  int vectors = vectors_in(W), blocks = blocks_of(channels, W);
  const float *weight = k->weight;
  int c0 = k->c0;
  for (int i = 0; i < blocks; i++) {
    int n = block(channels, blocks, i), most = most_vectors(n);
    int chunks = (vectors + most - 1) / most, each = vectors / chunks, longer = vectors % chunks;
    int middle = longer * (each + 1) * VW;
    if (longer) KERNELS[each + 1][n](k, 0, middle);
    KERNELS[each][n](k, middle, vectors * VW);
    k->weight += (size_t)n * (size_t)k->taps;
    k->c0 += n;
  }
  k->weight = weight, k->c0 = c0;
}

/* Weights in the order in which the kernels read them. */
static void pack(const Plan *plan, float *to, NET_WEIGHTS_TYPE) {
  for (int i = 0; i < WEIGHTS; i++) to[i] = NET_WEIGHT(i);
  for (int q = 0; q < OPERATIONS; q++) {
    const Operation *o = &OPERATION[q];
    if (o->kind != SUM || !o->taps) continue;
    int channels = o->count / o->groups, blocks = blocks_of(channels, plan->tensor[o->out].W);
    float *d = to + o->weight;
    for (int g = 0; g < o->groups; g++) {
      int from = o->weight + g * o->taps * channels, c0 = 0;
      for (int i = 0; i < blocks; i++) {
        int n = block(channels, blocks, i);
        for (int t = 0; t < o->taps; t++)
          for (int c = 0; c < n; c++) *d++ = NET_WEIGHT(from + t * channels + c0 + c);
        c0 += n;
      }
    }
  }
}

/* ---- Resizing --------------------------------------------------------------------------------------------------- */

typedef struct { int low, high; float weight; } Source; /* of a row or column: weight of the higher one */

static Source source_of(int i, int from, int to, int kind, float factor) {
  Source s = {0, 0, 0};
  float scale = factor != 0 ? factor : (float)from / (float)to;
  if (kind == NEAREST || kind == NEAREST_EXACT) {
    float at = kind == NEAREST ? (float)i * scale : ((float)i + 0.5f) * scale;
    s.low = s.high = smallest((int)at, from - 1);
    return s;
  }
  float at;
  if (kind == BILINEAR_CORNERS) at = to > 1 ? (float)i * ((float)(from - 1) / (float)(to - 1)) : 0;
  else at = ((float)i + 0.5f) * scale - 0.5f;
  if (at < 0) at = 0;
  s.low = smallest((int)at, from - 1);
  s.high = smallest(s.low + 1, from - 1);
  s.weight = s.high > s.low ? at - (float)s.low : 0;
  return s;
}

/* For every vector of a row: where its sources begin, their places from there on, and the weights of their neighbours. */
static void make_columns(float *at, int from, int to, const Addend *a) {
  int w = ALIGNED(to), vectors = vectors_in(to), is_narrow = PERMUTES;
  int32_t *index = (int32_t *)(void *)at, *base = index + 2 * w, *flag = base + ALIGNED(w / VW + 1);
  float *weight = at + w;
  for (int v = 0; v < vectors; v++) {
    base[v] = 0;
    for (int i = 0; i < VW; i++) {
      int x = v * VW + i;
      Source s = source_of(smallest(x, to - 1), from, to, a->kind, a->fx);
      if (!i) base[v] = s.low;
      index[x] = s.low - base[v], weight[x] = s.weight;
      if (index[x] < 0 || index[x] >= VW) is_narrow = 0;
    }
  }
  *flag = is_narrow;
}

static void resize_row(const float *row, const float *table, int to, int is_nearest, float *out) {
  int w = ALIGNED(to), vectors = vectors_in(to);
  const int32_t *index = (const int32_t *)(const void *)table, *base = index + 2 * w;
  const float *weight = table + w;
#if PERMUTES
  if (base[ALIGNED(w / VW + 1)]) {
    for (int v = 0; v < vectors; v++) {
      const float *p = row + base[v];
      V a = permute(LOAD(p), index + v * VW);
      if (!is_nearest) {
        V b = permute(LOAD(p + 1), index + v * VW), f = LOAD(weight + v * VW);
        a = a * (1.f - f) + b * f;
      }
      STORE(out + v * VW, a);
    }
    return;
  }
#endif
  for (int v = 0; v < vectors; v++)
    for (int i = v * VW; i < (v + 1) * VW; i++) {
      const float *p = row + base[v] + index[i];
      out[i] = is_nearest ? p[0] : p[0] * (1.f - weight[i]) + p[1] * weight[i];
    }
}

/* ---- Operations on the rows begin to end - 1 of their output ---------------------------------------------------- */

static int fill_taps(const Run *run, const Term *m, int group, int groups, int r, const float **tap) {
  const Tensor *x = &run->plan->tensor[m->tensor];
  int n = 0, count = m->count / groups, top = r * m->sy - m->py;
  const float *plane = plane_of(run, m->tensor, (m->first + group * count) * m->sx), *zeros = zeros_of(run);
  for (int c = 0; c < count; c++, plane += x->plane * (size_t)m->sx) {
    for (int ky = 0; ky < m->kh; ky++) {
      int y = top + ky * m->dy, is_zero = y < 0 || y >= x->H;
      const float *row = is_zero ? zeros : plane + (size_t)y * (size_t)x->step;
      if (m->sx == 1) {
        row -= m->px;
        for (int kx = 0; kx < m->kw; kx++, row += m->dx) tap[n++] = row;
      } else
        for (int kx = 0; kx < m->kw; kx++) {
          int dx = kx * m->dx - m->px, shift = floor_div(dx, m->sx), phase = dx - shift * m->sx;
          tap[n++] = row + shift + (is_zero ? 0 : x->plane * (size_t)phase);
        }
    }
  }
  return n;
}

static void sum(const Run *run, const Operation *o, int begin, int end, int *held) {
  const Tensor *out = &run->plan->tensor[o->out];
  float *scratch = scratch_of(run), *ring = scratch + run->plan->rings;
  const float **tap = (const float **)(void *)scratch, **add = (const float **)(void *)(scratch + run->plan->slots);
  const float **outs = add + 2 * o->addends * o->count;
  int W = out->W, channels = o->count / o->groups;
  size_t wide = (size_t)ALIGNED(W), ring_size = 2 * (size_t)o->count * wide;
  Rows k;
  __builtin_memset(&k, 0, sizeof k);
  k.taps = o->taps, k.tap = tap, k.bias = weights_of(run) + o->bias, k.slope = weights_of(run) + o->act.slope;
  k.act = o->act.kind <= CLAMP ? o->act.kind : NONE, k.lo = o->act.lo, k.hi = o->act.hi;
  k.add = add, k.add_stride = o->count;
  k.out = (float *const *)(void *)outs;
  for (int r = begin; r < end; r++) {
    for (int c = 0; c < o->count; c++) outs[c] = plane_of(run, o->out, o->first + c) + (size_t)r * (size_t)out->step;
    k.adds = 0;
    for (int j = 0; j < o->addends; j++) {
      const Addend *a = &ADDEND[o->addend + j];
      const Tensor *x = &run->plan->tensor[a->tensor];
      if (a->kind == SAME) {
        for (int c = 0; c < o->count; c++)
          add[k.adds * o->count + c] = plane_of(run, a->tensor, a->first + c) + (size_t)r * (size_t)x->step;
        k.factor[k.adds++] = 1;
        continue;
      }
      Source s = source_of(r, x->H, out->H, a->kind, a->fy);
      int is_nearest = a->kind >= NEAREST, rows[2] = {s.low, s.high};
      const float *table = run->arena + run->plan->columns[o->addend + j];
      for (int i = 0; i < (is_nearest || s.low == s.high ? 1 : 2); i++) {
        int slot = rows[i] & 1;
        float *to = ring + (size_t)slot * (size_t)o->count * wide;
        if (held[2 * j + slot] != rows[i]) {
          for (int c = 0; c < o->count; c++)
            resize_row(plane_of(run, a->tensor, a->first + c) + (size_t)rows[i] * (size_t)x->S, table, W, is_nearest,
                       to + (size_t)c * wide);
          held[2 * j + slot] = rows[i];
        }
        for (int c = 0; c < o->count; c++) add[k.adds * o->count + c] = to + (size_t)c * wide;
        k.factor[k.adds++] = is_nearest || s.low == s.high ? 1 : i ? s.weight : 1 - s.weight;
      }
      ring += ring_size;
    }
    ring = scratch + run->plan->rings;
    k.c0 = 0, k.weight = weights_of(run) + o->weight;
    for (int g = 0; g < o->groups; g++) {
      const float **to = tap;
      for (int m = 0; m < o->terms; m++) to += fill_taps(run, &TERM[o->term + m], g, o->groups, r, to);
      sum_row(&k, channels, W);
      k.weight += (size_t)channels * (size_t)o->taps;
      k.c0 += channels;
    }
    for (int c = 0; c < o->count; c++) {
      if (o->act.kind > CLAMP) activate_row(&o->act, (float *)(size_t)outs[c], W);
      end_row((float *)(size_t)outs[c], W, out->S, r == 0);
    }
  }
}

static void sums(const Run *run, const Operation *o, int begin, int end) {
  int held[2][2 * (ROWS_ADDED + 1)];
  for (int i = 0; i < 2 * (ROWS_ADDED + 1); i++) held[0][i] = held[1][i] = -1;
  if (!o->joins) {
    sum(run, o, begin, end, held[0]);
    return;
  }
  for (int r = begin; r < end; r++) {
    sum(run, o, r, r + 1, held[0]);
    sum(run, o + 1, r, r + 1, held[1]);
  }
}

#define AT_ONCE 4 /* rows of a depthwise convolution */

#define DEPTHWISE_ROWS(NAME, FINISH)                                                                     \
  static void NAME(const float *const *rows, const float *w, float bias, const Activation *act, float s, \
                   float *const *out, int W) {                                                           \
    V k[9];                                                                                              \
    UNROLL for (int i = 0; i < 9; i++) k[i] = splat(w[i]);                                               \
    V b = splat(bias), slope = splat(s), lo = splat(act->lo), hi = splat(act->hi);                       \
    (void)slope, (void)lo, (void)hi;                                                                     \
    const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5]; \
    for (int x = 0; x < W; x += VW) {                                                                    \
      V a[AT_ONCE];                                                                                      \
      UNROLL for (int r = 0; r < AT_ONCE; r++) a[r] = b;                                                 \
      UNROLL for (int j = 0; j < AT_ONCE + 2; j++) {                                                     \
        const float *p = (j == 0 ? r0 : j == 1 ? r1 : j == 2 ? r2 : j == 3 ? r3 : j == 4 ? r4 : r5) + x; \
        V left = LOAD(p - 1), middle = LOAD(p), right = LOAD(p + 1);                                     \
        UNROLL for (int r = 0; r < AT_ONCE; r++) {                                                       \
          int ky = j - r;                                                                                \
          if (ky >= 0 && ky < 3) {                                                                       \
            a[r] += left * k[ky * 3];                                                                    \
            a[r] += middle * k[ky * 3 + 1];                                                              \
            a[r] += right * k[ky * 3 + 2];                                                               \
          }                                                                                              \
        }                                                                                                \
      }                                                                                                  \
      UNROLL for (int r = 0; r < AT_ONCE; r++) {                                                         \
        V y = a[r];                                                                                      \
        STORE(out[r] + x, FINISH);                                                                       \
      }                                                                                                  \
    }                                                                                                    \
  }
DEPTHWISE_ROWS(depthwise_plain, y)
DEPTHWISE_ROWS(depthwise_prelu, vmax(y *slope, y))
DEPTHWISE_ROWS(depthwise_clamp, vmin(hi, vmax(lo, y)))
DEPTHWISE_ROWS(depthwise_any, vmax(splat(0), y) + slope * vmin(splat(0), y))

static void depthwise_rows(const Run *run, const float *const *rows, int weight, int bias, const Activation *act, int c,
                           float *const *out, int W, int S) {
  const float *all = weights_of(run), *w = all + weight + 9 * c;
  float b = all[bias + c], s = act->kind == PRELU || act->kind == ANY_PRELU ? all[act->slope + c] : 1;
  if (act->kind == PRELU) depthwise_prelu(rows, w, b, act, s, out, W);
  else if (act->kind == CLAMP) depthwise_clamp(rows, w, b, act, s, out, W);
  else if (act->kind == ANY_PRELU) depthwise_any(rows, w, b, act, s, out, W);
  else depthwise_plain(rows, w, b, act, s, out, W);
  for (int r = 0; r < AT_ONCE; r++) {
    if (act->kind > CLAMP) activate_row(act, out[r], W);
    end_row(out[r], W, S, 0);
  }
}

/* One 3x3 convolution of every channel, or two, one behind the other, with a ring of rows between them. */
static void depthwise(const Run *run, const Operation *o, int begin, int end) {
  const Term *m = &TERM[o->term];
  const Tensor *x = &run->plan->tensor[m->tensor], *y = &run->plan->tensor[o->out];
  int H = y->H, W = y->W, S = y->S, is_pair = o->weight2 >= 0, first = is_pair ? largest(begin - 1, 0) : begin;
  float *ring = scratch_of(run) + run->plan->rings + MARGIN_OF_ROW, *spare = ring + 17 * (size_t)S;
  const float *zeros = zeros_of(run), *rows[AT_ONCE + 2];
  float *out[AT_ONCE];
  first -= first % AT_ONCE;
  for (int i = 0; i < 16; i++) end_row(ring + i * S, W, S, i == 0);
  for (int c = 0; c < o->count; c++) {
    const float *from = plane_of(run, m->tensor, m->first + c);
    float *to = plane_of(run, o->out, o->first + c);
    for (int r = first; r < end + AT_ONCE; r += AT_ONCE) {
      if (r < H && (is_pair || r < end)) {
        for (int j = 0; j < AT_ONCE + 2; j++) {
          int q = r - 1 + j;
          rows[j] = q < 0 || q >= H ? zeros : from + (size_t)q * (size_t)x->S;
        }
        for (int j = 0; j < AT_ONCE; j++) {
          if (is_pair) out[j] = ring + (size_t)((r + j) & 15) * (size_t)S;
          else out[j] = r + j >= begin && r + j < end ? to + (size_t)(r + j) * (size_t)S : spare;
        }
        depthwise_rows(run, rows, o->weight, o->bias, &o->act, c, out, W, S);
      }
      int q0 = r - AT_ONCE;
      if (!is_pair || q0 < 0 || q0 + AT_ONCE <= begin) continue;
      for (int j = 0; j < AT_ONCE + 2; j++) {
        int q = q0 - 1 + j;
        rows[j] = q < 0 || q >= H ? zeros : ring + (size_t)(q & 15) * (size_t)S;
      }
      for (int j = 0; j < AT_ONCE; j++)
        out[j] = q0 + j >= begin && q0 + j < end ? to + (size_t)(q0 + j) * (size_t)S : spare;
      depthwise_rows(run, rows, o->weight2, o->bias2, &o->act2, c, out, W, S);
    }
    if (begin == 0)
      for (int i = -MARGIN_OF_ROW; i < 0; i++) to[i] = 0;
  }
}

/* Every second number of a row: those at even places, and those at odd ones; n of each. */
INLINE void halve_row(const float *row, float *even, float *odd, int n) {
  for (int x = 0; x < n; x += VW) {
    V a = LOAD(row + 2 * x), b = LOAD(row + 2 * x + VW);
    STORE_ANY(even + x, SHUFFLE2(a, b, EVENS));
    STORE_ANY(odd + x, SHUFFLE2(a, b, ODDS));
  }
}

static void pool(const Run *run, const Operation *o, int begin, int end) {
  const Term *m = &TERM[o->term];
  const Tensor *x = &run->plan->tensor[m->tensor], *y = &run->plan->tensor[o->out];
  int is_max = o->kind == MAX_POOL, s = o->sx, n = ALIGNED(y->W) + (o->kw - 1) / s + VW;
  float fill = is_max ? -__builtin_inff() : 0, *row = scratch_of(run) + run->plan->rings, *phases = row + ALIGNED(x->S + 4 * VW);
  V factor = splat(1.f / (float)(o->kh * o->kw));
  for (int c = 0; c < o->count; c++)
    for (int r = begin; r < end; r++) {
      const float *from = plane_of(run, m->tensor, m->first + c);
      float *to = plane_of(run, o->out, o->first + c) + (size_t)r * (size_t)y->S;
      int y0 = r * o->sy - o->py, y1 = smallest(y0 + o->kh, x->H);
      y0 = largest(y0, 0);
      const float *p = from + (size_t)y0 * (size_t)x->S;
      if (s == 2 && o->kw == 2 && !o->px && 2 * y->W <= x->W && y1 - y0 == 2) {
        const float *q = p + x->S;
        for (int i = 0; i < y->W; i += VW) {
          V a0 = LOAD(p + 2 * i), a1 = LOAD(p + 2 * i + VW), b0 = LOAD(q + 2 * i), b1 = LOAD(q + 2 * i + VW);
          if (is_max) {
            V u = vmax(a0, b0), v = vmax(a1, b1);
            STORE(to + i, vmax(SHUFFLE2(u, v, EVENS), SHUFFLE2(u, v, ODDS)));
          } else {
            V u = a0 + b0, v = a1 + b1;
            STORE(to + i, (SHUFFLE2(u, v, EVENS) + SHUFFLE2(u, v, ODDS)) * factor);
          }
        }
        end_row(to, y->W, y->S, r == 0);
        continue;
      }
      for (int i = 0; i < x->W; i += VW) {
        V a = y1 > y0 ? LOAD(p + i) : splat(fill);
        for (int q = 1; q < y1 - y0; q++) {
          V b = LOAD(p + (size_t)q * (size_t)x->S + i);
          a = is_max ? vmax(a, b) : a + b;
        }
        STORE_ANY(row + i, a);
      }
      for (int f = 0; f < s; f++) { /* the numbers f, f + s, f + 2s … of the row with its border */
        float *phase = phases + (size_t)f * (size_t)n;
        for (int i = 0; i < n; i++) {
          int at = i * s + f - o->px;
          phase[i] = at >= 0 && at < x->W ? row[at] : fill;
        }
      }
      for (int i = 0; i < y->W; i += VW) {
        V a = LOAD(phases + i);
        for (int q = 1; q < o->kw; q++) {
          V b = LOAD(phases + (size_t)(q % s) * (size_t)n + q / s + i);
          a = is_max ? vmax(a, b) : a + b;
        }
        STORE(to + i, is_max ? a : a * factor);
      }
      end_row(to, y->W, y->S, r == 0);
    }
}

/* Means of planes; every part takes some channels. */
static void mean(const Run *run, const Operation *o) {
  const Term *m = &TERM[o->term];
  const Tensor *x = &run->plan->tensor[m->tensor], *y = &run->plan->tensor[o->out];
  for (int c = run->part; c < o->count; c += run->parts) {
    const float *from = plane_of(run, m->tensor, m->first + c);
    float *to = plane_of(run, o->out, o->first + c);
    double total = 0;
    for (int r = 0; r < x->H; r++) {
      V a = splat(0);
      int i = 0;
      for (; i + VW <= x->W; i += VW) a += LOAD(from + (size_t)r * (size_t)x->S + i);
      for (int j = 0; j < VW; j++) total += (double)a[j];
      for (; i < x->W; i++) total += (double)from[(size_t)r * (size_t)x->S + (size_t)i];
    }
    to[0] = (float)(total / ((double)x->H * x->W));
    end_row(to, 1, y->S, 1);
  }
}

/* Products of two tensors, the second of which may be one pixel. */
static void product(const Run *run, const Operation *o, int begin, int end) {
  const Term *m = &TERM[o->term];
  const Tensor *x = &run->plan->tensor[m[0].tensor], *g = &run->plan->tensor[m[1].tensor], *y = &run->plan->tensor[o->out];
  int is_pixel = g->H == 1 && g->W == 1;
  for (int c = 0; c < o->count; c++)
    for (int r = begin; r < end; r++) {
      const float *p = plane_of(run, m[0].tensor, m[0].first + c) + (size_t)r * (size_t)x->S;
      const float *q = plane_of(run, m[1].tensor, m[1].first + c) + (is_pixel ? 0 : (size_t)r * (size_t)g->S);
      float *to = plane_of(run, o->out, o->first + c) + (size_t)r * (size_t)y->S;
      for (int i = 0; i < y->W; i += VW) STORE(to + i, LOAD(p + i) * (is_pixel ? splat(q[0]) : LOAD(q + i)));
      end_row(to, y->W, y->S, r == 0);
    }
}

/* Columns apart by their remainders: what strided convolutions read. */
static void phases(const Run *run, const Operation *o, int begin, int end) {
  const Term *m = &TERM[o->term];
  const Tensor *x = &run->plan->tensor[m->tensor], *y = &run->plan->tensor[o->out];
  for (int c = 0; c < m->count; c++)
    for (int r = begin; r < end; r++) {
      const float *from = plane_of(run, m->tensor, m->first + c) + (size_t)r * (size_t)x->S;
      float *to = plane_of(run, o->out, c * o->sx) + (size_t)r * (size_t)y->S;
      if (o->sx == 2) halve_row(from, to, to + y->plane, y->W);
      for (int f = 0; f < o->sx; f++, to += y->plane) {
        int own = (x->W - f + o->sx - 1) / o->sx;
        for (int i = 0; i < own && o->sx != 2; i++) to[i] = from[i * o->sx + f];
        end_row(to, own, y->S, r == 0);
      }
    }
}

static void load_image(const Run *run, const Operation *o, int begin, int end) {
  const Tensor *y = &run->plan->tensor[o->out];
  for (int c = 0; c < o->count; c++)
    for (int r = begin; r < end; r++) {
      float *to = plane_of(run, o->out, c) + (size_t)r * (size_t)y->S;
      __builtin_memcpy(to, run->image + ((size_t)c * (size_t)y->H + (size_t)r) * (size_t)y->W, (size_t)y->W * sizeof *to);
      end_row(to, y->W, y->S, r == 0);
    }
}

static void store_result(const Run *run, const Operation *o) {
  float *to = run->output;
  for (int m = 0; m < o->terms; m++) {
    const Term *t = &TERM[o->term + m];
    const Tensor *x = &run->plan->tensor[t->tensor];
    int begin = (int)((int64_t)x->H * run->part / run->parts), end = (int)((int64_t)x->H * (run->part + 1) / run->parts);
    for (int c = 0; c < t->count; c++, to += (size_t)x->H * (size_t)x->W)
      for (int r = begin; r < end; r++)
        __builtin_memcpy(to + (size_t)r * (size_t)x->W, plane_of(run, t->tensor, t->first + c) + (size_t)r * (size_t)x->S,
               (size_t)x->W * sizeof *to);
  }
}

/* Waits until all parts have come here. */
static void meet(Plan *plan, int parts) {
  if (parts == 1) return;
  int turn = __atomic_load_n(&plan->turn, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&plan->arrived, 1, __ATOMIC_ACQ_REL) == parts) {
    __atomic_store_n(&plan->arrived, 0, __ATOMIC_RELAXED);
    __atomic_add_fetch(&plan->turn, 1, __ATOMIC_ACQ_REL);
    return;
  }
  for (int i = 0; __atomic_load_n(&plan->turn, __ATOMIC_ACQUIRE) == turn; i++)
    if (i > 2000) give_way();
}

static void operate(const Run *run, const Operation *o) {
  int begin = 0, end = 0;
  if (o->out >= 0) {
    int64_t H = run->plan->tensor[o->out].H;
    begin = (int)(H * run->part / run->parts), end = (int)(H * (run->part + 1) / run->parts);
    if (o->kind != MEAN && begin == end) return;
  }
  switch (o->kind) {
    case SUM: sums(run, o, begin, end); break;
    case DEPTHWISE: depthwise(run, o, begin, end); break;
    case MAX_POOL:
    case AVG_POOL: pool(run, o, begin, end); break;
    case MEAN: mean(run, o); break;
    case PRODUCT: product(run, o, begin, end); break;
    case PHASES: phases(run, o, begin, end); break;
    case IMAGE: load_image(run, o, begin, end); break;
    case RESULT: store_result(run, o); break;
  }
}

/* ---- The functions that are called from outside ------------------------------------------------------------------ */

#define OFFSET ((sizeof(Plan) + 63) / 64 * 64)
static Plan *plan_in(void *workspace) { return (Plan *)(((uintptr_t)workspace + 63) / 64 * 64); }
static float *arena_in(void *workspace) { return (float *)(void *)((char *)plan_in(workspace) + OFFSET); }

size_t NET_workspace_for(int height, int width, int threads) {
  Plan plan;
  return make_plan(&plan, height, width, threads) ? plan.total * sizeof(float) + OFFSET + 64 : 0;
}

size_t NET_workspace(int height, int width) { return NET_workspace_for(height, width, 1); }

int NET_output_size(int height, int width, int *channels, int *out_height, int *out_width) {
  Plan plan;
  if (!make_plan(&plan, height, width, 1)) return 0;
  const Operation *o = &OPERATION[OPERATIONS - 1];
  *channels = o->count;
  *out_height = plan.tensor[TERM[o->term].tensor].H, *out_width = plan.tensor[TERM[o->term].tensor].W;
  return 1;
}

int NET_init_for(void *workspace, int height, int width, int threads NET_INIT_ARGUMENT) {
  Plan *plan = plan_in(workspace);
  float *arena = arena_in(workspace);
  if (!make_plan(plan, height, width, threads)) return 0;
  __builtin_memset(arena, 0, plan->total * sizeof(float));
  pack(plan, arena + plan->weights NET_PASS_WEIGHTS);
  for (int q = 0; q < OPERATIONS; q++)
    for (int j = 0; j < OPERATION[q].addends; j++) {
      int i = OPERATION[q].addend + j;
      const Addend *a = &ADDEND[i];
      if (a->kind != SAME) make_columns(arena + plan->columns[i], plan->tensor[a->tensor].W, plan->tensor[OPERATION[q].out].W, a);
    }
  plan->is_ready = 1;
  return 1;
}

void NET_run_part(void *workspace, const float *image, float *output, int part) {
  Plan *plan = plan_in(workspace);
  Run run = {plan, arena_in(workspace), part, plan->parts, image, output};
  for (int q = 0; q < OPERATIONS; q++) {
    operate(&run, &OPERATION[q]);
    q += OPERATION[q].joins;
    meet(plan, plan->parts);
  }
}

NET_PLAIN_FUNCTIONS

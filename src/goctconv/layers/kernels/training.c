/* BatchNorm and PReLU of float32 features for training, with few passes over the memory.

   Two layouts: pixels of all channels side by side (channels last), and planes of one channel each (contiguous), where
   plane n belongs to channel n % channels. Sums are kept in float over short runs and in double over these. */

#include <stddef.h>

#define RUN 128      /* values per float sum */
#define WIDTH 2048   /* floats of widened parameters at most */
#define LANES 64     /* independent sums of a plane */

typedef ptrdiff_t Count;

static Count repeats(Count channels) { return channels < 512 ? 512 / channels : 1; }

static void widen(float *wide, const float *values, Count channels, Count times) {
    for (Count n = 0; n < times; n++)
        for (Count c = 0; c < channels; c++) wide[n * channels + c] = values[c];
}

static void fold(double *sums, const float *wide, Count channels, Count width) {
    for (Count n = 0; n < width; n += channels)
        for (Count c = 0; c < channels; c++) sums[c] += wide[n + c];
}

/* Runs BODY for every value of rows of pixels, of which a row has width values, and RUN rows make a run. */
#define PIXELS(BEFORE, BODY, AFTER)                                             \
    Count times = repeats(channels), total = pixels * channels;                 \
    for (Count start = 0; start < total;) {                                     \
        Count width = times * channels, left = total - start;                   \
        if (left < width) width = left;                                         \
        Count rows = left / width < RUN ? left / width : RUN;                   \
        BEFORE                                                                  \
        for (Count row = 0; row < rows; row++, start += width)                  \
            for (Count i = 0; i < width; i++) { Count at = start + i; BODY }    \
        AFTER                                                                   \
    }

#define CLEAR(sums) for (Count i = 0; i < width; i++) sums[i] = 0;

void pixels_moments(const float *restrict x, Count pixels, Count channels, const float *shift, double *sums) {
    float by[WIDTH], first[WIDTH], second[WIDTH];
    widen(by, shift, channels, repeats(channels));
    PIXELS(CLEAR(first) CLEAR(second),
           float d = x[at] - by[i]; first[i] += d; second[i] += d * d;,
           fold(sums, first, channels, width); fold(sums + channels, second, channels, width);)
}

void pixels_scale(const float *restrict x, float *restrict y, Count pixels, Count channels, const float *mean,
                  const float *factor, const float *bias) {
    float m[WIDTH], a[WIDTH], b[WIDTH];
    widen(m, mean, channels, repeats(channels));
    widen(a, factor, channels, repeats(channels));
    widen(b, bias, channels, repeats(channels));
    PIXELS(, y[at] = (x[at] - m[i]) * a[i] + b[i];, )
}

void pixels_products(const float *restrict x, const float *restrict g, Count pixels, Count channels, const float *mean,
                     double *sums) {
    float m[WIDTH], first[WIDTH], second[WIDTH];
    widen(m, mean, channels, repeats(channels));
    PIXELS(CLEAR(first) CLEAR(second),
           first[i] += g[at]; second[i] += g[at] * (x[at] - m[i]);,
           fold(sums, first, channels, width); fold(sums + channels, second, channels, width);)
}

void pixels_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count pixels, Count channels,
                     const float *mean, const float *factor, const float *slope, const float *bias) {
    float m[WIDTH], a[WIDTH], s[WIDTH], b[WIDTH];
    widen(m, mean, channels, repeats(channels));
    widen(a, factor, channels, repeats(channels));
    widen(s, slope, channels, repeats(channels));
    widen(b, bias, channels, repeats(channels));
    PIXELS(, y[at] = g[at] * a[i] + ((x[at] - m[i]) * s[i] + b[i]);, )
}

void pixels_prelu(const float *restrict x, float *restrict y, Count pixels, Count channels, const float *slope) {
    float s[WIDTH];
    widen(s, slope, channels, repeats(channels));
    PIXELS(, y[at] = x[at] > 0 ? x[at] : x[at] * s[i];, )
}

void pixels_prelu_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count pixels,
                           Count channels, const float *slope, double *sums) {
    float s[WIDTH], below[WIDTH];
    widen(s, slope, channels, repeats(channels));
    PIXELS(CLEAR(below),
           float product = g[at] * x[at]; below[i] += x[at] > 0 ? 0 : product;
           y[at] = x[at] > 0 ? g[at] : g[at] * s[i];,
           fold(sums, below, channels, width);)
}

/* Runs BODY for every value of a plane. */
#define PLANE(BODY) for (Count at = 0; at < length; at++) { BODY }

/* The same with two sums of LANES each, which are moved to doubles after every RUN of them. */
#define SUMMED(BODY)                                                                            \
    double one = 0, two = 0;                                                                    \
    for (Count start = 0; start < length;) {                                                    \
        float first[LANES] = {0}, second[LANES] = {0};                                          \
        for (Count run = 0; run < RUN && start < length; run++, start += LANES) {               \
            Count lanes = length - start < LANES ? length - start : LANES;                      \
            for (Count lane = 0; lane < lanes; lane++) { Count at = start + lane; BODY }        \
        }                                                                                       \
        for (Count lane = 0; lane < LANES; lane++) { one += first[lane]; two += second[lane]; } \
    }

void planes_moments(const float *restrict x, Count begin, Count end, Count length, Count channels, const float *shift,
                    double *sums) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length;
        Count c = plane % channels;
        float by = shift[c];
        SUMMED(float d = p[at] - by; first[lane] += d; second[lane] += d * d;)
        sums[c] += one;
        sums[channels + c] += two;
    }
}

void planes_scale(const float *restrict x, float *restrict y, Count begin, Count end, Count length, Count channels,
                  const float *mean, const float *factor, const float *bias) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length;
        float *o = y + plane * length;
        Count c = plane % channels;
        float m = mean[c], a = factor[c], b = bias[c];
        PLANE(o[at] = (p[at] - m) * a + b;)
    }
}

void planes_products(const float *restrict x, const float *restrict g, Count begin, Count end, Count length,
                     Count channels, const float *mean, double *sums) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length, *h = g + plane * length;
        Count c = plane % channels;
        float m = mean[c];
        SUMMED(first[lane] += h[at]; second[lane] += h[at] * (p[at] - m);)
        sums[c] += one;
        sums[channels + c] += two;
    }
}

void planes_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count begin, Count end,
                     Count length, Count channels, const float *mean, const float *factor, const float *slope,
                     const float *bias) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length, *h = g + plane * length;
        float *o = y + plane * length;
        Count c = plane % channels;
        float m = mean[c], a = factor[c], s = slope[c], b = bias[c];
        PLANE(o[at] = h[at] * a + ((p[at] - m) * s + b);)
    }
}

void planes_prelu(const float *restrict x, float *restrict y, Count begin, Count end, Count length, Count channels,
                  const float *slope) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length;
        float *o = y + plane * length;
        float s = slope[plane % channels];
        PLANE(o[at] = p[at] > 0 ? p[at] : p[at] * s;)
    }
}

void planes_prelu_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count begin, Count end,
                           Count length, Count channels, const float *slope, double *sums) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length, *h = g + plane * length;
        float *o = y + plane * length;
        Count c = plane % channels;
        float s = slope[c];
        SUMMED(float product = h[at] * p[at]; first[lane] += p[at] > 0 ? 0 : product;
               o[at] = p[at] > 0 ? h[at] : h[at] * s;)
        sums[c] += one + two;
    }
}

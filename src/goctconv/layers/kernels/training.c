/* BatchNorm and PReLU of float32 features for training, with few passes over the memory.

   Two layouts: pixels of all channels side by side (channels last), and planes of one channel each (contiguous), where
   plane n belongs to channel n % channels. Sums are kept in float over short runs and in double over these. */

#include <math.h>
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

/* BatchNorm of x by mean m, factor a and bias b, then PReLU of slope s: z is what lies between. */
#define BETWEEN float d = x[at] - m[i]; float z = d * a[i] + b[i];
#define WIDENED(table)                              \
    float m[WIDTH], a[WIDTH], b[WIDTH], s[WIDTH];   \
    widen(m, table, channels, repeats(channels));   \
    widen(a, table + channels, channels, repeats(channels));     \
    widen(b, table + 2 * channels, channels, repeats(channels)); \
    widen(s, table + 3 * channels, channels, repeats(channels));

void pixels_activated(const float *restrict x, float *restrict y, Count pixels, Count channels, const float *table) {
    WIDENED(table)
    PIXELS(, BETWEEN y[at] = z > 0 ? z : z * s[i];, )
}

void pixels_products(const float *restrict x, const float *restrict g, Count pixels, Count channels,
                     const float *table, double *sums) {
    float first[WIDTH], second[WIDTH], third[WIDTH];
    WIDENED(table)
    PIXELS(CLEAR(first) CLEAR(second) CLEAR(third),
           BETWEEN float h = z > 0 ? g[at] : g[at] * s[i]; float below = z > 0 ? 0 : z;
           first[i] += h; second[i] += h * d; third[i] += g[at] * below;,
           fold(sums, first, channels, width); fold(sums + channels, second, channels, width);
           fold(sums + 2 * channels, third, channels, width);)
}

void pixels_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count pixels, Count channels,
                     const float *table, const float *of_x) {
    float p[WIDTH], q[WIDTH];
    WIDENED(table)
    widen(p, of_x, channels, repeats(channels));
    widen(q, of_x + channels, channels, repeats(channels));
    PIXELS(, BETWEEN float h = z > 0 ? g[at] : g[at] * s[i]; y[at] = h * a[i] + (d * p[i] + q[i]);, )
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

/* The same with three sums of LANES each, which are moved to doubles after every RUN of them. */
#define SUMMED(BODY)                                                                            \
    double one = 0, two = 0, three = 0;                                                         \
    for (Count start = 0; start < length;) {                                                    \
        float first[LANES] = {0}, second[LANES] = {0}, third[LANES] = {0};                      \
        for (Count run = 0; run < RUN && start < length; run++, start += LANES) {               \
            Count lanes = length - start < LANES ? length - start : LANES;                      \
            for (Count lane = 0; lane < lanes; lane++) { Count at = start + lane; BODY }        \
        }                                                                                       \
        for (Count lane = 0; lane < LANES; lane++) { one += first[lane]; two += second[lane]; three += third[lane]; } \
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

/* As BETWEEN, for a plane. */
#define OF_CHANNEL                                                                                                \
    Count c = plane % channels;                                                                                   \
    float m = table[c], a = table[channels + c], b = table[2 * channels + c], s = table[3 * channels + c];
#define BETWEEN_OF_PLANE float d = p[at] - m; float z = d * a + b;

void planes_activated(const float *restrict x, float *restrict y, Count begin, Count end, Count length, Count channels,
                      const float *table) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length;
        float *o = y + plane * length;
        OF_CHANNEL
        PLANE(BETWEEN_OF_PLANE o[at] = z > 0 ? z : z * s;)
    }
}

void planes_products(const float *restrict x, const float *restrict g, Count begin, Count end, Count length,
                     Count channels, const float *table, double *sums) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length, *h = g + plane * length;
        OF_CHANNEL
        SUMMED(BETWEEN_OF_PLANE float part = z > 0 ? h[at] : h[at] * s; float below = z > 0 ? 0 : z;
               first[lane] += part; second[lane] += part * d; third[lane] += h[at] * below;)
        sums[c] += one;
        sums[channels + c] += two;
        sums[2 * channels + c] += three;
    }
}

void planes_gradient(const float *restrict x, const float *restrict g, float *restrict y, Count begin, Count end,
                     Count length, Count channels, const float *table, const float *of_x) {
    for (Count plane = begin; plane < end; plane++) {
        const float *p = x + plane * length, *h = g + plane * length;
        float *o = y + plane * length;
        OF_CHANNEL
        float slope = of_x[c], offset = of_x[channels + c];
        PLANE(BETWEEN_OF_PLANE float part = z > 0 ? h[at] : h[at] * s; o[at] = part * a + (d * slope + offset);)
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

/* Roughly the mean of each channel, by which sums of squares are shifted lest digits cancel; 0 where it is infinite. */
void shifts(const float *x, Count values, Count channels, Count of_pixel, Count of_channel, float *shift) {
    for (Count c = 0; c < channels; c++) {
        float sum = 0;
        for (Count n = 0; n < values; n++) sum += x[n * of_pixel + c * of_channel];
        shift[c] = sum - sum == 0 ? sum / values : 0;
    }
}

static double total(const double *sums, Count parts, Count step) {
    double sum = 0;
    for (Count part = 0; part < parts; part++) sum += sums[part * step];
    return sum;
}

/* Makes the table of BatchNorm and PReLU and its exact mean and scale of the sums of moments; moves the statistics. */
void statistics(const double *sums, Count parts, Count channels, Count values, const float *shift, const float *weight,
                const float *bias, const float *slope, float *running_mean, float *running_var, float *table,
                double *exact, double eps, double momentum) {
    for (Count c = 0; c < channels; c++) {
        double first = total(sums + c, parts, 2 * channels) / values;
        double var = total(sums + channels + c, parts, 2 * channels) / values - first * first;
        var = var < 0 ? 0 : var;
        double mean = first + shift[c], scale = 1 / sqrt(var + eps), factor = weight ? weight[c] * scale : scale;
        table[c] = (float)mean;
        table[channels + c] = (float)factor;
        table[2 * channels + c] = (float)((bias ? bias[c] : 0) + (table[c] - mean) * factor);
        table[3 * channels + c] = slope ? slope[c] : 1;
        exact[c] = mean;
        exact[channels + c] = scale;
        if (running_mean) running_mean[c] = (float)(momentum * mean + (1 - momentum) * running_mean[c]);
        if (running_var)
            running_var[c] = (float)(momentum * var * values / (values - 1) + (1 - momentum) * running_var[c]);
    }
}

/* Makes the gradients of weight, bias and slope, and what the gradient of x needs, of the sums of products. */
void gradients(const double *sums, Count parts, Count channels, Count values, const float *table, const double *exact,
               float *of_weight, float *of_bias, float *of_slope, float *of_x) {
    for (Count c = 0; c < channels; c++) {
        double sum = total(sums + c, parts, 3 * channels), product = total(sums + channels + c, parts, 3 * channels);
        double moved = table[c] - exact[c], scale = exact[channels + c], factor = table[channels + c];
        product += sum * moved;
        double by = -factor * scale * scale * product / values;
        of_x[c] = (float)by;
        of_x[channels + c] = (float)(by * moved - factor * sum / values);
        of_weight[c] = (float)(product * scale);
        of_bias[c] = (float)sum;
        of_slope[c] = (float)total(sums + 2 * channels + c, parts, 3 * channels);
    }
}

// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// A linear layer with weights and activations of eight bits in one call, for processors with AVX-512 VNNI. What it
// computes, and in which order, is what `Int8Linear` does with the operations of torch.

#include <stdint.h>

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>

#define WITH_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))
#define OUTPUTS 16       // of a block of weights: one register of sums
#define DEPTH 4          // inputs that one instruction multiplies and adds
#define ROWS 4           // that share a load of weights
#define SMALLEST 1.17549435e-38f

int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

// Rounds a row to eight bits plus 128, and returns its scale. `width` inputs, `padded` places.
WITH_VNNI static float round_row(const float *row, long width, long padded, uint8_t *rounded) {
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
    __m512 largest = _mm512_setzero_ps();
    long place = 0;
    for (; place + 16 <= width; place += 16)
        largest = _mm512_max_ps(largest, _mm512_and_ps(sign, _mm512_loadu_ps(row + place)));
    float maximum = _mm512_reduce_max_ps(largest);
    for (; place < width; place++) maximum = fmaxf(maximum, fabsf(row[place]));
    const float scale = fmaf(maximum, (float)(1.0 / 127.0), SMALLEST);
    const __m512 scales = _mm512_set1_ps(scale);
    const __m512i offset = _mm512_set1_epi32(128);
    for (place = 0; place < padded; place += 16) {
        const long left = width - place;
        const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
        const __m512 quotients = _mm512_div_ps(_mm512_maskz_loadu_ps(mask, row + place), scales);
        const __m512i integers = _mm512_add_epi32(_mm512_cvtps_epi32(quotients), offset);
        _mm_storeu_si128((__m128i *)(rounded + place), _mm512_cvtepi32_epi8(integers));
    }
    return scale;
}

// `rows` rows, known to the compiler, times `blocks` blocks of weights.
WITH_VNNI static inline __attribute__((always_inline)) void multiply(
    const int rows, const int blocks, const uint8_t *inputs, long padded, const float *row_scales,
    const int8_t *weights, const float *scales, const int32_t *corrections, const float *bias, float *outputs,
    long num_outputs, long first) {
    __m512i sums[ROWS][4];
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++)
            sums[row][block] = _mm512_loadu_si512(corrections + first + block * OUTPUTS);
    const long steps = padded / DEPTH;
    const int8_t *start = weights + first * padded;
    for (long step = 0; step < steps; step++) {
        __m512i part[4];
        for (int block = 0; block < blocks; block++)
            part[block] = _mm512_loadu_si512(start + (block * steps + step) * OUTPUTS * DEPTH);
        for (int row = 0; row < rows; row++) {
            const __m512i input = _mm512_set1_epi32(*(const int32_t *)(inputs + row * padded + step * DEPTH));
            for (int block = 0; block < blocks; block++)
                sums[row][block] = _mm512_dpbusd_epi32(sums[row][block], input, part[block]);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++) {
            const long place = first + block * OUTPUTS, left = num_outputs - place;
            const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][block]), _mm512_loadu_ps(scales + place));
            const __m512 output = _mm512_fmadd_ps(product, _mm512_set1_ps(row_scales[row]), _mm512_loadu_ps(bias + place));
            _mm512_mask_storeu_ps(outputs + row * num_outputs + place, mask, output);
        }
}

// inputs: float (num_rows, num_inputs). weights: [block][input / 4][16 outputs][4 inputs], `padded` inputs and whole
// blocks, the rest zeros. scales, bias: float, corrections: -128 times the sum of an output's weights; each of whole
// blocks. outputs: float (num_rows, num_outputs). Returns 0, or 1 where there was no memory.
WITH_VNNI int int8_linear(
    const float *inputs, long num_rows, long num_inputs, long padded, const int8_t *weights, const float *scales,
    const int32_t *corrections, const float *bias, float *outputs, long num_outputs) {
    uint8_t *rounded = aligned_alloc(64, (ROWS * padded + 63) / 64 * 64);
    if (!rounded) return 1;
    const long num_blocks = (num_outputs + OUTPUTS - 1) / OUTPUTS;
    for (long first_row = 0; first_row < num_rows; first_row += ROWS) {
        const long rows = num_rows - first_row < ROWS ? num_rows - first_row : ROWS;
        float row_scales[ROWS];
        for (long row = 0; row < rows; row++)
            row_scales[row] =
                round_row(inputs + (first_row + row) * num_inputs, num_inputs, padded, rounded + row * padded);
        float *some_outputs = outputs + first_row * num_outputs;
#define MULTIPLY(rows, blocks)                                                                                   \
    multiply(rows, blocks, rounded, padded, row_scales, weights, scales, corrections, bias, some_outputs,         \
             num_outputs, block *OUTPUTS)
        long block = 0;
        for (; block + 4 <= num_blocks; block += 4) switch (rows) {
                case 1: MULTIPLY(1, 4); break;
                case 2: MULTIPLY(2, 4); break;
                case 3: MULTIPLY(3, 4); break;
                default: MULTIPLY(4, 4);
            }
        for (; block < num_blocks; block++) switch (rows) {
                case 1: MULTIPLY(1, 1); break;
                case 2: MULTIPLY(2, 1); break;
                case 3: MULTIPLY(3, 1); break;
                default: MULTIPLY(4, 1);
            }
    }
    free(rounded);
    return 0;
}

#else

int supported(void) { return 0; }

#endif

// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// Products with weights and activations of eight bits. What is computed, and in which order, is what `Int8Linear` does
// with the operations of torch.

#ifndef HF_ATTN_LINEAR_H
#define HF_ATTN_LINEAR_H

#include "vectors.h"

#define OUTPUTS 16       // of a block of weights: one register of sums
#define DEPTH 4          // inputs that one instruction multiplies and adds
#define ROWS 4           // that share a load of weights
#define BLOCKS 4         // that share a load of inputs
#define SMALLEST 1.17549435e-38f

// weights: [block][input / 4][16 outputs][4 inputs], `padded` inputs and whole blocks, the rest zeros. corrections:
// -128 times the sum of an output's weights. Vectors are as long as whole blocks. No outputs: there is no such layer.
typedef struct {
    long num_inputs, padded, num_outputs;
    const int8_t *weights;
    const float *scales;
    const int32_t *corrections;
    const float *bias;
} Linear;

// Rows of eight bits plus 128, `padded` places each, and their scales.
typedef struct {
    uint8_t *values;
    float *scales;
    long padded;
} Rounded;

// Rounds a row of `width` inputs, and returns its scale.
WITH_VNNI static float round_row(const float *row, long width, long padded, uint8_t *rounded) {
    __m512 largest = _mm512_setzero_ps();
    for (long place = 0; place < width; place += LANES)
        largest = _mm512_max_ps(largest, absolute(_mm512_maskz_loadu_ps(lanes(width - place), row + place)));
    const float scale = fmaf(_mm512_reduce_max_ps(largest), (float)(1.0 / 127.0), SMALLEST);
    const __m512 scales = _mm512_set1_ps(scale);
    const __m512i offset = _mm512_set1_epi32(128);
    for (long place = 0; place < padded; place += LANES) {
        const __m512 inputs = _mm512_maskz_loadu_ps(lanes(width - place), row + place);
        const __m512i integers = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_div_ps(inputs, scales)), offset);
        _mm_storeu_si128((__m128i *)(rounded + place), _mm512_cvtepi32_epi8(integers));
    }
    return scale;
}

WITH_VNNI static void round_rows(const float *rows, long num_rows, long width, Rounded *rounded) {
    rounded->padded = whole(width, LANES);
    for (long row = 0; row < num_rows; row++)
        rounded->scales[row] =
            round_row(rows + row * width, width, rounded->padded, rounded->values + row * rounded->padded);
}

// Outputs of `rows` rows from `first_row` on, in `blocks` blocks from output `first` on; the compiler knows both numbers.
INLINE void multiply(
    const int rows, const int blocks, const Linear *linear, const Rounded *inputs, long first_row, long first,
    __m512 outputs[ROWS][BLOCKS]) {
    __m512i sums[ROWS][BLOCKS];
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++)
            sums[row][block] = _mm512_loadu_si512(linear->corrections + first + block * OUTPUTS);
    const long padded = inputs->padded, steps = padded / DEPTH;
    const uint8_t *values = inputs->values + first_row * padded;
    const int8_t *weights = linear->weights + first * padded;
    for (long step = 0; step < steps; step++) {
        __m512i part[BLOCKS];
        for (int block = 0; block < blocks; block++)
            part[block] = _mm512_loadu_si512(weights + (block * steps + step) * OUTPUTS * DEPTH);
        for (int row = 0; row < rows; row++) {
            const __m512i input = _mm512_set1_epi32(*(const int32_t *)(values + row * padded + step * DEPTH));
            for (int block = 0; block < blocks; block++)
                sums[row][block] = _mm512_dpbusd_epi32(sums[row][block], input, part[block]);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++) {
            const long place = first + block * OUTPUTS;
            const __m512 product =
                _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][block]), _mm512_loadu_ps(linear->scales + place));
            outputs[row][block] = _mm512_fmadd_ps(
                product, _mm512_set1_ps(inputs->scales[first_row + row]), _mm512_loadu_ps(linear->bias + place));
        }
}

// Calls `each(rows, blocks, first_row, first, ...)` with constants for every tile of outputs. Weights of a tile stay in
// the first cache while all rows pass.
#define FOR_TILES(linear, num_rows, each, ...)                                                                        \
    for (long first = 0; first < (linear)->num_outputs;) {                                                            \
        const int blocks = (linear)->num_outputs - first > (BLOCKS - 1) * OUTPUTS ? BLOCKS : 1;                       \
        for (long first_row = 0; first_row < (num_rows); first_row += ROWS) switch (blocks == 1 ? 0 : BLOCKS) {       \
                case 0: FOR_ROWS(1, num_rows, each, __VA_ARGS__); break;                                              \
                default: FOR_ROWS(BLOCKS, num_rows, each, __VA_ARGS__);                                               \
            }                                                                                                         \
        first += blocks * OUTPUTS;                                                                                    \
    }
#define FOR_ROWS(blocks, num_rows, each, ...)                                                                         \
    switch ((num_rows) - first_row) {                                                                                 \
        case 1: each(1, blocks, first_row, first, __VA_ARGS__); break;                                                \
        case 2: each(2, blocks, first_row, first, __VA_ARGS__); break;                                                \
        case 3: each(3, blocks, first_row, first, __VA_ARGS__); break;                                                \
        default: each(ROWS, blocks, first_row, first, __VA_ARGS__);                                                   \
    }

INLINE void store_tile(
    const int rows, const int blocks, long first_row, long first, const Linear *linear, const Rounded *inputs,
    float *outputs) {
    __m512 tile[ROWS][BLOCKS];
    multiply(rows, blocks, linear, inputs, first_row, first, tile);
    const long width = linear->num_outputs;
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++) {
            const long place = first + block * OUTPUTS;
            _mm512_mask_storeu_ps(outputs + (first_row + row) * width + place, lanes(width - place), tile[row][block]);
        }
}

// outputs: (num_rows, num_outputs).
WITH_VNNI static void apply_linear(const Linear *linear, const Rounded *inputs, long num_rows, float *outputs) {
    FOR_TILES(linear, num_rows, store_tile, linear, inputs, outputs)
}

#endif

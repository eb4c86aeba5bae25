// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// The largest outputs of a layer of eight bits, none of which is ever written.

#ifndef HF_ATTN_LARGEST_H
#define HF_ATTN_LARGEST_H

#include "linear.h"

// The largest outputs of each row, the largest first, and of equal ones the first: `number` of them a row. log_sums, or
// NULL: the logarithm of the sum of e to the power of all outputs of a row.
typedef struct {
    long number;
    int64_t *places;
    float *values;
    float *log_sums;
    float *maxima;  // so far, (rows)
    float *sums;    // of e to the power of what outputs are less than the maxima, (rows, LANES)
} Largest;

// Puts `value` where it belongs among the largest; it is larger than the last of them.
static inline void insert(const Largest *largest, long row, float value, long place) {
    float *values = largest->values + row * largest->number;
    int64_t *places = largest->places + row * largest->number;
    long rank = largest->number - 1;
    for (; rank > 0 && values[rank - 1] < value; rank--) {
        values[rank] = values[rank - 1];
        places[rank] = places[rank - 1];
    }
    values[rank] = value;
    places[rank] = place;
}

INLINE void insert_lanes(const Largest *largest, long row, __m512 outputs, __mmask16 valid, long first) {
    const float *last = largest->values + row * largest->number + largest->number - 1;
    __mmask16 larger = _mm512_mask_cmp_ps_mask(valid, outputs, _mm512_set1_ps(*last), _CMP_GT_OQ);
    if (!larger) return;
    float values[LANES];
    _mm512_storeu_ps(values, outputs);
    for (; larger; larger &= larger - 1) {
        const int lane = __builtin_ctz(larger);
        if (values[lane] > *last) insert(largest, row, values[lane], first + lane);
    }
}

// 2 to the power of each, within 1e-7 of it: 2^n times the polynomial of degree 5 that is nearest to 2^x in [0, 1).
INLINE __m512 power_of_two(__m512 exponents) {
    exponents = _mm512_max_ps(_mm512_set1_ps(-200.0f), exponents);
    const __m512 rest = _mm512_reduce_ps(exponents, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 series = _mm512_set1_ps(0.0018775751f);
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.008989344f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.055826314f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.24015361f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.6931531f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.99999994f));
    return _mm512_scalef_ps(series, exponents);  // which takes the floor of the exponents
}

INLINE void add_exponentials(const Largest *largest, long row, const int blocks, const __m512 *outputs, long left) {
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 valid[BLOCKS], top = nothing;
    for (int block = 0; block < blocks; block++) {
        valid[block] = _mm512_mask_mov_ps(nothing, lanes(left - block * OUTPUTS), outputs[block]);
        top = _mm512_max_ps(top, valid[block]);
    }
    float *maximum = largest->maxima + row;
    __m512 sums = _mm512_loadu_ps(largest->sums + row * LANES);
    if (_mm512_cmp_ps_mask(top, _mm512_set1_ps(*maximum), _CMP_GT_OQ)) {
        const float higher = _mm512_reduce_max_ps(top);
        sums = _mm512_mul_ps(sums, exponential(_mm512_set1_ps(*maximum - higher)));
        *maximum = higher;
    }
    const __m512 bits = _mm512_set1_ps(1.44269504f), most_bits = _mm512_set1_ps(*maximum * 1.44269504f);
    for (int block = 0; block < blocks; block++)
        sums = _mm512_add_ps(sums, power_of_two(_mm512_fmsub_ps(valid[block], bits, most_bits)));
    _mm512_storeu_ps(largest->sums + row * LANES, sums);
}

INLINE void rank_tile(
    const int rows, const int blocks, long first_row, long first, const Linear *linear, const Rounded *inputs,
    const Largest *largest) {
    __m512 tile[ROWS][BLOCKS];
    multiply(rows, blocks, linear, inputs, first_row, first, tile);
    const long left = linear->num_outputs - first;
    for (int row = 0; row < rows; row++) {
        for (int block = 0; block < blocks; block++)
            insert_lanes(
                largest, first_row + row, tile[row][block], lanes(left - block * OUTPUTS), first + block * OUTPUTS);
        if (largest->log_sums) add_exponentials(largest, first_row + row, blocks, tile[row], left);
    }
}

// Finds the largest outputs of all rows without ever writing the others.
WITH_VNNI static void find_largest(const Linear *linear, const Rounded *inputs, long num_rows, const Largest *largest) {
    for (long place = 0; place < num_rows * largest->number; place++) {
        largest->values[place] = -INFINITY;
        largest->places[place] = 0;
    }
    if (largest->log_sums) {
        for (long row = 0; row < num_rows; row++) largest->maxima[row] = -INFINITY;
        memset(largest->sums, 0, num_rows * LANES * sizeof(float));
    }
    FOR_TILES(linear, num_rows, rank_tile, linear, inputs, largest)
    for (long row = 0; largest->log_sums && row < num_rows; row++) {
        const float sum = _mm512_reduce_add_ps(_mm512_loadu_ps(largest->sums + row * LANES));
        largest->log_sums[row] = largest->maxima[row] + logf(sum);
    }
}

#endif

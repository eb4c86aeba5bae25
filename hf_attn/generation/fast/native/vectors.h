// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// Vectors of 16 floats: what the layers need beyond one instruction.

#ifndef HF_ATTN_VECTORS_H
#define HF_ATTN_VECTORS_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WITH_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))
#define INLINE WITH_VNNI static inline __attribute__((always_inline))
#define LANES 16

static inline long whole(long count, long unit) { return (count + unit - 1) / unit * unit; }

static inline long least(long one, long other) { return one < other ? one : other; }

// The lanes of the first `left` numbers.
INLINE __mmask16 lanes(long left) { return left >= LANES ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

INLINE __m512 absolute(__m512 values) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(0x7fffffff)));
}

// e to the power of each, to about a unit in the last place: 2^n times a polynomial in what is left of the exponent.
INLINE __m512 exponential(__m512 values) {
    // The order of the operands lets NaN through.
    const __m512 powers = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-104.0f), values));
    const __m512 whole_part = _mm512_roundscale_ps(
        _mm512_mul_ps(powers, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_fnmadd_ps(whole_part, _mm512_set1_ps(0.693359375f), powers);
    rest = _mm512_fnmadd_ps(whole_part, _mm512_set1_ps(-2.12194440e-4f), rest);
    __m512 series = _mm512_set1_ps(1.98756915e-4f);
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.39819995e-3f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(8.33345187e-3f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(4.16657960e-2f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.66666655e-1f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(5.00000000e-1f));
    series = _mm512_fmadd_ps(_mm512_mul_ps(series, rest), rest, rest);
    return _mm512_scalef_ps(_mm512_add_ps(series, _mm512_set1_ps(1.0f)), whole_part);
}

// 1 / (1 + e^-x)
INLINE __m512 sigmoid(__m512 values) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), values))));
}

INLINE __m512 hyperbolic_tangent(__m512 values) {
    const __m512 twice = sigmoid(_mm512_add_ps(values, values));
    return _mm512_fmsub_ps(_mm512_set1_ps(2.0f), twice, _mm512_set1_ps(1.0f));
}

// Abramowitz and Stegun 1964, 7.1.26: within 1.5e-7.
INLINE __m512 error_function(__m512 values) {
    const __m512 size = absolute(values), one = _mm512_set1_ps(1.0f);
    const __m512 place = _mm512_div_ps(one, _mm512_fmadd_ps(_mm512_set1_ps(0.3275911f), size, one));
    __m512 series = _mm512_set1_ps(1.061405429f);
    series = _mm512_fmadd_ps(series, place, _mm512_set1_ps(-1.453152027f));
    series = _mm512_fmadd_ps(series, place, _mm512_set1_ps(1.421413741f));
    series = _mm512_fmadd_ps(series, place, _mm512_set1_ps(-0.284496736f));
    series = _mm512_fmadd_ps(series, place, _mm512_set1_ps(0.254829592f));
    const __m512 fall = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(size, size)));
    const __m512 result = _mm512_fnmadd_ps(_mm512_mul_ps(series, place), fall, one);
    const __m512i signs = _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32((int)0x80000000));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(result), signs));
}

#endif

// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// A linear layer by itself.

#if defined(__x86_64__)

#include "linear.h"

#define ROWS_AT_A_TIME 256

int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

// inputs: (num_rows, num_inputs). outputs: (num_rows, num_outputs). Returns 0, or 1 where there was no memory.
WITH_VNNI int int8_linear(const Linear *linear, const float *inputs, long num_rows, float *outputs) {
    const long most = least(num_rows, ROWS_AT_A_TIME);
    float scales[ROWS_AT_A_TIME];
    Rounded rounded = {aligned_alloc(64, whole(most * linear->padded + 1, 64)), scales, linear->padded};
    if (!rounded.values) return 1;
    for (long first = 0; first < num_rows; first += most) {
        const long rows = least(num_rows - first, most);
        round_rows(inputs + first * linear->num_inputs, rows, linear->num_inputs, &rounded);
        apply_linear(linear, &rounded, rows, outputs + first * linear->num_outputs);
    }
    free(rounded.values);
    return 0;
}

#else

int supported(void) { return 0; }

#endif

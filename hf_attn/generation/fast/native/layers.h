// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// What encoder and decoder layers are made of, on rows of floats that follow each other.

#ifndef HF_ATTN_LAYERS_H
#define HF_ATTN_LAYERS_H

#include "linear.h"

enum { FINE = 0, NO_MEMORY = 1, REFUSED = 2 };  // what functions return
enum { NO_NORM = 0, LAYER_NORM = 1, RMS_NORM = 2 };
enum { RELU = 0, GELU = 1, GELU_TANH = 2, SILU = 3, TANH = 4 };

typedef struct {
    long kind;
    const float *scale, *shift;
    double epsilon;
} Norm;

// Without query or key projection the inputs are queries or keys.
typedef struct {
    Linear query, key, value, out;
    long num_heads, num_key_value_heads, head_dim;
    double scaling;
} Attention;

// The mixer is SSRU where `ssru` has outputs, and attention where not; there may be no feed-forward, or no gate.
typedef struct {
    Linear ssru;
    Attention attention, cross_attention;
    Linear first, gate, second;
    long activation;
    Norm mixer_norm, cross_attention_norm, final_norm;
} Layer;

// `position_embeddings` may be NULL.
typedef struct {
    long d_model, num_layers, norm_first, num_tokens, num_positions;
    const Layer *layers;
    const float *embeddings, *position_embeddings;
    double embed_scale;
    Norm embedding_norm, final_norm;
    Linear output;
} Stack;

// What positions do inside attention, for `length` places. cosines, sines: (length, head_dim), or NULL. bias: (heads,
// bias_width), or NULL, at `length` - 1 + key - query.
typedef struct {
    long length, bias_width;
    const float *cosines, *sines, *bias;
} Tables;

typedef struct {
    float *hidden, *normed, *outputs, *queries, *new_keys, *new_values, *contexts, *inner, *gated, *scores;
    Rounded rounded;
    void *memory;
} Workspace;

static inline long attention_width(const Attention *attention) { return attention->num_heads * attention->head_dim; }

static inline long key_value_width(const Attention *attention) {
    return attention->num_key_value_heads * attention->head_dim;
}

static inline long most(long one, long other) { return one > other ? one : other; }

// Room for `rows` rows of a stack, and for scores of queries to `num_keys` keys.
static int make_workspace(Workspace *space, const Stack *stack, long rows, long num_keys) {
    long width = stack->d_model, inner = 1;
    for (long index = 0; index < stack->num_layers; index++) {
        const Layer *layer = stack->layers + index;
        width = most(width, most(attention_width(&layer->attention), attention_width(&layer->cross_attention)));
        inner = most(inner, most(layer->first.num_outputs, layer->ssru.num_outputs));
    }
    const long wide = whole(rows * width, LANES), widest = whole(rows * inner, LANES);
    const long scores = ROWS * whole(num_keys, LANES), row_scales = whole(rows, LANES);
    const long rounded = whole(rows * whole(most(width, inner), LANES), 64);
    const long floats = 7 * wide + 2 * widest + scores + row_scales;
    space->memory = aligned_alloc(64, floats * sizeof(float) + rounded);
    if (!space->memory) return NO_MEMORY;
    float *place = space->memory;
    float **parts[] = {&space->hidden,   &space->normed,     &space->outputs, &space->queries,
                       &space->new_keys, &space->new_values, &space->contexts};
    for (int part = 0; part < 7; part++, place += wide) *parts[part] = place;
    space->inner = place;
    space->gated = place + widest;
    space->scores = place + 2 * widest;
    space->rounded.scales = space->scores + scores;
    space->rounded.values = (uint8_t *)(space->rounded.scales + row_scales);
    return FINE;
}

WITH_VNNI static void normalize(const Norm *norm, const float *rows, long num_rows, long width, float *outputs) {
    for (long row = 0; row < num_rows; row++) {
        const float *inputs = rows + row * width;
        __m512 sums = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        float mean = 0;
        if (norm->kind == LAYER_NORM) {
            for (long place = 0; place < width; place += LANES)
                sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(lanes(width - place), inputs + place));
            mean = _mm512_reduce_add_ps(sums) / width;
        }
        for (long place = 0; place < width; place += LANES) {
            const __mmask16 mask = lanes(width - place);
            const __m512 difference = _mm512_maskz_sub_ps(
                mask, _mm512_maskz_loadu_ps(mask, inputs + place), _mm512_set1_ps(mean));
            squares = _mm512_fmadd_ps(difference, difference, squares);
        }
        const float factor = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / width + (float)norm->epsilon);
        for (long place = 0; place < width; place += LANES) {
            const __mmask16 mask = lanes(width - place);
            __m512 values = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, inputs + place), _mm512_set1_ps(mean));
            values = _mm512_mul_ps(values, _mm512_set1_ps(factor));
            values = _mm512_mul_ps(values, _mm512_maskz_loadu_ps(mask, norm->scale + place));
            if (norm->shift) values = _mm512_add_ps(values, _mm512_maskz_loadu_ps(mask, norm->shift + place));
            _mm512_mask_storeu_ps(outputs + row * width + place, mask, values);
        }
    }
}

// What a branch of the residual network reads: the rows, or their norm.
static inline const float *branch_inputs(const Stack *stack, const Norm *norm, long rows, Workspace *space) {
    if (!stack->norm_first || norm->kind == NO_NORM) return space->hidden;
    normalize(norm, space->hidden, rows, stack->d_model, space->normed);
    return space->normed;
}

// Adds what a branch has left in `outputs`.
WITH_VNNI static void end_branch(const Stack *stack, const Norm *norm, long rows, Workspace *space) {
    float *hidden = space->hidden;
    for (long place = 0; place < rows * stack->d_model; place++) hidden[place] += space->outputs[place];
    if (!stack->norm_first && norm->kind != NO_NORM) normalize(norm, hidden, rows, stack->d_model, hidden);
}

#define ACTIVATE(expression)                                                                                          \
    for (long place = 0; place < count; place += LANES) {                                                             \
        const __mmask16 mask = lanes(count - place);                                                                  \
        const __m512 x = _mm512_maskz_loadu_ps(mask, values + place);                                                 \
        _mm512_mask_storeu_ps(values + place, mask, expression);                                                      \
    }

WITH_VNNI static void activate(long activation, float *values, long count) {
    const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f);
    const __m512 root_of_half = _mm512_set1_ps(0.70710678f), cubic = _mm512_set1_ps(0.044715f);
    const __m512 root_of_two_by_pi = _mm512_set1_ps(0.79788456f);
    switch (activation) {
        case RELU: ACTIVATE(_mm512_max_ps(_mm512_setzero_ps(), x)) break;
        case GELU:
            ACTIVATE(_mm512_mul_ps(
                _mm512_mul_ps(x, half), _mm512_add_ps(one, error_function(_mm512_mul_ps(x, root_of_half)))))
            break;
        case GELU_TANH:
            ACTIVATE(_mm512_mul_ps(
                _mm512_mul_ps(x, half),
                _mm512_add_ps(
                    one, hyperbolic_tangent(_mm512_mul_ps(
                             root_of_two_by_pi,
                             _mm512_fmadd_ps(_mm512_mul_ps(cubic, _mm512_mul_ps(x, x)), x, x))))))
            break;
        case SILU: ACTIVATE(_mm512_mul_ps(x, sigmoid(x))) break;
        default: ACTIVATE(hyperbolic_tangent(x))
    }
}

WITH_VNNI static void feed_forward(const Stack *stack, const Layer *layer, long rows, Workspace *space) {
    if (!layer->first.num_outputs) return;
    const float *inputs = branch_inputs(stack, &layer->final_norm, rows, space);
    const long width = layer->first.num_outputs, count = rows * width;
    round_rows(inputs, rows, stack->d_model, &space->rounded);
    apply_linear(&layer->first, &space->rounded, rows, space->inner);
    if (layer->gate.num_outputs) {
        apply_linear(&layer->gate, &space->rounded, rows, space->gated);
        activate(layer->activation, space->gated, count);
        for (long place = 0; place < count; place++) space->inner[place] *= space->gated[place];
    } else {
        activate(layer->activation, space->inner, count);
    }
    round_rows(space->inner, rows, width, &space->rounded);
    apply_linear(&layer->second, &space->rounded, rows, space->outputs);
    end_branch(stack, &layer->final_norm, rows, space);
}

// The output projection of an attention's contexts, added to the rows.
WITH_VNNI static void end_attention(
    const Stack *stack, const Attention *attention, const Norm *norm, long rows, Workspace *space) {
    round_rows(space->contexts, rows, attention_width(attention), &space->rounded);
    apply_linear(&attention->out, &space->rounded, rows, space->outputs);
    end_branch(stack, norm, rows, space);
}

// Keys and values of one sequence. keys: (key-value width, room), so that a register holds many; values: (num_keys,
// key-value width).
typedef struct {
    const float *keys, *values;
    long num_keys, room;
} Memory;

// Contexts of `rows` queries of one head, the compiler knows how many. bias: of the first query, or NULL; that of the
// next begins one place before.
INLINE void attend_head(
    const int rows, const float *queries, long query_width, const float *keys, const float *values, long value_width,
    const Memory *memory, long head_dim, float scaling, const float *bias, float *scores, float *contexts) {
    const long num_keys = memory->num_keys, stride = whole(num_keys, LANES);
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 maxima[ROWS], sums[ROWS];
    for (int row = 0; row < rows; row++) maxima[row] = nothing, sums[row] = _mm512_setzero_ps();
    for (long key = 0; key < num_keys; key += LANES) {
        const __mmask16 mask = lanes(num_keys - key);
        __m512 products[ROWS];
        for (int row = 0; row < rows; row++) products[row] = _mm512_setzero_ps();
        for (long channel = 0; channel < head_dim; channel++) {
            const __m512 some = _mm512_maskz_loadu_ps(mask, keys + channel * memory->room + key);
            for (int row = 0; row < rows; row++)
                products[row] =
                    _mm512_fmadd_ps(_mm512_set1_ps(queries[row * query_width + channel]), some, products[row]);
        }
        for (int row = 0; row < rows; row++) {
            __m512 score = _mm512_mul_ps(products[row], _mm512_set1_ps(scaling));
            if (bias) score = _mm512_add_ps(score, _mm512_maskz_loadu_ps(mask, bias - row + key));
            score = _mm512_mask_mov_ps(nothing, mask, score);
            maxima[row] = _mm512_max_ps(maxima[row], score);
            _mm512_storeu_ps(scores + row * stride + key, score);
        }
    }
    for (int row = 0; row < rows; row++) maxima[row] = _mm512_set1_ps(_mm512_reduce_max_ps(maxima[row]));
    for (long key = 0; key < num_keys; key += LANES)
        for (int row = 0; row < rows; row++) {
            float *some = scores + row * stride + key;
            const __m512 weights = exponential(_mm512_sub_ps(_mm512_loadu_ps(some), maxima[row]));
            sums[row] = _mm512_add_ps(sums[row], _mm512_maskz_mov_ps(lanes(num_keys - key), weights));
            _mm512_storeu_ps(some, weights);
        }
    __m512 factors[ROWS];
    for (int row = 0; row < rows; row++) factors[row] = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sums[row]));
    for (long channel = 0; channel < head_dim; channel += LANES) {
        const __mmask16 mask = lanes(head_dim - channel);
        __m512 some[ROWS];
        for (int row = 0; row < rows; row++) some[row] = _mm512_setzero_ps();
        for (long key = 0; key < num_keys; key++) {
            const __m512 value = _mm512_maskz_loadu_ps(mask, values + key * value_width + channel);
            for (int row = 0; row < rows; row++)
                some[row] = _mm512_fmadd_ps(_mm512_set1_ps(scores[row * stride + key]), value, some[row]);
        }
        for (int row = 0; row < rows; row++)
            _mm512_mask_storeu_ps(
                contexts + row * query_width + channel, mask, _mm512_mul_ps(some[row], factors[row]));
    }
}

// Contexts of all heads of `rows` queries that follow each other, the first at place `position` of its sequence. scores:
// room for ROWS * num_keys, in whole vectors. tables may be NULL.
WITH_VNNI static void attend(
    const Attention *attention, const Memory *memory, const Tables *tables, long position, const float *queries,
    long rows, float *scores, float *contexts) {
    const long head_dim = attention->head_dim, width = attention_width(attention);
    const long value_width = key_value_width(attention);
    const long groups = attention->num_heads / attention->num_key_value_heads;
    for (long row = 0; row < rows; row += ROWS)
        for (long head = 0; head < attention->num_heads; head++) {
            const float *bias = NULL;
            if (tables && tables->bias)
                bias = tables->bias + head * tables->bias_width + tables->length - 1 - position - row;
#define ATTEND(count)                                                                                                 \
    attend_head(                                                                                                      \
        count, queries + row * width + head * head_dim, width, memory->keys + head / groups * head_dim * memory->room, \
        memory->values + head / groups * head_dim, value_width, memory, head_dim, (float)attention->scaling, bias,    \
        scores, contexts + row * width + head * head_dim)
            switch (rows - row) {
                case 1: ATTEND(1); break;
                case 2: ATTEND(2); break;
                case 3: ATTEND(3); break;
                default: ATTEND(ROWS);
            }
        }
}

// Turns the heads of a row at `position`; see `rotate` in modeling_positions.py.
WITH_VNNI static void turn(const Tables *tables, long position, float *row, long num_heads, long head_dim) {
    if (!tables->cosines) return;
    const float *cosines = tables->cosines + position * head_dim, *sines = tables->sines + position * head_dim;
    const long half = head_dim / 2;
    for (float *head = row; head < row + num_heads * head_dim; head += head_dim)
        for (long channel = 0; channel < half; channel++) {
            const float one = head[channel], other = head[channel + half];
            head[channel] = one * cosines[channel] - other * sines[channel];
            head[channel + half] = other * cosines[channel + half] + one * sines[channel + half];
        }
}

// Queries, keys and values of the own sequence, of the rows that are rounded.
WITH_VNNI static void project(const Attention *attention, long rows, Workspace *space) {
    apply_linear(&attention->query, &space->rounded, rows, space->queries);
    apply_linear(&attention->key, &space->rounded, rows, space->new_keys);
    apply_linear(&attention->value, &space->rounded, rows, space->new_values);
}

// (rows, width) to (width, room). Scatter instructions take longer.
static void transpose(const float *rows, long num_rows, long width, float *columns, long room) {
    for (long row = 0; row < num_rows; row++)
        for (long channel = 0; channel < width; channel++)
            columns[channel * room + row] = rows[row * width + channel];
}

// The embedding of a token at a position.
WITH_VNNI static int embed(const Stack *stack, int64_t token, long position, float *row) {
    if (token < 0 || token >= stack->num_tokens) return REFUSED;
    if (stack->position_embeddings && position >= stack->num_positions) return REFUSED;
    const long width = stack->d_model;
    const float *embedding = stack->embeddings + token * width, scale = (float)stack->embed_scale;
    const float *place = stack->position_embeddings ? stack->position_embeddings + position * width : NULL;
    for (long channel = 0; channel < width; channel++) row[channel] = embedding[channel] * scale;
    for (long channel = 0; place && channel < width; channel++) row[channel] += place[channel];
    return FINE;
}

#endif

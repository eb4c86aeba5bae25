// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// An encoder of attention layers in one call. Padding is never computed: the real tokens of some sentences follow each
// other, and only attention knows where one ends.

#if defined(__x86_64__)

#include "layers.h"

#define ROWS_AT_A_TIME 128  // unless one sentence is longer

// Real tokens of a sentence, and where they stand in it.
typedef struct {
    long sentence, first_row, length;
} Span;

static long count_real(const uint8_t *mask, long length) {
    long count = 0;
    for (long place = 0; mask && place < length; place++) count += mask[place] != 0;
    return mask ? count : length;
}

WITH_VNNI static void self_attention(
    const Attention *attention, const Tables *tables, const Span *spans, long num_spans, Workspace *space,
    float *turned_keys) {
    const long width = attention_width(attention), key_width = key_value_width(attention);
    for (const Span *span = spans; span < spans + num_spans; span++) {
        const long first = span->first_row, room = whole(span->length, LANES);
        for (long place = 0; place < span->length; place++) {
            turn(tables, place, space->queries + (first + place) * width, attention->num_heads, attention->head_dim);
            turn(
                tables, place, space->new_keys + (first + place) * key_width, attention->num_key_value_heads,
                attention->head_dim);
        }
        transpose(space->new_keys + first * key_width, span->length, key_width, turned_keys, room);
        const Memory memory = {turned_keys, space->new_values + first * key_width, span->length, room};
        attend(
            attention, &memory, tables, 0, space->queries + first * width, span->length, space->scores,
            space->contexts + first * width);
    }
}

// All layers, for rows that `hidden` holds.
WITH_VNNI static void encode(
    const Stack *stack, const Tables *tables, const Span *spans, long num_spans, long rows, Workspace *space,
    float *turned_keys) {
    if (stack->embedding_norm.kind != NO_NORM)
        normalize(&stack->embedding_norm, space->hidden, rows, stack->d_model, space->hidden);
    for (const Layer *layer = stack->layers; layer < stack->layers + stack->num_layers; layer++) {
        const float *inputs = branch_inputs(stack, &layer->mixer_norm, rows, space);
        round_rows(inputs, rows, stack->d_model, &space->rounded);
        project(&layer->attention, rows, space);
        self_attention(&layer->attention, tables, spans, num_spans, space, turned_keys);
        end_attention(stack, &layer->attention, &layer->mixer_norm, rows, space);
        feed_forward(stack, layer, rows, space);
    }
    if (stack->final_norm.kind != NO_NORM)
        normalize(&stack->final_norm, space->hidden, rows, stack->d_model, space->hidden);
}

// tokens: (sentences, length). mask: as many bytes, 0 at padding, or NULL. outputs: (sentences, length, d_model); what
// it holds at padding remains. Returns `REFUSED` at a token that is not in the vocabulary.
WITH_VNNI int encoder_read(
    const Stack *stack, const Tables *tables, const int64_t *tokens, const uint8_t *mask, long sentences, long length,
    float *outputs) {
    const long width = stack->d_model, most_rows = most(ROWS_AT_A_TIME, length);
    long key_width = 1;
    for (long index = 0; index < stack->num_layers; index++)
        key_width = most(key_width, key_value_width(&stack->layers[index].attention));
    Workspace space = {0};
    Span *spans = malloc(most_rows * sizeof(Span));
    float *turned_keys = aligned_alloc(64, whole(key_width * whole(length, LANES) * sizeof(float), 64));
    int state = make_workspace(&space, stack, least(most_rows, sentences * length), length);
    if (!spans || !turned_keys) state = NO_MEMORY;
    for (long sentence = 0; state == FINE && sentence < sentences;) {
        long rows = 0, num_spans = 0;
        for (; state == FINE && sentence < sentences; sentence++) {
            const uint8_t *real = mask ? mask + sentence * length : NULL;
            const long count = count_real(real, length);
            if (rows + count > most_rows) break;
            if (!count) continue;
            spans[num_spans++] = (Span){sentence, rows, count};
            long position = 0;
            for (long place = 0; state == FINE && place < length; place++)
                if (!real || real[place]) {
                    float *row = space.hidden + (rows + position) * width;
                    state = embed(stack, tokens[sentence * length + place], position++, row);
                }
            rows += count;
        }
        if (state != FINE) break;
        encode(stack, tables, spans, num_spans, rows, &space, turned_keys);
        for (const Span *span = spans; span < spans + num_spans; span++) {
            const float *row = space.hidden + span->first_row * width;
            for (long place = span->sentence * length; place < (span->sentence + 1) * length; place++)
                if (!mask || mask[place]) {
                    memcpy(outputs + place * width, row, width * sizeof(float));
                    row += width;
                }
        }
    }
    free(space.memory);
    free(spans);
    free(turned_keys);
    return state;
}

#endif

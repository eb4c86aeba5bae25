// Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
//
// A decoder of SSRU and attention layers: a step of all its layers, or a whole greedy search, in one call.

#if defined(__x86_64__)

#include "largest.h"
#include "layers.h"

#define FIRST_ROOM 32  // places of self-attention for which there is room at first

// A sentence, all of whose rows attend to one copy of its keys and values: where they begin in those of a layer.
typedef struct {
    long first_key, first_column, num_keys;
} Source;

// Rows of a sentence follow each other. The state of a row holds that of each layer, from `offsets` on: the cell of an
// SSRU; or keys (key-value width, room) and values (room, key-value width).
typedef struct {
    const Stack *stack;
    long num_beams, batch_size, num_rows, position, room;
    Source *sources;
    float **keys, **values;
    float **states, **next_states;
    long *offsets;  // one more than there are layers
    Workspace space;
    Largest largest;
} Decoder;

static int is_ssru(const Layer *layer) { return layer->ssru.num_outputs > 0; }

static void place_layers(Decoder *decoder, long room) {
    const Stack *stack = decoder->stack;
    decoder->room = room;
    decoder->offsets[0] = 0;
    for (long index = 0; index < stack->num_layers; index++) {
        const Layer *layer = stack->layers + index;
        const long size = is_ssru(layer) ? stack->d_model : 2 * key_value_width(&layer->attention) * room;
        decoder->offsets[index + 1] = decoder->offsets[index] + whole(size, LANES);
    }
}

static float *new_state(const Decoder *decoder) {
    const long size = most(LANES, decoder->offsets[decoder->stack->num_layers]) * sizeof(float);
    float *state = aligned_alloc(64, size);
    if (state) memset(state, 0, size);
    return state;
}

// What a row has read so far. The other may have been made for less room: then `offsets` are the old ones.
static void copy_state(const Decoder *decoder, const float *from, const long *offsets, long room, float *to) {
    for (long index = 0; index < decoder->stack->num_layers; index++) {
        const Layer *layer = decoder->stack->layers + index;
        const float *old = from + offsets[index];
        float *new = to + decoder->offsets[index];
        if (is_ssru(layer)) {
            memcpy(new, old, decoder->stack->d_model * sizeof(float));
            continue;
        }
        const long width = key_value_width(&layer->attention), used = decoder->position;
        for (long channel = 0; channel < width; channel++)
            memcpy(new + channel * decoder->room, old + channel * room, used * sizeof(float));
        memcpy(new + width * decoder->room, old + width * room, used * width * sizeof(float));
    }
}

static int has_attention(const Decoder *decoder) {
    for (long index = 0; index < decoder->stack->num_layers; index++)
        if (!is_ssru(decoder->stack->layers + index)) return 1;
    return 0;
}

// Makes room for the next position.
static int grow(Decoder *decoder) {
    const long num_layers = decoder->stack->num_layers, room = decoder->room;
    if (decoder->position < room || !has_attention(decoder)) return FINE;
    long *offsets = malloc((num_layers + 1) * sizeof(long));
    if (!offsets) return NO_MEMORY;
    memcpy(offsets, decoder->offsets, (num_layers + 1) * sizeof(long));
    place_layers(decoder, 2 * room);
    int state = FINE;
    for (long row = 0; state == FINE && row < decoder->num_rows; row++) {
        float *larger = new_state(decoder);
        if (!larger) {
            state = NO_MEMORY;
        } else {
            copy_state(decoder, decoder->states[row], offsets, room, larger);
            free(decoder->states[row]);
            decoder->states[row] = larger;
        }
    }
    free(offsets);
    return state;
}

void decoder_free(Decoder *decoder) {
    if (!decoder) return;
    const long num_layers = decoder->stack->num_layers;
    for (long index = 0; decoder->keys && index < num_layers; index++) free(decoder->keys[index]);
    for (long index = 0; decoder->values && index < num_layers; index++) free(decoder->values[index]);
    for (long row = 0; decoder->states && row < decoder->num_rows; row++) free(decoder->states[row]);
    void *parts[] = {decoder->keys,    decoder->values,         decoder->states,          decoder->next_states,
                     decoder->offsets, decoder->sources,        decoder->largest.maxima,  decoder->largest.sums,
                     decoder->space.memory};
    for (unsigned part = 0; part < sizeof(parts) / sizeof(*parts); part++) free(parts[part]);
    free(decoder);
}

// Keys and values of the `num_keys` rows of all sources, which are `rows`.
WITH_VNNI static int read_sources(Decoder *decoder, const float *rows, long num_keys, long num_columns) {
    const Stack *stack = decoder->stack;
    const long width = stack->d_model;
    Rounded rounded;
    rounded.values = aligned_alloc(64, whole(num_keys * whole(width, LANES), 64));
    rounded.scales = malloc(num_keys * sizeof(float));
    float *keys = NULL;
    int state = rounded.values && rounded.scales ? FINE : NO_MEMORY;
    if (state == FINE) round_rows(rows, num_keys, width, &rounded);
    for (long index = 0; state == FINE && index < stack->num_layers; index++) {
        const Attention *source = &stack->layers[index].cross_attention;
        const long key_width = key_value_width(source);
        free(keys);
        keys = aligned_alloc(64, whole(num_keys * key_width * sizeof(float), 64));
        decoder->keys[index] = aligned_alloc(64, whole(num_columns * key_width * sizeof(float), 64));
        decoder->values[index] = aligned_alloc(64, whole(num_keys * key_width * sizeof(float), 64));
        if (!keys || !decoder->keys[index] || !decoder->values[index]) {
            state = NO_MEMORY;
            break;
        }
        const float *key_rows = source->key.num_outputs ? keys : rows;
        if (source->key.num_outputs) apply_linear(&source->key, &rounded, num_keys, keys);
        apply_linear(&source->value, &rounded, num_keys, decoder->values[index]);
        for (const Source *one = decoder->sources; one < decoder->sources + decoder->batch_size; one++)
            transpose(
                key_rows + one->first_key * key_width, one->num_keys, key_width,
                decoder->keys[index] + one->first_column * key_width, whole(one->num_keys, LANES));
    }
    free(keys);
    free(rounded.values);
    free(rounded.scales);
    return state;
}

static int start(Decoder *decoder, const float *states, const uint8_t *mask, long length) {
    const long width = decoder->stack->d_model, batch_size = decoder->batch_size;
    float *rows = aligned_alloc(64, whole((batch_size * length * width + 1) * sizeof(float), 64));
    if (!rows) return NO_MEMORY;
    long num_keys = 0, num_columns = 0, longest = 1;
    for (long sentence = 0; sentence < batch_size; sentence++) {
        Source *source = decoder->sources + sentence;
        *source = (Source){num_keys, num_columns, 0};
        for (long place = sentence * length; place < (sentence + 1) * length; place++)
            if (!mask || mask[place])
                memcpy(rows + (num_keys + source->num_keys++) * width, states + place * width, width * sizeof(float));
        num_keys += source->num_keys;
        num_columns += whole(source->num_keys, LANES);
        longest = most(longest, source->num_keys);
    }
    int state = read_sources(decoder, rows, num_keys, num_columns);
    free(rows);
    place_layers(decoder, FIRST_ROOM);
    for (long row = 0; state == FINE && row < decoder->num_rows; row++) {
        decoder->states[row] = new_state(decoder);
        if (!decoder->states[row]) state = NO_MEMORY;
    }
    // Scores of self-attention have room of their own: how far a search goes is not known here.
    if (state == FINE) state = make_workspace(&decoder->space, decoder->stack, decoder->num_rows, longest);
    return state;
}

// states: (batch_size, length, d_model) of the encoder. mask: (batch_size, length) bytes, 0 at padding, or NULL;
// each sentence has real tokens. Returns NULL where there was no memory.
Decoder *decoder_new(
    const Stack *stack, const float *states, const uint8_t *mask, long batch_size, long length, long num_beams) {
    Decoder *decoder = calloc(1, sizeof(Decoder));
    if (!decoder) return NULL;
    const long rows = batch_size * num_beams, num_layers = stack->num_layers;
    decoder->stack = stack;
    decoder->num_beams = num_beams;
    decoder->batch_size = batch_size;
    decoder->num_rows = rows;
    decoder->sources = calloc(batch_size, sizeof(Source));
    decoder->keys = calloc(num_layers, sizeof(float *));
    decoder->values = calloc(num_layers, sizeof(float *));
    decoder->states = calloc(rows, sizeof(float *));
    decoder->next_states = calloc(rows, sizeof(float *));
    decoder->offsets = calloc(num_layers + 1, sizeof(long));
    decoder->largest.maxima = calloc(rows, sizeof(float));
    decoder->largest.sums = calloc(rows * LANES, sizeof(float));
    const int is_whole = decoder->sources && decoder->keys && decoder->values && decoder->states &&
                         decoder->next_states && decoder->offsets && decoder->largest.maxima && decoder->largest.sums;
    if (is_whole && start(decoder, states, mask, length) == FINE) return decoder;
    decoder_free(decoder);
    return NULL;
}

// Row r goes on from what row `rows[r]` has read; there may be fewer rows than before. A state that one row alone goes
// on from is not copied.
int decoder_select(Decoder *decoder, const int64_t *rows, long num_rows) {
    const long old_rows = decoder->num_rows;
    for (long row = 0; row < num_rows; row++)
        if (rows[row] < 0 || rows[row] >= old_rows) return REFUSED;
    if (num_rows > old_rows) return REFUSED;
    float **next = decoder->next_states, **states = decoder->states;
    memset(next, 0, num_rows * sizeof(float *));
    // First children take the state itself; it stands in `next`, from where later ones copy it.
    for (long row = 0; row < num_rows; row++)
        if (states[rows[row]]) {
            next[row] = states[rows[row]];
            states[rows[row]] = NULL;
        }
    long spare = 0;
    for (long row = 0; row < num_rows; row++) {
        if (next[row]) continue;
        while (!states[spare]) spare++;
        long first = 0;
        while (rows[first] != rows[row]) first++;
        next[row] = states[spare];
        states[spare] = NULL;
        copy_state(decoder, next[first], decoder->offsets, decoder->room, next[row]);
    }
    for (long row = 0; row < old_rows; row++) free(states[row]);
    memset(states, 0, old_rows * sizeof(float *));
    decoder->states = next;
    decoder->next_states = states;
    decoder->num_rows = num_rows;
    return FINE;
}

// Keeps some sentences, in their order, with all their rows.
int decoder_keep(Decoder *decoder, const int64_t *sentences, long batch_size) {
    const long num_beams = decoder->num_beams;
    int64_t *rows = malloc((batch_size * num_beams + 1) * sizeof(int64_t));
    if (!rows) return NO_MEMORY;
    for (long place = 0; place < batch_size * num_beams; place++)
        rows[place] = sentences[place / num_beams] * num_beams + place % num_beams;
    const int state = decoder_select(decoder, rows, batch_size * num_beams);
    free(rows);
    if (state != FINE) return state;
    for (long place = 0; place < batch_size; place++)
        decoder->sources[place] = decoder->sources[sentences[place]];
    decoder->batch_size = batch_size;
    return FINE;
}

// f = sigmoid(first half), c = f c + (1 - f) second half; relu(c) goes on.
WITH_VNNI static void step_ssru(const Decoder *decoder, long index, Workspace *space) {
    const long width = decoder->stack->d_model;
    apply_linear(&decoder->stack->layers[index].ssru, &space->rounded, decoder->num_rows, space->inner);
    for (long row = 0; row < decoder->num_rows; row++) {
        float *cells = decoder->states[row] + decoder->offsets[index];
        const float *logits = space->inner + row * 2 * width, *candidates = logits + width;
        for (long channel = 0; channel < width; channel += LANES) {
            const __mmask16 mask = lanes(width - channel);
            const __m512 forget = sigmoid(_mm512_maskz_loadu_ps(mask, logits + channel));
            const __m512 candidate = _mm512_maskz_loadu_ps(mask, candidates + channel);
            const __m512 change = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, cells + channel), candidate);
            const __m512 cell = _mm512_fmadd_ps(forget, change, candidate);
            _mm512_mask_storeu_ps(cells + channel, mask, cell);
            _mm512_mask_storeu_ps(
                space->outputs + row * width + channel, mask, _mm512_max_ps(_mm512_setzero_ps(), cell));
        }
    }
}

WITH_VNNI static void step_attention(
    const Decoder *decoder, const Tables *tables, long index, float *scores, Workspace *space) {
    const Attention *attention = &decoder->stack->layers[index].attention;
    const long position = decoder->position, room = decoder->room, head_dim = attention->head_dim;
    const long width = attention_width(attention), key_width = key_value_width(attention);
    project(attention, decoder->num_rows, space);
    for (long row = 0; row < decoder->num_rows; row++) {
        float *keys = decoder->states[row] + decoder->offsets[index], *values = keys + key_width * room;
        float *query = space->queries + row * width, *key = space->new_keys + row * key_width;
        turn(tables, position, query, attention->num_heads, head_dim);
        turn(tables, position, key, attention->num_key_value_heads, head_dim);
        transpose(key, 1, key_width, keys + position, room);
        memcpy(values + position * key_width, space->new_values + row * key_width, key_width * sizeof(float));
        const Memory memory = {keys, values, position + 1, room};
        attend(attention, &memory, tables, position, query, 1, scores, space->contexts + row * width);
    }
}

WITH_VNNI static void cross_attention(const Decoder *decoder, long index, Workspace *space) {
    const Layer *layer = decoder->stack->layers + index;
    const Attention *attention = &layer->cross_attention;
    const long width = attention_width(attention), key_width = key_value_width(attention);
    const float *queries = branch_inputs(decoder->stack, &layer->cross_attention_norm, decoder->num_rows, space);
    if (attention->query.num_outputs) {
        round_rows(queries, decoder->num_rows, decoder->stack->d_model, &space->rounded);
        apply_linear(&attention->query, &space->rounded, decoder->num_rows, space->queries);
        queries = space->queries;
    }
    for (long sentence = 0; sentence < decoder->batch_size; sentence++) {
        const Source *source = decoder->sources + sentence;
        const Memory memory = {
            decoder->keys[index] + source->first_column * key_width,
            decoder->values[index] + source->first_key * key_width, source->num_keys, whole(source->num_keys, LANES)};
        const long first = sentence * decoder->num_beams * width;
        attend(
            attention, &memory, NULL, 0, queries + first, decoder->num_beams, space->scores, space->contexts + first);
    }
    end_attention(decoder->stack, attention, &layer->cross_attention_norm, decoder->num_rows, space);
}

// Reads the next token of each row; what leaves the last layer is then in `hidden`. Returns `REFUSED` at a token that
// is not in the vocabulary, and past the last position.
WITH_VNNI static int read_tokens(Decoder *decoder, const Tables *tables, const int64_t *tokens) {
    const Stack *stack = decoder->stack;
    const long rows = decoder->num_rows;
    Workspace *space = &decoder->space;
    for (long row = 0; row < rows; row++) {
        const int state = embed(stack, tokens[row], decoder->position, space->hidden + row * stack->d_model);
        if (state != FINE) return state;
    }
    float *scores = NULL;
    if (has_attention(decoder)) {
        if ((tables->cosines || tables->bias) && decoder->position >= tables->length) return REFUSED;
        scores = aligned_alloc(64, ROWS * whole(decoder->position + 1, LANES) * sizeof(float));
        if (!scores || grow(decoder) != FINE) {
            free(scores);
            return NO_MEMORY;
        }
    }
    if (stack->embedding_norm.kind != NO_NORM)
        normalize(&stack->embedding_norm, space->hidden, rows, stack->d_model, space->hidden);
    for (long index = 0; index < stack->num_layers; index++) {
        const Layer *layer = stack->layers + index;
        const float *inputs = branch_inputs(stack, &layer->mixer_norm, rows, space);
        round_rows(inputs, rows, stack->d_model, &space->rounded);
        if (is_ssru(layer)) {
            step_ssru(decoder, index, space);
            end_branch(stack, &layer->mixer_norm, rows, space);
        } else {
            step_attention(decoder, tables, index, scores, space);
            end_attention(stack, &layer->attention, &layer->mixer_norm, rows, space);
        }
        cross_attention(decoder, index, space);
        feed_forward(stack, layer, rows, space);
    }
    if (stack->final_norm.kind != NO_NORM)
        normalize(&stack->final_norm, space->hidden, rows, stack->d_model, space->hidden);
    decoder->position++;
    free(scores);
    return FINE;
}

// tokens: (rows). outputs: (rows, d_model).
int decoder_read(Decoder *decoder, const Tables *tables, const int64_t *tokens, float *outputs) {
    const int state = read_tokens(decoder, tables, tokens);
    if (state == FINE)
        memcpy(outputs, decoder->space.hidden, decoder->num_rows * decoder->stack->d_model * sizeof(float));
    return state;
}

// The `number` tokens of the highest logits of each row that was read, the best first; (rows, number) each. log_sums,
// (rows), or NULL: the logarithm of the sum of e to the power of a row's logits.
WITH_VNNI void decoder_best(Decoder *decoder, long number, int64_t *tokens, float *logits, float *log_sums) {
    const Linear *output = &decoder->stack->output;
    Largest *largest = &decoder->largest;
    largest->number = number;
    largest->places = tokens;
    largest->values = logits;
    largest->log_sums = log_sums;
    round_rows(decoder->space.hidden, decoder->num_rows, output->num_inputs, &decoder->space.rounded);
    find_largest(output, &decoder->space.rounded, decoder->num_rows, largest);
}

static int is_end(int64_t token, const int64_t *end_tokens, long num_end_tokens) {
    for (long place = 0; place < num_end_tokens; place++)
        if (token == end_tokens[place]) return 1;
    return 0;
}

// Greedy search, of a decoder that has read nothing and has one beam. sequences: (rows, max_length), which begin with
// `*length` tokens of a prompt; the others are written until all rows have ended, and `*length` is where that was.
WITH_VNNI int decoder_search(
    Decoder *decoder, const Tables *tables, int64_t *sequences, long max_length, const int64_t *end_tokens,
    long num_end_tokens, long *length) {
    const long all_rows = decoder->num_rows;
    int64_t *tokens = malloc((3 * all_rows + 1) * sizeof(int64_t));  // these, the rows they belong to, and who stays
    float *logits = malloc((all_rows + 1) * sizeof(float));
    int state = tokens && logits ? FINE : NO_MEMORY;
    int64_t *rows = tokens + all_rows, *kept = rows + all_rows;
    for (long row = 0; state == FINE && row < all_rows; row++) rows[row] = row;
    for (long place = 0; state == FINE && place < *length; place++) {
        for (long row = 0; row < all_rows; row++) tokens[row] = sequences[row * max_length + place];
        state = read_tokens(decoder, tables, tokens);
    }
    while (state == FINE) {
        decoder_best(decoder, 1, tokens, logits, NULL);
        long num_kept = 0;
        for (long row = 0; row < decoder->num_rows; row++) {
            sequences[rows[row] * max_length + *length] = tokens[row];
            if (is_end(tokens[row], end_tokens, num_end_tokens)) continue;
            rows[num_kept] = rows[row];
            tokens[num_kept] = tokens[row];
            kept[num_kept++] = row;
        }
        ++*length;
        if (!num_kept || *length >= max_length) break;
        if (num_kept < decoder->num_rows) state = decoder_keep(decoder, kept, num_kept);
        if (state == FINE) state = read_tokens(decoder, tables, tokens);
    }
    free(tokens);
    free(logits);
    return state;
}

#endif

// Attention of rows that share one prefix and have each path's own keys and values besides, or of whole windows: one pass
// from what the projection gives to what the next one takes. See ../../engine/native_attention.py, which owns the memory.

#include "tiles.h"

using namespace kronos;

namespace {

constexpr int64_t kPanel = 64;     // keys of the prefix that lie side by side; a multiple of every tile's width
constexpr int64_t kMostRows = 48;  // of a block: what it needs beside the prefix stays in the second cache
constexpr float kNever = -1e30f;   // the score of a place that holds no key

}  // namespace

// Throughout, a group is one head of one series, and its rows are path after path, each with `steps` new tokens. Keys and
// values are stored in float32 or bfloat16, in words along what is summed: a key's numbers, a number's values.
struct KronosAttention {
  Format format;
  int64_t series, heads, size, paths, steps;
  int64_t prefix;           // keys and values that all paths of a series share
  int64_t is_window;        // if not 0: one path, its keys are the prefix, and each row sees those up to its own
  int64_t first, capacity;  // of a path's own: where the new ones go, and how many there is room for
  int64_t threads;
  const uint32_t *prefix_keys;    // [groups, panels, words of a key, kPanel], zeros behind the last key
  const uint32_t *prefix_values;  // [groups, words of the prefix, padded size]
  uint32_t *own_keys;             // [groups, capacity, paths, padded words of a key], zeros in the padding
  char *own_values;               // [groups, capacity, paths, padded size] numbers
  const float *turns;             // [steps, size]: cosine and sine of each pair, by which queries and keys turn; or null
  const float *new_keys_values;   // [rows, stride]: keys, then values, of all heads; or null
  const float *queries;           // [rows, stride], scaled; or null
  int64_t stride;
  float *out;  // [rows, heads * size]
};

namespace {

struct Shape {
  explicit Shape(const KronosAttention &a)
      : padded(multiple_up(a.size, kLanes)),
        words(divided_up(a.size, numbers_in_word(a.format))),
        padded_words(multiple_up(words, kLanes)),
        rows(a.paths * a.steps),
        groups(a.series * a.heads),
        panels(divided_up(a.prefix, kPanel)),
        behind(panels * kPanel),
        width(behind + (a.is_window ? 0 : multiple_up(a.first + a.steps, kLanes))) {
    // Enough blocks to keep all threads busy, and none so small that its tiles are not filled.
    const int64_t shared_out = multiple_up(divided_up(rows * groups, 4 * a.threads), kTileRows);
    blocks = divided_up(rows, smaller(kMostRows, shared_out));
    block_rows = divided_up(rows, blocks);
  }

  int64_t padded, words, padded_words, rows, groups, panels;
  int64_t behind, width;  // a row of scores: the prefix's, padded to panels, then the path's own, padded to vectors
  int64_t blocks, block_rows;
};

// numbers [size] as pairs (x, y), each multiplied by its complex turn, if there are turns.
void turn(const float *numbers, const float *turns, int64_t size, float *to) {
  if (turns == nullptr) {
    memcpy(to, numbers, size * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < size; i += 2) {
    const float x = numbers[i], y = numbers[i + 1], cosine = turns[i], sine = turns[i + 1];
    to[i] = x * cosine - y * sine;
    to[i + 1] = x * sine + y * cosine;
  }
}

// scores [width] -> what is left to divide by; the scores become e^(score - the largest).
float exponentials(float *scores, int64_t width) {
  Vector high = all(kNever);
  for (int64_t i = 0; i < width; i += kLanes) high = maximum(high, load(scores + i));
  const Vector top = all(largest(high));
  Vector total = {};
  for (int64_t i = 0; i < width; i += kLanes) {
    const Vector weight = exponential(load(scores + i) - top);
    total += weight;
    store(scores + i, weight);
  }
  return sum(total);
}

template <Format format>
Vector load_numbers(const char *numbers, int64_t at) {
  if constexpr (format == kFloat32) return load(reinterpret_cast<const float *>(numbers) + at);
  typedef uint16_t Uppers __attribute__((vector_size(2 * kLanes)));
  Uppers uppers;
  memcpy(&uppers, numbers + 2 * at, sizeof uppers);
  return (Vector)(__builtin_convertvector(uppers, Words) << 16);
}

template <Format format>
class Attention {
 public:
  Attention(const KronosAttention &a, const Shape &shape)
      : a_(a), shape_(shape), scores_(shape.block_rows * shape.width), turned_(shape.padded),
        queries_(shape.block_rows * shape.padded_words), result_(shape.block_rows * shape.padded),
        weights_(shape.block_rows * weight_words()), divisors_(shape.block_rows) {}

  void append(int64_t group) {
    const int64_t series = group / a_.heads, head = group % a_.heads;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      const int64_t step = row % a_.steps, place = own_place(group, a_.first + step, row / a_.steps);
      const float *key = a_.new_keys_values + (series * shape_.rows + row) * a_.stride + head * a_.size;
      turn(key, turns(step), a_.size, turned_.begin());
      to_words(turned_.begin(), a_.size, 1.0f, format, a_.own_keys + place * shape_.padded_words);
      char *values = a_.own_values + place * shape_.padded * kBytes;
      to_words(key + a_.heads * a_.size, a_.size, 1.0f, format, reinterpret_cast<uint32_t *>(values));
    }
  }

  // Rows `begin` up to begin + count of a group.
  void attend(int64_t group, int64_t begin, int64_t count) {
    group_ = group;
    begin_ = begin;
    count_ = count;
    const int64_t seen = a_.is_window ? begin + count : a_.prefix, panels = divided_up(seen, kPanel);
    take_queries();
    const uint32_t *keys = a_.prefix_keys + group * shape_.panels * shape_.words * kPanel;
    for (int64_t panel = 0; panel < panels; ++panel)
      multiply<format>(count, {queries_.begin(), shape_.padded_words}, {keys + panel * shape_.words * kPanel, kPanel},
                       shape_.words, kPanel, scores_.begin() + panel * kPanel, shape_.width);
    score_own(panels * kPanel);
    for (int64_t i = 0; i < count; ++i) weigh(i, panels * kPanel);
    const int64_t words = divided_up(a_.prefix, numbers_in_word(format));
    const uint32_t *values = a_.prefix_values + group * words * shape_.padded;
    multiply<format>(count, weights(), {values, shape_.padded}, divided_up(seen, numbers_in_word(format)), shape_.padded,
                     result_.begin(), shape_.padded);
    add_own();
    for (int64_t i = 0; i < count; ++i) finish(i);
  }

 private:
  static constexpr int64_t kBytes = format == kFloat32 ? 4 : 2;  // of a stored number

  int64_t weight_words() const { return shape_.behind / numbers_in_word(format); }
  int64_t row_of(int64_t i) const { return group_ / a_.heads * shape_.rows + begin_ + i; }
  int64_t own_seen(int64_t i) const { return a_.is_window ? 0 : a_.first + (begin_ + i) % a_.steps + 1; }
  int64_t most_own() const { return a_.is_window ? 0 : a_.first + a_.steps; }
  int64_t path_of(int64_t i) const { return (begin_ + i) / a_.steps; }
  // Place after place, and of each path after path: so a step reads them in the order in which they lie.
  int64_t own_place(int64_t group, int64_t place, int64_t path) const {
    return (group * a_.capacity + place) * a_.paths + path;
  }
  const float *turns(int64_t step) const { return a_.turns == nullptr ? nullptr : a_.turns + step * a_.size; }

  // In float32 the scores themselves, else rounded beside them.
  Matrix weights() const {
    if constexpr (format == kFloat32) return {reinterpret_cast<const uint32_t *>(scores_.begin()), shape_.width};
    return {weights_.begin(), weight_words()};
  }

  void take_queries() {
    memset(queries_.begin(), 0, count_ * shape_.padded_words * sizeof(uint32_t));
    for (int64_t i = 0; i < count_; ++i) {
      const float *query = a_.queries + row_of(i) * a_.stride + group_ % a_.heads * a_.size;
      turn(query, turns((begin_ + i) % a_.steps), a_.size, turned_.begin());
      to_words(turned_.begin(), a_.size, 1.0f, format, queries_.begin() + i * shape_.padded_words);
    }
  }

  // All rows' scores of their paths' own keys, behind those of the prefix.
  void score_own(int64_t scored) {
    for (int64_t place = 0; place < most_own(); ++place)
      for (int64_t i = 0; i < count_; ++i) {
        if (place >= own_seen(i)) continue;
        const uint32_t *query = queries_.begin() + i * shape_.padded_words;
        const uint32_t *key = a_.own_keys + own_place(group_, place, path_of(i)) * shape_.padded_words;
        Vector products = {};
        for (int64_t at = 0; at < shape_.padded_words; at += kLanes)
          Step<format>::add_each(products, load_words(query + at), load_words(key + at));
        scores_.begin()[i * shape_.width + scored + place] = sum(products);
      }
  }

  // One row's softmax over both parts; `scored` places of the prefix have scores.
  void weigh(int64_t i, int64_t scored) {
    float *scores = scores_.begin() + i * shape_.width, *own_scores = scores + scored;
    for (int64_t place = a_.is_window ? begin_ + i + 1 : a_.prefix; place < scored; ++place) scores[place] = kNever;
    const int64_t own_width = multiple_up(own_seen(i), kLanes);
    for (int64_t place = own_seen(i); place < own_width; ++place) own_scores[place] = kNever;
    divisors_.begin()[i] = exponentials(scores, scored + own_width);
    if constexpr (format != kFloat32) to_words(scores, scored, 1.0f, format, weights_.begin() + i * weight_words());
  }

  void add_own() {
    for (int64_t place = 0; place < most_own(); ++place)
      for (int64_t i = 0; i < count_; ++i) {
        if (place >= own_seen(i)) continue;
        const float weight = scores_.begin()[i * shape_.width + shape_.behind + place];
        const char *value = a_.own_values + own_place(group_, place, path_of(i)) * shape_.padded * kBytes;
        float *result = result_.begin() + i * shape_.padded;
        for (int64_t at = 0; at < shape_.padded; at += kLanes)
          store(result + at, load(result + at) + weight * load_numbers<format>(value, at));
      }
  }

  void finish(int64_t i) {
    float *result = result_.begin() + i * shape_.padded;
    scale(result, shape_.padded, 1.0f / divisors_.begin()[i], result);
    memcpy(a_.out + (row_of(i) * a_.heads + group_ % a_.heads) * a_.size, result, a_.size * sizeof(float));
  }

  const KronosAttention &a_;
  const Shape &shape_;
  Scratch<float> scores_, turned_;
  Scratch<uint32_t> queries_;
  Scratch<float> result_;
  Scratch<uint32_t> weights_;
  Scratch<float> divisors_;
  int64_t group_ = 0, begin_ = 0, count_ = 0;
};

template <Format format>
void run(const KronosAttention &a) {
  const Shape shape(a);
#pragma omp parallel num_threads(a.threads)
  {
    Attention<format> attention(a, shape);
    if (a.new_keys_values != nullptr) {
#pragma omp for schedule(static)
      for (int64_t group = 0; group < shape.groups; ++group) attention.append(group);
    }
    if (a.queries != nullptr) {
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < shape.groups * shape.blocks; ++unit) {
        const int64_t begin = unit % shape.blocks * shape.block_rows;
        if (begin < shape.rows)
          attention.attend(unit / shape.blocks, begin, smaller(shape.block_rows, shape.rows - begin));
      }
    }
  }
}

}  // namespace

// Stores the new keys and values, if there are any, then attends, if there are queries.
extern "C" void kronos_attention(const KronosAttention *attention) {
#ifdef __AVX512F__
  if (attention->format == kBfloat16) return run<kBfloat16>(*attention);
#endif
  run<kFloat32>(*attention);
}

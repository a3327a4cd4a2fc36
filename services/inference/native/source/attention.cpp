// Attention of rows that share one prefix and have each path's own keys and values besides: one pass from what the
// projection gives to what the next one takes. See ../../engine/native_attention.py, which owns the memory.

#include "tiles.h"
#include "vectors.h"

using namespace kronos;

namespace {

constexpr int64_t kPanel = 64;     // keys of the prefix that lie side by side; a multiple of every tile's width
constexpr int64_t kMostRows = 48;  // of a block: what it needs beside the prefix stays in the second cache
constexpr float kNever = -1e30f;   // the score of a place that holds no key

}  // namespace

// Throughout, a group is one head of one series, and its rows are path after path, each with `steps` new tokens.
struct KronosAttention {
  int64_t series, heads, size, paths, steps;
  int64_t prefix;           // keys and values that all paths of a series share
  int64_t first, capacity;  // of a path's own: where the new ones go, and how many there is room for
  int64_t threads;
  const float *prefix_keys;    // [groups, panels, size, kPanel], zeros behind the last key
  const float *prefix_values;  // [groups, prefix, padded size]
  float *own_keys;             // [groups, paths, capacity, padded size], zeros in the padding
  float *own_values;
  const float *turns;  // [steps, size]: cosine and sine of each pair, by which queries and keys turn; or null
  const float *new_keys_values;  // [rows, stride]: keys, then values, of all heads; or null
  const float *queries;          // [rows, stride], scaled; or null
  int64_t stride;
  float *out;  // [rows, heads * size]
};

namespace {

struct Shape {
  explicit Shape(const KronosAttention &a)
      : padded(multiple_up(a.size, kLanes)),
        rows(a.paths * a.steps),
        groups(a.series * a.heads),
        panels(divided_up(a.prefix, kPanel)),
        behind(panels * kPanel),
        width(behind + multiple_up(a.first + a.steps, kLanes)) {
    // Enough blocks to keep all threads busy, and none so small that its tiles are not filled.
    const int64_t shared_out = multiple_up(divided_up(rows * groups, 4 * a.threads), kTileRows);
    blocks = divided_up(rows, smaller(kMostRows, shared_out));
    block_rows = divided_up(rows, blocks);
  }

  int64_t padded, rows, groups, panels;
  int64_t behind, width;  // a row of scores: the prefix's, padded to panels, then the path's own, padded to vectors
  int64_t blocks, block_rows;
};

// numbers [size] as pairs (x, y), each multiplied by its complex turn.
void turn(float *numbers, const float *turns, int64_t size) {
  for (int64_t i = 0; i < size; i += 2) {
    const float x = numbers[i], y = numbers[i + 1], cosine = turns[i], sine = turns[i + 1];
    numbers[i] = x * cosine - y * sine;
    numbers[i + 1] = x * sine + y * cosine;
  }
}

void append(const KronosAttention &a, const Shape &shape, int64_t group) {
  const int64_t series = group / a.heads, head = group % a.heads;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t path = row / a.steps, step = row % a.steps;
    const int64_t place = ((group * a.paths + path) * a.capacity + a.first + step) * shape.padded;
    const float *keys = a.new_keys_values + (series * shape.rows + row) * a.stride + head * a.size;
    memcpy(a.own_keys + place, keys, a.size * sizeof(float));
    memcpy(a.own_values + place, keys + a.heads * a.size, a.size * sizeof(float));
    if (a.turns != nullptr) turn(a.own_keys + place, a.turns + step * a.size, a.size);
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

class Block {
 public:
  Block(const KronosAttention &a, const Shape &shape, float *scratch)
      : a_(a), shape_(shape), scores_(scratch), queries_(scores_ + shape.block_rows * shape.width),
        result_(queries_ + shape.block_rows * shape.padded) {}

  static int64_t scratch(const Shape &shape) { return shape.block_rows * (shape.width + 2 * shape.padded); }

  void attend(int64_t group, int64_t begin, int64_t count) {
    group_ = group;
    begin_ = begin;
    count_ = count;
    take_queries();
    score_prefix();
    for (int64_t i = 0; i < count; ++i) weigh(i);
    multiply(count, {scores_, shape_.width}, {a_.prefix_values + group * a_.prefix * shape_.padded, shape_.padded},
             a_.prefix, shape_.padded, result_, shape_.padded);
    for (int64_t i = 0; i < count; ++i) finish(i);
  }

 private:
  int64_t row_of(int64_t i) const { return group_ / a_.heads * shape_.rows + begin_ + i; }
  int64_t visible(int64_t i) const { return a_.first + (begin_ + i) % a_.steps + 1; }
  const float *own(const float *stored, int64_t i) const {
    return stored + (group_ * a_.paths + (begin_ + i) / a_.steps) * a_.capacity * shape_.padded;
  }

  void take_queries() {
    memset(queries_, 0, count_ * shape_.padded * sizeof(float));
    for (int64_t i = 0; i < count_; ++i) {
      float *query = queries_ + i * shape_.padded;
      memcpy(query, a_.queries + row_of(i) * a_.stride + group_ % a_.heads * a_.size, a_.size * sizeof(float));
      if (a_.turns != nullptr) turn(query, a_.turns + (begin_ + i) % a_.steps * a_.size, a_.size);
    }
  }

  void score_prefix() {
    const float *keys = a_.prefix_keys + group_ * shape_.panels * a_.size * kPanel;
    for (int64_t panel = 0; panel < shape_.panels; ++panel)
      multiply(count_, {queries_, shape_.padded}, {keys + panel * a_.size * kPanel, kPanel}, a_.size, kPanel,
               scores_ + panel * kPanel, shape_.width);
  }

  // One row's scores of its path's own keys, and the softmax over both parts; what divides it goes where the query was.
  void weigh(int64_t i) {
    float *scores = scores_ + i * shape_.width, *query = queries_ + i * shape_.padded;
    const float *keys = own(a_.own_keys, i);
    for (int64_t place = a_.prefix; place < shape_.behind; ++place) scores[place] = kNever;
    float *own_scores = scores + shape_.behind;
    for (int64_t place = 0; place < visible(i); ++place) {
      Vector products = {};
      for (int64_t at = 0; at < shape_.padded; at += kLanes)
        products += load(query + at) * load(keys + place * shape_.padded + at);
      own_scores[place] = sum(products);
    }
    for (int64_t place = visible(i); place < shape_.width - shape_.behind; ++place) own_scores[place] = kNever;
    query[0] = exponentials(scores, shape_.width);
  }

  void finish(int64_t i) {
    const float *weights = scores_ + i * shape_.width + shape_.behind, *values = own(a_.own_values, i);
    const float share = 1.0f / queries_[i * shape_.padded];
    float *result = result_ + i * shape_.padded;
    for (int64_t at = 0; at < shape_.padded; at += kLanes) {
      Vector total = load(result + at);
      for (int64_t place = 0; place < visible(i); ++place)
        total += weights[place] * load(values + place * shape_.padded + at);
      store(result + at, total * share);
    }
    memcpy(a_.out + (row_of(i) * a_.heads + group_ % a_.heads) * a_.size, result, a_.size * sizeof(float));
  }

  const KronosAttention &a_;
  const Shape &shape_;
  float *scores_, *queries_, *result_;
  int64_t group_ = 0, begin_ = 0, count_ = 0;
};

}  // namespace

// Stores the new keys and values, if there are any, then attends, if there are queries.
extern "C" void kronos_attention(const KronosAttention *attention) {
  const KronosAttention &a = *attention;
  const Shape shape(a);
#pragma omp parallel num_threads(a.threads)
  {
    if (a.new_keys_values != nullptr) {
#pragma omp for schedule(static)
      for (int64_t group = 0; group < shape.groups; ++group) append(a, shape, group);
    }
    if (a.queries != nullptr) {
      const Scratch<float> scratch(Block::scratch(shape));
      Block block(a, shape, scratch.begin());
#pragma omp for schedule(dynamic)
      for (int64_t unit = 0; unit < shape.groups * shape.blocks; ++unit) {
        const int64_t begin = unit % shape.blocks * shape.block_rows;
        if (begin < shape.rows)
          block.attend(unit / shape.blocks, begin, smaller(shape.block_rows, shape.rows - begin));
      }
    }
  }
}

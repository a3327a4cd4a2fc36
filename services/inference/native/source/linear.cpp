// y = x W^T + b with weights that never change, in float32, bfloat16 or int8, for AVX-512 and what came with it.
//
// Weights are packed once: sixteen outputs beside each other make a strip, which is read from front to back, once, for up
// to thirty rows whose sums all stay in registers. So weights stream from memory at the pace of the arithmetic. A step of
// the inner loop takes one 32-bit word of each row: a float32, two bfloat16 or four int8 of consecutive inputs. Each
// number of y is one chain of sums along the inputs, whichever rows and threads there are.

#include "words.h"

using namespace kronos;

#ifdef __AVX512F__

struct KronosWeights {
  Format format;
  int64_t inputs, outputs;
  const uint32_t *words;  // [strips, words of a row, 16], at a cache line; int8 as weight + 128
  const float *scales;    // [strips * 16] for int8
  const float *bias;      // [strips * 16]
};

struct KronosLinear {
  const KronosWeights *weights;
  const KronosWeights *up;  // or null; else out = silu(x by weights) * (x by up)
  const float *x;           // [rows, inputs]
  int64_t rows;
  float epsilon;          // above 0: rows of x are divided by the root of their mean square plus this first
  const float *residual;  // [rows, outputs], added; or null
  float *out;             // [rows, outputs]
  int64_t threads;
};

namespace {

constexpr int kMostRows = 30;        // of a chunk: sums in registers, of 32
constexpr int64_t kChunkWords = 32;  // from one step of a chunk to the next: two cache lines
// The processor's own prefetching stops at each page of 4 KB; asked for so many steps ahead, weights are there in time.
constexpr int64_t kAhead = 40;
constexpr int64_t kMostChunks = 16;  // at a time, so that they stay in the second cache
constexpr float kLargest = 127.0f;
typedef int8_t Bytes __attribute__((vector_size(kLanes)));

// words [length, kChunkWords], a strip [length, 16] -> sums [kRows, 16].
template <Format format, int kRows>
void multiply_strip(const uint32_t *words, const uint32_t *strip, int64_t length, void *sums) {
  typename Step<format>::Sums sum[kRows];
#pragma GCC unroll 30
  for (int row = 0; row < kRows; ++row) sum[row] = typename Step<format>::Sums{};
  for (int64_t i = 0; i < length; ++i) {
    __builtin_prefetch(strip + (i + kAhead) * kLanes, 0, 2);
    const Words weights = load_words(strip + i * kLanes);
#pragma GCC unroll 30
    for (int row = 0; row < kRows; ++row) Step<format>::add(sum[row], words + i * kChunkWords + row, weights);
  }
#pragma GCC unroll 30
  for (int row = 0; row < kRows; ++row) memcpy(static_cast<char *>(sums) + row * sizeof sum[row], &sum[row], sizeof sum[row]);
}

typedef void (*MultiplyStrip)(const uint32_t *, const uint32_t *, int64_t, void *);

template <Format format, int kRows = kMostRows>
MultiplyStrip multiplier(int64_t rows) {
  if (rows == kRows) return multiply_strip<format, kRows>;
  if constexpr (kRows > 1) return multiplier<format, kRows - 1>(rows);
  __builtin_unreachable();
}

MultiplyStrip multiplier(Format format, int64_t rows) {
  switch (format) {
    case kFloat32: return multiplier<kFloat32>(rows);
    case kBfloat16: return multiplier<kBfloat16>(rows);
    default: return multiplier<kInt8>(rows);
  }
}

// Sixteen rows of sixteen words, `from_stride` apart, turned into sixteen columns: by exchanging what lies across the
// diagonal between neighbours, then pairs, fours and eights.
inline void transpose(const uint32_t *from, int64_t from_stride, uint32_t *to, int64_t to_stride) {
  Words rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load_words(from + i * from_stride);
#pragma GCC unroll 4
  for (int apart = 1; apart < kLanes; apart *= 2) {
    Words first, second;  // which lanes of two rows, one after the other, become the one and the other
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) {
      first[lane] = lane & apart ? kLanes + (lane ^ apart) : lane;
      second[lane] = lane & apart ? kLanes + lane : lane ^ apart;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & apart)) {
        const Words upper = rows[i], lower = rows[i + apart];
        rows[i] = __builtin_shuffle(upper, lower, first);
        rows[i + apart] = __builtin_shuffle(upper, lower, second);
      }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) memcpy(to + i * to_stride, &rows[i], sizeof rows[i]);
}

// Rows as words: normalised, rounded or quantised, then interleaved word by word within a chunk of rows.
class Rows {
 public:
  explicit Rows(const KronosLinear &l)
      : x_(l.x), inputs_(l.weights->inputs), rows_(l.rows), epsilon_(l.epsilon), format_(l.weights->format),
        length_(divided_up(inputs_, numbers_in_word(format_))), padded_length_(multiple_up(length_, kLanes)),
        chunks_(divided_up(rows_, kMostRows)),
        words_(smaller(kMostChunks, chunks_) * padded_length_ * kChunkWords), scales_(rows_), offsets_(rows_) {}

  int64_t chunks() const { return chunks_; }
  int64_t length() const { return length_; }
  int64_t begin(int64_t chunk) const { return chunk * rows_ / chunks_; }
  int64_t size(int64_t chunk) const { return begin(chunk + 1) - begin(chunk); }
  uint32_t *words(int64_t chunk) const { return words_.begin() + chunk % kMostChunks * padded_length_ * kChunkWords; }

  // What encoding sixteen rows takes.
  int64_t scratch() const { return kLanes * padded_length_; }

  // The first sixteen rows of a chunk, or the others.
  void encode(int64_t chunk, int64_t half, uint32_t *scratch) {
    const int64_t first = half * kLanes, count = smaller(size(chunk) - first, kLanes);
    for (int64_t i = 0; i < count; ++i) encode_row(begin(chunk) + first + i, scratch + i * padded_length_);
    for (int64_t at = 0; count > 0 && at < padded_length_; at += kLanes)
      transpose(scratch + at, padded_length_, words(chunk) + at * kChunkWords + first, kChunkWords);
  }

  // What 16 sums of a row stand for.
  Vector value(int64_t row, const void *sums, const KronosWeights &weights, int64_t strip) const {
    Vector value;
    memcpy(&value, sums, sizeof value);
    if (format_ == kInt8) {
      Integers whole;
      memcpy(&whole, sums, sizeof whole);
      value = __builtin_convertvector(whole - offsets_.begin()[row], Vector) *
              (load(weights.scales + strip * kLanes) * scales_.begin()[row]);
    }
    return value + load(weights.bias + strip * kLanes);
  }

 private:
  void encode_row(int64_t row, uint32_t *to) {
    const float *x = x_ + row * inputs_;
    const float factor = epsilon_ > 0 ? inverse_root_mean_square(x, inputs_, epsilon_) : 1.0f;
    if (format_ == kInt8)
      quantise(x, factor, row, reinterpret_cast<int8_t *>(to));
    else
      to_words(x, inputs_, factor, format_, to);
  }

  // To whole numbers from -127 to 127 by a scale of this row's own.
  void quantise(const float *x, float factor, int64_t row, int8_t *to) {
    const float most = largest_magnitude(x, inputs_) * factor;
    const float by = most > 0 ? factor * kLargest / most : 0.0f;
    int32_t total = 0;
    int64_t i = 0;
    Integers totals = {};
    for (; i + kLanes <= inputs_; i += kLanes) {
      const Integers whole = __builtin_convertvector(rounded(load(x + i) * by), Integers);
      totals += whole;
      const Bytes bytes = __builtin_convertvector(whole, Bytes);
      memcpy(to + i, &bytes, sizeof bytes);
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) total += totals[lane];
    for (; i < length_ * 4; ++i) {
      to[i] = i < inputs_ ? static_cast<int8_t>(__builtin_rintf(x[i] * by)) : 0;
      total += to[i];
    }
    scales_.begin()[row] = most / kLargest;
    offsets_.begin()[row] = 128 * total;
  }

  const float *x_;
  int64_t inputs_, rows_;
  float epsilon_;
  Format format_;
  int64_t length_, padded_length_, chunks_;
  Scratch<uint32_t> words_;
  Scratch<float> scales_;
  Scratch<int32_t> offsets_;  // what weights stored as weight + 128 add to a row's sums
};

void finish(const KronosLinear &l, const Rows &rows, int64_t strip, int64_t chunk, const char *sums, const char *up_sums) {
  const int64_t outputs = l.weights->outputs, column = strip * kLanes, width = smaller(kLanes, outputs - column);
  for (int64_t i = 0; i < rows.size(chunk); ++i) {
    const int64_t row = rows.begin(chunk) + i, at = row * outputs + column;
    Vector value = rows.value(row, sums + i * sizeof value, *l.weights, strip);
    if (l.up != nullptr) value = silu(value) * rows.value(row, up_sums + i * sizeof value, *l.up, strip);
    if (l.residual != nullptr) {
      Vector before = {};
      memcpy(&before, l.residual + at, width * sizeof(float));
      value += before;
    }
    memcpy(l.out + at, &value, width * sizeof(float));
  }
}

}  // namespace

extern "C" int kronos_multiplies(Format format) {
  __builtin_cpu_init();
  return format == kFloat32 || (format == kBfloat16 && __builtin_cpu_supports("avx512bf16")) ||
         (format == kInt8 && __builtin_cpu_supports("avx512vnni"));
}

extern "C" void kronos_linear(const KronosLinear *linear) {
  const KronosLinear &l = *linear;
  Rows rows(l);
  const int64_t strips = divided_up(l.weights->outputs, kLanes);
#pragma omp parallel num_threads(l.threads)
  {
    const Scratch<uint32_t> scratch(rows.scratch());
    alignas(64) char sums[kMostRows * sizeof(Vector)], up_sums[kMostRows * sizeof(Vector)];
    for (int64_t begin = 0; begin < rows.chunks(); begin += kMostChunks) {
      const int64_t end = smaller(begin + kMostChunks, rows.chunks());
#pragma omp for schedule(static)
      for (int64_t half = 2 * begin; half < 2 * end; ++half) rows.encode(half / 2, half % 2, scratch.begin());
#pragma omp for schedule(static)
      for (int64_t strip = 0; strip < strips; ++strip)
        for (int64_t chunk = begin; chunk < end; ++chunk) {
          const int64_t at = strip * rows.length() * kLanes;
          const MultiplyStrip multiply = multiplier(l.weights->format, rows.size(chunk));
          multiply(rows.words(chunk), l.weights->words + at, rows.length(), sums);
          if (l.up != nullptr) multiply(rows.words(chunk), l.up->words + at, rows.length(), up_sums);
          finish(l, rows, strip, chunk, sums, up_sums);
        }
    }
  }
}

#else

extern "C" int kronos_multiplies(Format) { return 0; }

#endif

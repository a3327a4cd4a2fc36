// Products of rows with what they are multiplied by, a 32-bit word of each at a time: one float32, two bfloat16 or four
// int8. Sixteen words lie beside each other in a vector.
#pragma once

#include "vectors.h"

#ifdef __AVX512F__
#include <immintrin.h>
#pragma GCC target("avx512bf16,avx512vnni")  // a caller asks first whether the processor has them
#endif

namespace kronos {

enum Format : int64_t { kFloat32, kBfloat16, kInt8 };

constexpr int64_t numbers_in_word(Format format) { return format == kFloat32 ? 1 : format == kBfloat16 ? 2 : 4; }

typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

inline Words load_words(const uint32_t *from) {
  Words words;
  memcpy(&words, from, sizeof words);
  return words;
}

template <Format>
struct Step;

#ifdef __AVX512F__

// sums += words * a word of the row, sixteen sums at a time. In assembler, since the compiler would load the row's word into
// a register of its own, of which none may be left.
#define KRONOS_STEP(format, Type, instruction)                                                             \
  template <>                                                                                              \
  struct Step<format> {                                                                                    \
    typedef Type Sums;                                                                                     \
    static inline __attribute__((always_inline)) void add(Sums &sums, const uint32_t *word, Words words) { \
      asm(instruction " %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(words), "m"(*word));                       \
    }                                                                                                      \
    static inline __attribute__((always_inline)) void add_each(Sums &sums, Words row, Words words) {       \
      asm(instruction " %2, %1, %0" : "+v"(sums) : "v"(words), "v"(row));                                  \
    }                                                                                                      \
  }

KRONOS_STEP(kFloat32, Vector, "vfmadd231ps");
KRONOS_STEP(kBfloat16, Vector, "vdpbf16ps");
KRONOS_STEP(kInt8, Integers, "vpdpbusd");

#undef KRONOS_STEP

#else

template <>
struct Step<kFloat32> {
  typedef Vector Sums;
  static inline void add(Sums &sums, const uint32_t *word, Words words) {
    float number;
    memcpy(&number, word, sizeof number);
    sums += number * (Vector)words;
  }
  static inline void add_each(Sums &sums, Words row, Words words) { sums += (Vector)row * (Vector)words; }
};

#endif

// Numbers [count] times `factor` to words, those behind the last one zero: [divided_up(count, numbers in a word)].
inline void to_words(const float *numbers, int64_t count, float factor, Format format, uint32_t *words) {
  if (format == kFloat32) {
    scale(numbers, count, factor, reinterpret_cast<float *>(words));
    return;
  }
  uint16_t *to = reinterpret_cast<uint16_t *>(words);
  int64_t i = 0;
#ifdef __AVX512F__
  for (; i + kLanes <= count; i += kLanes) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)(load(numbers + i) * factor));
    memcpy(to + i, &rounded, sizeof rounded);
  }
#endif
  for (; i < count; ++i) to[i] = narrowed(numbers[i] * factor);
  if (i % 2 != 0) to[i] = 0;
}

}  // namespace kronos

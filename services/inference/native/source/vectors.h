// Sixteen numbers at a time, in GNU vector extensions: the compiler splits them where the processor's own are narrower.
//
// Multiplying and adding contracts to one fused instruction (the default of GNU C++), and no sum is reordered, so a row's
// last bit does not depend on which rows are computed beside it, nor on the number of threads.
#pragma once

#include <cstdint>
#include <cstring>

namespace kronos {

constexpr int64_t kLanes = 16;
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));

inline Vector load(const float *from) {
  Vector vector;
  memcpy(&vector, from, sizeof vector);
  return vector;
}

inline void store(float *to, Vector vector) { memcpy(to, &vector, sizeof vector); }

inline Vector all(float number) { return Vector{} + number; }

inline Vector maximum(Vector a, Vector b) { return a > b ? a : b; }

// The sum of the lanes, halved again and again.
inline float sum(Vector vector) {
  float lane[kLanes];
  store(lane, vector);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

inline float largest(Vector vector) {
  float lane[kLanes];
  store(lane, vector);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return lane[0];
}

// To whole numbers, below 2^22 in magnitude: 1.5 * 2^23 added leaves no room for a fraction.
inline Vector rounded(Vector x) {
  constexpr float kRounds = 12582912.0f;
  return x + kRounds - kRounds;
}

// e^x for x <= 0, to about one unit in the last place; nothing below e^-87. x = n log 2 + r with |r| <= log 2 / 2,
// log 2 in two parts so that n log 2 is exact; e^r by a polynomial (the coefficients are those of Cephes' expf, S. L.
// Moshier); 2^n goes into the exponent's bits.
inline Vector exponential(Vector x) {
  const Vector given = x;
  x = maximum(x, all(-87.0f));
  const Vector n = rounded(x * 1.44269504f);
  const Vector r = x - n * 0.693359375f - n * -2.12194440e-4f;
  Vector power = all(1.9875691500e-4f);
  power = power * r + 1.3981999507e-3f;
  power = power * r + 8.3334519073e-3f;
  power = power * r + 4.1665795894e-2f;
  power = power * r + 1.6666665459e-1f;
  power = power * r + 5.0000001201e-1f;
  power = power * (r * r) + r + 1.0f;
  Integers bits;
  memcpy(&bits, &power, sizeof bits);
  bits += __builtin_convertvector(n, Integers) << 23;
  memcpy(&power, &bits, sizeof power);
  return given < all(-87.0f) ? Vector{} : power;
}

// x / (1 + e^-x)
inline Vector silu(Vector x) {
  const Vector power = exponential(x < 0.0f ? x : -x);
  return x * (x < 0.0f ? power : all(1.0f)) / (1.0f + power);
}

// The upper half of a float32, rounded to the nearest, of two equally near to the even one. What is no number stays none.
inline uint16_t narrowed(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  if (number != number) return 0x7FC0;
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline float inverse_root_mean_square(const float *row, int64_t width, float epsilon) {
  Vector squares = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) squares += load(row + i) * load(row + i);
  float total = sum(squares);
  for (; i < width; ++i) total += row[i] * row[i];
  return 1.0f / __builtin_sqrtf(total / width + epsilon);
}

inline void scale(const float *row, int64_t width, float factor, float *to) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(to + i, load(row + i) * factor);
  for (; i < width; ++i) to[i] = row[i] * factor;
}

inline float largest_magnitude(const float *row, int64_t width) {
  Vector most = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Vector numbers = load(row + i);
    most = maximum(most, numbers < 0.0f ? -numbers : numbers);
  }
  float magnitude = largest(most);
  for (; i < width; ++i) magnitude = magnitude > __builtin_fabsf(row[i]) ? magnitude : __builtin_fabsf(row[i]);
  return magnitude;
}

inline int64_t divided_up(int64_t number, int64_t by) { return (number + by - 1) / by; }
inline int64_t multiple_up(int64_t number, int64_t of) { return divided_up(number, of) * of; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Memory of one thread for the length of a call.
template <typename Number>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : memory_(static_cast<Number *>(__builtin_malloc(multiple_up(count * sizeof(Number), 64) + 64))) {
    if (memory_ == nullptr) __builtin_trap();
  }
  ~Scratch() { __builtin_free(memory_); }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  // At a multiple of 64 bytes, so that no vector lies across two cache lines.
  Number *begin() const {
    return reinterpret_cast<Number *>(multiple_up(reinterpret_cast<intptr_t>(memory_), 64));
  }

 private:
  Number *memory_;
};

}  // namespace kronos

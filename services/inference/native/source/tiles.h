// c = a b for blocks that fit the caches: a few rows of a against a few vectors of columns of b at a time, their sums in
// registers. Each number of c is one chain of sums along k, whatever the blocks are.
#pragma once

#include "words.h"

namespace kronos {

#ifdef __AVX512F__
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 sums in 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 1;  // 12 sums in 16 registers of half the width
#endif

struct Matrix {
  const uint32_t *words;
  int64_t stride;  // from one row to the next, in words
};

template <Format format, int kRows, int kVectors>
inline __attribute__((always_inline)) void tile(Matrix a, Matrix b, int64_t k, float *c, int64_t c_stride) {
  typename Step<format>::Sums sums[kRows][kVectors] = {};
  for (int64_t i = 0; i < k; ++i) {
    Words right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load_words(b.words + i * b.stride + v * kLanes);
    for (int row = 0; row < kRows; ++row)
      for (int v = 0; v < kVectors; ++v) Step<format>::add(sums[row][v], a.words + row * a.stride + i, right[v]);
  }
  for (int row = 0; row < kRows; ++row)
    for (int v = 0; v < kVectors; ++v) store(c + row * c_stride + v * kLanes, sums[row][v]);
}

template <Format format, int kRows, int kVectors>
inline int64_t tiles(int64_t row, int64_t rows, Matrix a, Matrix b, int64_t k, float *c, int64_t c_stride) {
  for (; row + kRows <= rows; row += kRows)
    tile<format, kRows, kVectors>({a.words + row * a.stride, a.stride}, b, k, c + row * c_stride, c_stride);
  return row;
}

template <Format format, int kVectors>
inline void column_of_tiles(int64_t rows, Matrix a, Matrix b, int64_t k, float *c, int64_t c_stride) {
  int64_t row = tiles<format, kTileRows, kVectors>(0, rows, a, b, k, c, c_stride);
  row = tiles<format, 3, kVectors>(row, rows, a, b, k, c, c_stride);
  tiles<format, 1, kVectors>(row, rows, a, b, k, c, c_stride);
}

// c [rows, width] = a [rows, k words] b [k words, width]; width is a multiple of kLanes.
template <Format format>
inline void multiply(int64_t rows, Matrix a, Matrix b, int64_t k, int64_t width, float *c, int64_t c_stride) {
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= width; column += kTileVectors * kLanes)
    column_of_tiles<format, kTileVectors>(rows, a, {b.words + column, b.stride}, k, c + column, c_stride);
  for (; column < width; column += kLanes)
    column_of_tiles<format, 1>(rows, a, {b.words + column, b.stride}, k, c + column, c_stride);
}

}  // namespace kronos

// RMS norm without a weight: each row divided by the root of its mean square.

#include "vectors.h"

using namespace kronos;

namespace {

constexpr int64_t kWorthSharing = 1 << 16;  // numbers; below it waking a thread costs more than it saves

void normalise(const float *row, int64_t width, float epsilon, float *to) {
  Vector squares = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) squares += load(row + i) * load(row + i);
  float total = sum(squares);
  for (; i < width; ++i) total += row[i] * row[i];
  const float scale = 1.0f / __builtin_sqrtf(total / width + epsilon);
  for (i = 0; i + kLanes <= width; i += kLanes) store(to + i, load(row + i) * scale);
  for (; i < width; ++i) to[i] = row[i] * scale;
}

}  // namespace

// x [rows, width] -> out, same shape.
extern "C" void kronos_normalise(const float *x, int64_t rows, int64_t width, float epsilon, void *out, Format format,
                                 int64_t threads) {
#pragma omp parallel num_threads(threads) if (rows * width > kWorthSharing)
  {
    const Scratch<float> scratch(format == kFloat32 ? 0 : width);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      float *to = format == kFloat32 ? static_cast<float *>(out) + row * width : scratch.begin();
      normalise(x + row * width, width, epsilon, to);
      if (format != kFloat32) write(to, width, out, format, row * width);
    }
  }
}

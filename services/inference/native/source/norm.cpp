// RMS norm without a weight: each row divided by the root of its mean square.

#include "vectors.h"

using namespace kronos;

namespace {

constexpr int64_t kWorthSharing = 1 << 16;  // numbers; below it waking a thread costs more than it saves

}  // namespace

// x [rows, width] -> out, same shape.
extern "C" void kronos_normalise(const float *x, int64_t rows, int64_t width, float epsilon, float *out, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > kWorthSharing) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float *from = x + row * width;
    scale(from, width, inverse_root_mean_square(from, width, epsilon), out + row * width);
  }
}

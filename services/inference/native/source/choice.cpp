// From logits to a drawn token, a row at a time: what token_choice.py does with torch, without sorting.

#include "vectors.h"

using namespace kronos;

namespace {

// Sums of probabilities in double precision: lane by lane, in two halves, as registers hold them.
typedef double Half __attribute__((vector_size(4 * kLanes)));
constexpr int64_t kHalf = kLanes / 2;

struct Sums {
  Half low = {}, high = {};

  void add(Vector vector) {
    typedef double Both __attribute__((vector_size(8 * kLanes)));
    const Both both = __builtin_convertvector(vector, Both);
    Half half[2];
    memcpy(half, &both, sizeof both);
    low += half[0];
    high += half[1];
  }

  double total() const {
    double lane[kHalf];
    const Half halves = low + high;
    memcpy(lane, &halves, sizeof lane);
    for (int64_t half = kHalf / 2; half > 0; half /= 2)
      for (int64_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    return lane[0];
  }
};

Vector kept(Vector probabilities, float weakest) {
  return probabilities >= all(weakest) ? probabilities : Vector{};
}

float number_of(int32_t bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

int32_t bits_of(float number) {
  int32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}

// A row's probabilities, padded with zeros to whole vectors.
class Distribution {
 public:
  Distribution(float *memory, int64_t vocabulary)
      : probabilities_(memory), vocabulary_(vocabulary), width_(multiple_up(vocabulary, kLanes)) {}

  // The softmax of logits / temperature. False where a logit, or its quotient, is not a number.
  bool take(const float *logits, float temperature) {
    memcpy(probabilities_, logits, vocabulary_ * sizeof(float));
    for (int64_t i = vocabulary_; i < width_; ++i) probabilities_[i] = -__FLT_MAX__;
    Vector high = all(-__FLT_MAX__), nothing = {};
    for (int64_t i = 0; i < width_; i += kLanes) {
      const Vector scaled = i + kLanes <= vocabulary_ ? load(probabilities_ + i) / temperature : divided(i, temperature);
      nothing += scaled - scaled;  // 0, or not a number for infinities and what is none
      high = maximum(high, scaled);
      store(probabilities_ + i, scaled);
    }
    if (sum(nothing) != 0.0f) return false;
    const Vector top = all(largest(high));
    Vector total = {};
    for (int64_t i = 0; i < width_; i += kLanes) {
      const Vector power = exponential(load(probabilities_ + i) - top);
      store(probabilities_ + i, power);
      if (i + kLanes <= vocabulary_) total += power;
    }
    for (int64_t i = vocabulary_; i < width_; ++i) probabilities_[i] = 0.0f;
    if (vocabulary_ % kLanes != 0) total += load(probabilities_ + width_ - kLanes);
    const float whole = sum(total);
    for (int64_t i = 0; i < width_; i += kLanes) store(probabilities_ + i, load(probabilities_ + i) / whole);
    return true;
  }

  // The k-th largest probability.
  float weakest_of(int64_t k) const {
    return bisect([&](float weakest) {
      Integers count = {};
      for (int64_t i = 0; i < width_; i += kLanes) count -= load(probabilities_ + i) >= all(weakest);
      int64_t total = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) total += count[lane];
      return total >= k;
    });
  }

  // The probability of the token with which the most likely ones exceed top_p; zero where all together do not.
  float weakest_in_nucleus(double top_p) const {
    return bisect([&](float weakest) {
      Sums mass;
      for (int64_t i = 0; i < width_; i += kLanes) mass.add(kept(load(probabilities_ + i), weakest));
      return mass.total() > top_p;
    });
  }

  // The token at which the cumulative probability of those kept exceeds uniform (below 1) times all of it.
  int64_t draw(float weakest, double uniform) const {
    double whole = 0;
    for (int64_t i = 0; i < width_; i += kLanes) whole += mass_at(i, weakest);
    const double wanted = uniform * whole;
    double before = 0;
    int64_t last = 0;  // with a probability of its own; rounding may leave `wanted` a bit above what is summed up
    for (int64_t i = 0; i < width_; i += kLanes) {
      const double mass = mass_at(i, weakest);
      if (mass == 0) continue;
      double reached = before;
      for (int64_t token = i; token < i + kLanes; ++token)
        if (probabilities_[token] >= weakest && probabilities_[token] > 0) {
          last = token;
          reached += probabilities_[token];
          if (before + mass > wanted && reached > wanted) return token;
        }
      before += mass;
      if (before > wanted) return last;
    }
    return last;
  }

 private:
  Vector divided(int64_t first, float temperature) const {
    Vector scaled = load(probabilities_ + first);
    for (int64_t lane = 0; lane < vocabulary_ - first; ++lane) scaled[lane] /= temperature;
    return scaled;
  }

  double mass_at(int64_t first, float weakest) const {
    Sums mass;
    mass.add(kept(load(probabilities_ + first), weakest));
    return mass.total();
  }

  // The largest number for which `enough` holds; zero where none does. Numbers from zero on are in the order of their
  // bits, so this takes thirty steps, and it ends on a probability of the row.
  template <typename Enough>
  float bisect(Enough enough) const {
    int32_t holds = 0, fails = bits_of(1.0f) + 1;
    while (fails - holds > 1) {
      const int32_t middle = holds + (fails - holds) / 2;
      (enough(number_of(middle)) ? holds : fails) = middle;
    }
    return number_of(holds);
  }

  float *probabilities_;
  int64_t vocabulary_, width_;
};

}  // namespace

struct KronosChoice {
  const float *logits;  // [rows, vocabulary]
  int64_t rows, vocabulary;
  double temperature;
  int64_t top_k;  // 0: top_p counts
  double top_p;
  const double *uniforms;  // [rows], from 0 to below 1
  int64_t uniforms_stride;
  int64_t *tokens;  // [rows]
  int64_t tokens_stride;
  int64_t threads;
};

// Returns whether all logits were numbers; where they are not, the token is 0.
extern "C" int kronos_choose(const KronosChoice *choice) {
  const KronosChoice &c = *choice;
  int finite = 1;
#pragma omp parallel num_threads(c.threads) reduction(& : finite)
  {
    const Scratch<float> scratch(multiple_up(c.vocabulary, kLanes));
    Distribution distribution(scratch.begin(), c.vocabulary);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < c.rows; ++row) {
      int64_t token = 0;
      if (distribution.take(c.logits + row * c.vocabulary, static_cast<float>(c.temperature))) {
        float weakest = 0;
        if (c.top_k > 0)
          weakest = c.top_k < c.vocabulary ? distribution.weakest_of(c.top_k) : 0;
        else if (c.top_p < 1)
          weakest = distribution.weakest_in_nucleus(c.top_p);
        token = distribution.draw(weakest, c.uniforms[row * c.uniforms_stride]);
      } else {
        finite = 0;
      }
      c.tokens[row * c.tokens_stride] = token;
    }
  }
  return finite;
}

// The update rules, each of one parameter p with gradient g. s: its states, c: the scalars that the
// host computes once a step, in float64, both in the order of kernels/catalog.py.
#include "common.cuh"

// The numbers are those of kernels/catalog.py.
enum Rule {
  SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, ADAMW, ADADELTA, ADAMAX, AMSGRAD, LION,
  RADAM, CENTERED_RMSPROP, ASGD, NADAM, RPROP, DELTA_BAR_DELTA
};
constexpr int MOST_STATES = 3, MOST_SCALARS = 8;

struct Sgd {
  static constexpr int STATES = 0;
  static __device__ void apply(real& p, real g, real* s, const real* c) { p -= c[0] * g; }
};

struct Momentum {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], beta = c[1];
    s[0] = beta * s[0] + lr * g;
    p -= s[0];
  }
};

struct Nesterov {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], beta = c[1];
    s[0] = beta * s[0] + lr * g;
    p -= beta * s[0] + lr * g;
  }
};

struct Adagrad {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], eps = c[1];
    s[0] += g * g;
    p -= lr * g / (sqrt(s[0]) + eps);
  }
};

struct Rmsprop {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], rho = c[1], one_minus_rho = c[2], eps = c[3];
    s[0] = rho * s[0] + one_minus_rho * (g * g);
    p -= lr * g / (sqrt(s[0]) + eps);
  }
};

struct Adam {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real rate = c[0], correction = c[1], eps = c[6];
    s[0] = c[2] * s[0] + c[3] * g;
    s[1] = c[4] * s[1] + c[5] * (g * g);
    p -= rate * s[0] / (sqrt(s[1] * correction) + eps);
  }
};

struct Adamw : Adam {
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    p -= c[7] * p;
    Adam::apply(p, g, s, c);
  }
};

struct Adadelta {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], rho = c[1], one_minus_rho = c[2], eps = c[3];
    s[0] = rho * s[0] + one_minus_rho * (g * g);
    const real change = sqrt(s[1] + eps) / sqrt(s[0] + eps) * g;
    s[1] = rho * s[1] + one_minus_rho * (change * change);
    p -= lr * change;
  }
};

struct Adamax {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real rate = c[0], before = c[3] * s[1], now = fabs(g) + c[4];
    s[0] = c[1] * s[0] + c[2] * g;
    s[1] = now > before || now != now ? now : before;
    p -= rate * s[0] / s[1];
  }
};

struct Amsgrad {
  static constexpr int STATES = 3;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real rate = c[0], correction = c[1], eps = c[6];
    s[0] = c[2] * s[0] + c[3] * g;
    s[1] = c[4] * s[1] + c[5] * (g * g);
    s[2] = s[1] > s[2] || s[1] != s[1] ? s[1] : s[2];
    p -= rate * s[0] / (sqrt(s[2] * correction) + eps);
  }
};

struct Lion {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], mixed = c[1] * s[0] + c[2] * g;
    p -= c[5] * p;
    p -= mixed > 0 ? lr : mixed < 0 ? -lr : mixed;  // 0 or NaN
    s[0] = c[3] * s[0] + c[4] * g;
  }
};

struct Radam {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    s[0] = c[1] * s[0] + c[2] * g;
    s[1] = c[3] * s[1] + c[4] * (g * g);
    const real change = c[0] * s[0], eps = c[5];
    p -= eps > 0 ? change / (sqrt(s[1]) + eps) : change;
  }
};

struct CenteredRmsprop {
  static constexpr int STATES = 3;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real lr = c[0], rho = c[1], one_minus_rho = c[2], beta = c[3], eps = c[4];
    s[0] = rho * s[0] + one_minus_rho * (g * g);
    s[1] = rho * s[1] + one_minus_rho * g;
    const real variance = s[0] - s[1] * s[1];
    s[2] = beta * s[2] + g / (sqrt(variance < 0 ? real(0) : variance) + eps);
    p -= lr * s[2];
  }
};

struct Asgd {
  static constexpr int STATES = 1;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    p -= c[1] * p;
    p -= c[0] * g;
    s[0] += c[2] * (p - s[0]);
  }
};

struct Nadam {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real of_grad = c[0], of_mean = c[1], correction = c[2], eps = c[7];
    s[0] = c[3] * s[0] + c[4] * g;
    s[1] = c[5] * s[1] + c[6] * (g * g);
    p -= (of_mean * s[0] + of_grad * g) / (sqrt(s[1] * correction) + eps);
  }
};

// 1 where both have one sign, -1 where they have different ones, 0 where one is 0 or NaN.
__device__ inline int agreement(real one, real other) {
  const int a = (one > 0) - (one < 0), b = (other > 0) - (other < 0);
  return a * b;
}

struct Rprop {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real size = s[1] > 0 ? s[1] : c[0], less = c[1] * size, more = c[2] * size;
    const real smallest = c[3], largest = c[4];
    const int agree = agreement(g, s[0]);
    s[1] = agree > 0 ? (more < largest ? more : largest)
         : agree < 0 ? (less > smallest ? less : smallest) : size;
    s[0] = agree < 0 ? real(0) : g;
    p -= s[0] > 0 ? s[1] : s[0] < 0 ? -s[1] : s[0];  // 0 or NaN
  }
};

struct DeltaBarDelta {
  static constexpr int STATES = 2;
  static __device__ void apply(real& p, real g, real* s, const real* c) {
    const real rate = s[1] > 0 ? s[1] : c[0], kappa = c[1], one_minus_phi = c[2];
    const int agree = agreement(g, s[0]);
    s[1] = agree > 0 ? rate + kappa : agree < 0 ? one_minus_phi * rate : rate;
    p -= s[1] * g;
    s[0] = c[3] * s[0] + c[4] * g;
  }
};

// Calls body(the rule): one branch before the loop instead of one in it.
template <class Body> __device__ void with_rule(int rule, Body body) {
  switch (rule) {
    case SGD: return body(Sgd());
    case MOMENTUM: return body(Momentum());
    case NESTEROV: return body(Nesterov());
    case ADAGRAD: return body(Adagrad());
    case RMSPROP: return body(Rmsprop());
    case ADAM: return body(Adam());
    case ADAMW: return body(Adamw());
    case ADADELTA: return body(Adadelta());
    case ADAMAX: return body(Adamax());
    case AMSGRAD: return body(Amsgrad());
    case LION: return body(Lion());
    case RADAM: return body(Radam());
    case CENTERED_RMSPROP: return body(CenteredRmsprop());
    case ASGD: return body(Asgd());
    case NADAM: return body(Nadam());
    case RPROP: return body(Rprop());
    case DELTA_BAR_DELTA: return body(DeltaBarDelta());
    default: __trap();
  }
}

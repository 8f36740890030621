// What becomes of one gradient before the update rule, in a network and alone.
#include "common.cuh"

__device__ inline real penalised(real grad, real param, real l2) { return grad + l2 * param; }

// NaN stays NaN.
__device__ inline real clipped(real grad, real limit) {
  return grad > limit ? limit : grad < -limit ? -limit : grad;
}

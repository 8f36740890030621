// A small network trains in one launch of one block. Parameters, gradients and optimizer state lie
// in shared memory from the first minibatch to the last, beside a chunk of rows at a time, which
// passes forward through all layers, to the loss and back. Then each thread takes the gradient of
// some parameters over the chunk and, if it is the minibatch's last, updates them.
//
// Every sum is one thread's or one tree's, in the same order at every run.
#include "activations.cuh"
#include "network.cuh"

constexpr int MEMORY = 46 * 1024 / sizeof(real);  // of 48 KiB; in elements, as all offsets are
constexpr int MOST_LAYERS = 16;
constexpr int MOST_THREADS = 512;  // the block has these or half as many: see limits.py
constexpr int GROUP = 4;  // rows of a thread: a weight is loaded once for all of them
constexpr int TOGETHER = sizeof(real) == 4 ? GROUP : 1;  // activations that the registers hold

// As kernels/cupy_gpu/network/training.py lays them out.
struct Plan {
  int layers, flats, size, chunk, rule, loss, batch;
};
// x, z, y, dy, dz: rows of fan_in or fan_out elements in shared memory; z differs from y where the
// backward pass takes it, dy from dz for prelu alone.
struct Layer {
  int fan_in, fan_out, activation_id, weight, bias, slopes, x, z, y, dy, dz;
};
constexpr int PLAN = sizeof(Plan) / sizeof(int), LAYER = sizeof(Layer) / sizeof(int);

// An odd row stride spreads the rows over the banks of shared memory.
__device__ inline int row_stride(int units) { return units | 1; }

// y = act(x W + b). Rows i, i + groups, ... are one thread's; those beyond the last are not used.
__device__ inline void forward(real* memory, const Layer& layer, real slope, int rows) {
  const int groups = (rows + GROUP - 1) / GROUP, fan_out = layer.fan_out;
  const int in = row_stride(layer.fan_in), out = row_stride(fan_out);
  for (int i = threadIdx.x; i < groups * fan_out; i += blockDim.x) {
    const int unit = i % fan_out, row = i / fan_out;
    const real *x = memory + layer.x + row * in, *weight = memory + layer.weight + unit;
    real sums[GROUP] = {};
#pragma unroll 4
    for (int k = 0; k < layer.fan_in; ++k) {
      const real w = weight[k * fan_out];
#pragma unroll
      for (int g = 0; g < GROUP; ++g) sums[g] += x[g * groups * in + k] * w;
    }
    const int place = row * out + unit, step = groups * out;
#pragma unroll
    for (int g = 0; g < GROUP; ++g)
      memory[layer.z + place + g * step] = sums[g] + memory[layer.bias + unit];
    with_activation<false>(layer.activation_id, [&](auto constant) {
      constexpr int ACTIVATION = decltype(constant)::value;
      const real alpha = ACTIVATION == SLOPES ? memory[layer.slopes + unit] : slope;
#pragma unroll TOGETHER
      for (int g = 0; g < GROUP; ++g) {
        const real z = memory[layer.z + place + g * step];
        memory[layer.y + place + g * step] = activate<ACTIVATION>(z, alpha);
      }
    });
  }
}

// dz of the layer before, from dz of this one: dy = dz W^T, dz = dy act'(z).
__device__ inline void backward(real* memory, const Layer& layer, const Layer& before, real slope,
                                int rows) {
  const int groups = (rows + GROUP - 1) / GROUP, fan_in = layer.fan_in, fan_out = layer.fan_out;
  const int in = row_stride(fan_in), out = row_stride(fan_out);
  for (int i = threadIdx.x; i < groups * fan_in; i += blockDim.x) {
    const int unit = i % fan_in, row = i / fan_in;
    const real* dz = memory + layer.dz + row * out;
    const real* weight = memory + layer.weight + unit * fan_out;
    real sums[GROUP] = {};
    int k = unit % fan_out;  // neighbours begin at different columns: in different banks
#pragma unroll 4
    for (int n = 0; n < fan_out; ++n) {
      const real w = weight[k];
#pragma unroll
      for (int g = 0; g < GROUP; ++g) sums[g] += dz[g * groups * out + k] * w;
      if (++k == fan_out) k = 0;
    }
    const int place = row * in + unit, step = groups * in;
#pragma unroll
    for (int g = 0; g < GROUP; ++g) memory[before.dy + place + g * step] = sums[g];
    with_activation<false>(before.activation_id, [&](auto constant) {
      constexpr int ACTIVATION = decltype(constant)::value;
      const real alpha = ACTIVATION == SLOPES ? memory[before.slopes + unit] : slope;
#pragma unroll TOGETHER
      for (int g = 0; g < GROUP; ++g) {
        const int there = place + g * step;
        const real dy = memory[before.dy + there], saved = memory[before.z + there];
        memory[before.dz + there] = differentiate<ACTIVATION>(dy, saved, alpha);
      }
    });
  }
}

// dz of the last layer for rows first, first + 1, ... of the data, where dz = `scale` times the
// derivative of a row's loss; returns this thread's share of the sum of the losses. Each row of a
// softmax is that of a power of two of neighbouring lanes.
__device__ inline real loss_of(real* memory, const Layer& last, int loss, const Rows& data,
                               int first, int rows, const Settings& settings, real scale) {
  const int outputs = last.fan_out, stride = row_stride(outputs);
  const real smoothing = settings.smoothing, one_minus_smoothing = settings.one_minus_smoothing;
  real sum = 0;
  if (loss != SOFTMAX_CROSS_ENTROPY) {
    for (int i = threadIdx.x; i < rows * outputs; i += blockDim.x) {
      const int row = i / outputs, j = i % outputs, place = row * stride + j;
      const real target = data.target(first + row, j, outputs);
      sum += term(loss, memory[last.y + place], target, smoothing, one_minus_smoothing, scale,
                  memory[last.dz + place]);
    }
    return sum;
  }
  int lanes = 1;
  while (lanes < outputs && lanes < WARP) lanes *= 2;
  const int lane = threadIdx.x % lanes, at_once = blockDim.x / lanes;
  for (int base = 0; base < rows; base += at_once) {
    const int row = base + threadIdx.x / lanes;
    const int end = row < rows ? outputs : 0;  // the others come along: shuffles need them
    const real* x = memory + last.y + row * stride;
    real* dz = memory + last.dz + row * stride;
    real most = -infinity(), total = 0, total_x = 0;
    for (int j = lane; j < end; j += lanes) {
      most = fmax(most, x[j]);
      total_x += x[j];
    }
    most = lanes_max(most, lanes);
    for (int j = lane; j < end; j += lanes) total += dz[j] = exp(x[j] - most);
    total = lanes_sum(total, lanes);
    total_x = lanes_sum(total_x, lanes);
    if (row >= rows) continue;
    const int label = data.label(first + row);
    const real inverse = 1 / total;
    for (int j = lane; j < outputs; j += lanes) {
      const real target = smoothing / outputs + (j == label ? one_minus_smoothing : real(0));
      dz[j] = (dz[j] * inverse - target) * scale;
    }
    if (label % lanes != lane) continue;
    sum += log(total) + one_minus_smoothing * (most - x[label]);
    if (smoothing > 0) sum += smoothing * (most - total_x / outputs);
  }
  return sum;
}

// The gradient of parameter p of a layer, over `rows` rows.
__device__ inline real gradient_of(const real* memory, const Layer& layer, int p, int rows) {
  const int fan_out = layer.fan_out, in = row_stride(layer.fan_in), out = row_stride(fan_out);
  const int weight = p - layer.weight, bias = p - layer.bias, slope = p - layer.slopes;
  real sum = 0;
  if (weight < layer.fan_in * fan_out) {
    const real *x = memory + layer.x + weight / fan_out, *dz = memory + layer.dz + weight % fan_out;
#pragma unroll 4
    for (int row = 0; row < rows; ++row) sum += x[row * in] * dz[row * out];
  } else if (0 <= bias && bias < fan_out) {
    for (int row = 0; row < rows; ++row) sum += memory[layer.dz + row * out + bias];
  } else if (0 <= slope && slope < fan_out) {
    for (int row = 0; row < rows; ++row) {
      const int place = row * out + slope;
      const real z = memory[layer.z + place];
      sum += memory[layer.dy + place] * (z >= 0 ? real(0) : z);
    }
  }
  return sum;  // what lies between is zero
}

// Steps on `batch` rows each until all `count` rows are done. state: parameters, gradients and
// optimizer state; scalars: of each step `scalars_step` further on. outcome = (mean loss, fault): where there is a fault, nothing else is written.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, RESIDENT * THREADS / MOST_THREADS)
train(const int* plan_numbers, const real* slopes, const real* settings_numbers,
      const real* scalars, int scalars_step, real* state, const real* x, int data_rows,
      const void* labels, int label_bytes, const void* order, int order_bytes, int count,
      real* outcome) {
  __shared__ real memory[MEMORY];
  __shared__ Layer layers[MOST_LAYERS];
  const Plan plan = *reinterpret_cast<const Plan*>(plan_numbers);
  const Settings settings = *reinterpret_cast<const Settings*>(settings_numbers);
  for (int i = threadIdx.x; i < plan.layers * LAYER; i += blockDim.x)
    reinterpret_cast<int*>(layers)[i] = plan_numbers[PLAN + i];
  for (int i = threadIdx.x; i < plan.flats * plan.size; i += blockDim.x) memory[i] = state[i];
  __syncthreads();
  const Layer &input = layers[0], &last = layers[plan.layers - 1];
  const Rows data = {order, order_bytes, labels, label_bytes};
  const int terms = plan.loss == SOFTMAX_CROSS_ENTROPY ? 1 : last.fan_out;  // of a row's loss
  if (const int fault = data.fault(count, data_rows, plan.loss, last.fan_out)) {
    if (threadIdx.x == 0) outcome[1] = fault;
    return;
  }
  real loss = 0;
  for (int begin = 0, step = 0; begin < count; begin += plan.batch, ++step) {
    const int step_rows = count - begin < plan.batch ? count - begin : plan.batch;
    const real* chosen = scalars + step * scalars_step;
    real squares = 0;
    for (int done = 0; done < step_rows; done += plan.chunk) {
      const int rows = step_rows - done < plan.chunk ? step_rows - done : plan.chunk;
      const int first = begin + done, fan_in = input.fan_in;
      for (int i = threadIdx.x; i < rows * fan_in; i += blockDim.x) {
        const int row = i / fan_in, k = i % fan_in;
        memory[input.x + row * row_stride(fan_in) + k] = x[data.row(first + row) * fan_in + k];
      }
      __syncthreads();
      for (int n = 0; n < plan.layers; ++n) {
        forward(memory, layers[n], slopes[n], rows);
        __syncthreads();
      }
      loss += loss_of(memory, last, plan.loss, data, first, rows, settings,
                      real(1) / (step_rows * terms));
      __syncthreads();
      for (int n = plan.layers - 1; n > 0; --n) {
        backward(memory, layers[n], layers[n - 1], slopes[n - 1], rows);
        __syncthreads();
      }
      int n = 0;
      for (int p = threadIdx.x; p < plan.size; p += blockDim.x) {
        while (n + 1 < plan.layers && p >= layers[n + 1].weight) ++n;
        real *param = memory + p, *grad = param + plan.size;
        const real sum = gradient_of(memory, layers[n], p, rows);
        *grad = done > 0 ? *grad + sum : sum;
        if (done + rows < step_rows) continue;
        *grad = limited(*grad, *param, settings);
        if (settings.clip_norm > 0)
          squares += square(*grad, settings);
        else
          apply(plan.rule, chosen, param, plan.size);
      }
      if (settings.clip_norm > 0 && done + rows == step_rows) {
        const real factor = clip_factor(squares);
        for (int p = threadIdx.x; p < plan.size; p += blockDim.x) {
          memory[p + plan.size] *= factor;
          apply(plan.rule, chosen, memory + p, plan.size);
        }
      }
      __syncthreads();  // before the next rows take their place
    }
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) {
    outcome[0] = loss / (real(count) * terms);
    outcome[1] = NONE;
  }
  for (int i = threadIdx.x; i < plan.flats * plan.size; i += blockDim.x) state[i] = memory[i];
}

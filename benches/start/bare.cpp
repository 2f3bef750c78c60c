// Loads LibTorch and does one step of the small network of start_bench.cpp, on one thread.
#include <ATen/Parallel.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/pooling.h>
#include <torch/optim/sgd.h>

#include <cstdio>

int main() {
  at::set_num_threads(1);
  torch::manual_seed(1);
  namespace nn = torch::nn;
  nn::Sequential net(nn::Conv2d(nn::Conv2dOptions(1, 32, 3).padding(1).bias(false)), nn::BatchNorm2d(32), nn::MaxPool2d(2),
                     nn::Conv2d(nn::Conv2dOptions(32, 64, 3).padding(1).bias(false)), nn::BatchNorm2d(64), nn::MaxPool2d(2));
  nn::Sequential head(nn::Linear(64 * 7 * 7, 128), nn::Linear(128, 10));
  std::vector<at::Tensor> parameters = net->parameters();
  for (const at::Tensor& parameter : head->parameters()) parameters.push_back(parameter);
  torch::optim::SGD optimizer(parameters, torch::optim::SGDOptions(0.05).momentum(0.9));
  const at::Tensor image = torch::rand({16, 1, 28, 28}), label = torch::randint(0, 10, {16}, torch::kLong);
  const at::Tensor loss = nn::functional::cross_entropy(head->forward(net->forward(image).flatten(1)), label);
  loss.backward();
  optimizer.step();
  std::printf("%f\n", loss.item<double>());
}

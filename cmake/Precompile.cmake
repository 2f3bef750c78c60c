# LibTorch's headers take three to ten seconds to parse, in every unit. A target takes them parsed:
#   treadle_precompiled(TARGET library|test tensor|command|nn|torch)
# `tensor` holds a tensor and what a room needs to speak of one; `command` the parsers of command lines and JSON too; `nn` holds
# torch/nn and torch/optim: half a gigabyte, and three seconds for each unit that takes it, so only for those that include them;
# `torch` is all of LibTorch's front end, for programs that include torch/torch.h.
#
# No source may lean on it: what lint compiles is compiled without.
option(TREADLE_PRECOMPILE "parse LibTorch's headers once for all units" ${PROJECT_IS_TOP_LEVEL})

set(treadle_tensor_headers <ATen/core/Tensor.h> <fmt/format.h> <algorithm> <filesystem> <fstream> <functional> <map> <memory>
  <optional> <span> <sstream> <string> <variant> <vector>)
set(treadle_nn_headers <torch/nn/module.h> <torch/nn/modules/batchnorm.h> <torch/nn/modules/linear.h> <torch/optim/sgd.h>)

set(treadle_command_headers <CLI/CLI.hpp> <nlohmann/json.hpp>)
set(treadle_torch_headers <torch/torch.h>)

# A host parses one set with one kind's flags. It is made when the first target asks.
function(treadle_precompile_host host kind headers)
  set(source "${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp")
  if(kind STREQUAL "test")
    add_executable(${host} EXCLUDE_FROM_ALL "${source}")
    target_link_libraries(${host} PRIVATE GTest::gtest)
    target_compile_options(${host} PRIVATE ${treadle_test_options})
    target_precompile_headers(${host} PRIVATE <gtest/gtest.h>)
  else()
    add_library(${host} OBJECT EXCLUDE_FROM_ALL "${source}")
  endif()
  target_compile_features(${host} PRIVATE cxx_std_20)
  target_compile_definitions(${host} PRIVATE ${treadle_fmt_definition})
  target_link_libraries(${host} PRIVATE LibTorch::torch Threads::Threads treadle_warnings)
  target_precompile_headers(${host} PRIVATE ${treadle_tensor_headers})
  if(headers STREQUAL "command")
    target_link_libraries(${host} PRIVATE CLI11::CLI11 nlohmann_json::nlohmann_json)
  endif()
  if(NOT headers STREQUAL "tensor")
    target_precompile_headers(${host} PRIVATE ${treadle_${headers}_headers})
  endif()
endfunction()

function(treadle_precompiled target kind headers)
  if(NOT TREADLE_PRECOMPILE)
    return()
  endif()
  set(host treadle_precompiled_${kind}_${headers})
  if(NOT TARGET ${host})
    treadle_precompile_host(${host} ${kind} ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${host})
endfunction()

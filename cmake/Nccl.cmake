# treadle_find_nccl(): sets TREADLE_HAS_NCCL, whether c10d's NCCL backend can be compiled and linked, and TREADLE_NCCL_INCLUDES, the
# folders that it needs for that. The headers of CUDA and NCCL are not part of LibTorch. Beside a wheel of torch stand those of
# the wheels that it depends on (nvidia/*/include), which lack parts of the compiler; elsewhere there is a toolkit, in
# CUDA_HOME, CUDA_PATH or /usr/local/cuda, and NCCL in the system's folders, NCCL_HOME or NCCL_ROOT.
# TREADLE_CUDA_INCLUDE_DIR and TREADLE_NCCL_INCLUDE_DIR name others.
include(CheckCXXSourceCompiles)

function(treadle_find_nccl)
  set(TREADLE_NCCL_INCLUDES "" PARENT_SCOPE)
  if(NOT "${LibTorch_PREFIX}" STREQUAL "${TREADLE_NCCL_SEARCHED}")
    foreach(result TREADLE_HAS_NCCL TREADLE_CUDA_INCLUDE_DIR TREADLE_NCCL_INCLUDE_DIR)
      if(TREADLE_NCCL_SEARCHED OR result STREQUAL "TREADLE_HAS_NCCL")
        unset(${result} CACHE)
      endif()
    endforeach()
    set(TREADLE_NCCL_SEARCHED "${LibTorch_PREFIX}" CACHE INTERNAL "the LibTorch for which NCCL was looked for")
  endif()
  if(NOT LibTorch_torch_cuda_LIBRARY)
    set(TREADLE_HAS_NCCL OFF CACHE INTERNAL "this LibTorch has no CUDA")
    return()
  endif()

  get_filename_component(packages "${LibTorch_PREFIX}" DIRECTORY)
  file(GLOB wheels "${packages}/nvidia/*/include")
  find_path(TREADLE_CUDA_INCLUDE_DIR crt/host_config.h HINTS ${wheels} ENV CUDA_HOME ENV CUDA_PATH
            PATHS /usr/local/cuda PATH_SUFFIXES include)
  find_path(TREADLE_NCCL_INCLUDE_DIR nccl.h HINTS ${wheels} ENV NCCL_HOME ENV NCCL_ROOT
            PATHS ${TREADLE_CUDA_INCLUDE_DIR} PATH_SUFFIXES include)
  mark_as_advanced(TREADLE_CUDA_INCLUDE_DIR TREADLE_NCCL_INCLUDE_DIR)
  set(includes ${wheels})
  foreach(folder TREADLE_CUDA_INCLUDE_DIR TREADLE_NCCL_INCLUDE_DIR)
    if(${folder})
      list(APPEND includes "${${folder}}")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES includes)

  set(CMAKE_CXX_STANDARD 20)
  set(CMAKE_REQUIRED_LIBRARIES LibTorch::torch)
  set(CMAKE_REQUIRED_INCLUDES ${includes})
  set(CMAKE_REQUIRED_DEFINITIONS -DUSE_DISTRIBUTED -DUSE_C10D_GLOO -DUSE_C10D_NCCL)
  check_cxx_source_compiles("
    #include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
    int main() { return c10d::ProcessGroupNCCL::Options::create() ? 0 : 1; }" TREADLE_HAS_NCCL)
  if(TREADLE_HAS_NCCL)
    set(TREADLE_NCCL_INCLUDES "${includes}" PARENT_SCOPE)
  else()
    message(STATUS "The headers of CUDA or NCCL were not found, so gradients on GPUs will travel over Gloo, which is slower. "
                   "TREADLE_CUDA_INCLUDE_DIR (crt/host_config.h) and TREADLE_NCCL_INCLUDE_DIR (nccl.h) say where they are.")
  endif()
endfunction()

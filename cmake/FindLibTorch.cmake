# Finds the headers and libraries of a LibTorch 2.x, CPU or CUDA flavour, without its own CMake package: that package demands
# a CUDA toolkit when the flavour is a CUDA one, and nothing here needs one.
#
# Looks in TORCH_PREFIX (a folder that holds include/ and lib/: an unpacked libtorch, or site-packages/torch of a wheel; its
# first value comes from the environment), and when that is empty in the project's .venv. Defines the target LibTorch::torch,
# LibTorch_VERSION and LibTorch_PREFIX. Refuses a LibTorch that was built with the pre-C++11 ABI: it compiles, but nothing that
# passes a string links.

# A variable that is in no cache is the caller's own: treadle-config.cmake decides anew each time.
if(DEFINED CACHE{TORCH_PREFIX} OR NOT DEFINED TORCH_PREFIX)
  set(TORCH_PREFIX "$ENV{TORCH_PREFIX}" CACHE PATH "folder of a LibTorch 2.x (holds include/ and lib/); empty for that of .venv")
endif()

if(TORCH_PREFIX)
  set(_torch_hints "${TORCH_PREFIX}")
else()
  file(GLOB _torch_hints "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
endif()

# Another folder than the last time, or one that has gone: what was found there is void.
if(NOT "${_torch_hints}" STREQUAL "${LibTorch_SEARCHED}" OR NOT EXISTS "${LibTorch_INCLUDE_DIR}")
  unset(LibTorch_INCLUDE_DIR CACHE)
  foreach(_lib torch torch_cpu c10 torch_cuda c10_cuda)
    unset(LibTorch_${_lib}_LIBRARY CACHE)
  endforeach()
  set(LibTorch_SEARCHED "${_torch_hints}" CACHE INTERNAL "where LibTorch was looked for")
endif()

find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h HINTS ${_torch_hints} PATH_SUFFIXES include
          NO_DEFAULT_PATH)
foreach(_lib torch torch_cpu c10 torch_cuda c10_cuda)
  find_library(LibTorch_${_lib}_LIBRARY ${_lib} HINTS ${_torch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  mark_as_advanced(LibTorch_${_lib}_LIBRARY)
endforeach()
mark_as_advanced(LibTorch_INCLUDE_DIR)

string(REPLACE ";" ", " _torch_where "${_torch_hints}")
set(_torch_reason "searched in \"${_torch_where}\": run make setup, or set TORCH_PREFIX to a folder with include/ and lib/")
unset(LibTorch_VERSION)
if(LibTorch_INCLUDE_DIR)
  foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/${_header}" AND NOT LibTorch_VERSION)
      file(STRINGS "${LibTorch_INCLUDE_DIR}/${_header}" _lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
      string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
      string(REPLACE ";" "." LibTorch_VERSION "${_numbers}")
    endif()
  endforeach()
  get_filename_component(LibTorch_PREFIX "${LibTorch_INCLUDE_DIR}" DIRECTORY)
  if(LibTorch_FIND_VERSION AND LibTorch_VERSION VERSION_LESS LibTorch_FIND_VERSION)
    set(_torch_reason "the LibTorch in \"${LibTorch_PREFIX}\" is too old: take version ${LibTorch_FIND_VERSION} or newer")
  endif()
endif()

# The names of the symbols tell the ABI: c10::Error takes a std::string, which is std::__cxx11::basic_string since C++11.
set(LibTorch_CXX11_ABI TRUE)
if(LibTorch_c10_LIBRARY)
  file(STRINGS "${LibTorch_c10_LIBRARY}" _symbols REGEX "^_ZN3c105ErrorC[12]E.*St7__cxx11" LIMIT_COUNT 1)
  if(NOT _symbols)
    set(LibTorch_CXX11_ABI FALSE)
    set(_torch_reason "the LibTorch in \"${LibTorch_PREFIX}\" was built with the pre-C++11 ABI: take the \"cxx11 ABI\" archive, or a wheel of torch 2.7 or newer")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_LIBRARY LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR LibTorch_CXX11_ABI
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${_torch_reason}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  add_library(LibTorch::torch INTERFACE IMPORTED)
  target_include_directories(LibTorch::torch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(LibTorch::torch INTERFACE
    "${LibTorch_torch_LIBRARY}" "${LibTorch_torch_cpu_LIBRARY}" "${LibTorch_c10_LIBRARY}")
  foreach(_lib torch_cuda c10_cuda)
    if(LibTorch_${_lib}_LIBRARY)
      # Nothing refers to a symbol of the CUDA libraries, yet loading them is what registers the device.
      target_link_options(LibTorch::torch INTERFACE
        "LINKER:--no-as-needed,${LibTorch_${_lib}_LIBRARY},--as-needed")
    endif()
  endforeach()
endif()
